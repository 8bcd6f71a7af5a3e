/** Panels of which one is shown; arrow keys move between their tabs. */
import { make } from "./dom.js";

export class Tabs {
  /** @param {[string, () => HTMLElement][]} panels what is in each, made when it is first chosen @param {(name: string) => void} shown */
  constructor(panels, shown) {
    this.names = panels.map(([name]) => name);
    this.contents = panels.map(([, content]) => content);
    this.panels = this.names.map((name) =>
      make("div.panel", { role: "tabpanel", id: `panel-${idOf(name)}`, "aria-labelledby": `tab-${idOf(name)}`, tabindex: 0 }),
    );
    /** @type {HTMLElement[]} */
    this.buttons = this.names.map((name, i) =>
      make(
        "button",
        {
          type: "button", role: "tab", id: `tab-${idOf(name)}`, "aria-controls": `panel-${idOf(name)}`,
          click: () => this.choose(i),
          keydown: (/** @type {KeyboardEvent} */ event) => {
            const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            if (by) this.choose((i + by + this.names.length) % this.names.length).focus();
          },
        },
        name,
      ),
    );
    this.shown = shown;
    this.index = 0;
    this.element = make("section.card.tabs", { "aria-label": "More" }, make("div.tablist", { role: "tablist", "aria-label": "About this layer" }, this.buttons), this.panels);
    this.mark(0);
  }

  get current() {
    return this.names[this.index];
  }

  /** @param {number} index */
  choose(index) {
    this.mark(index);
    this.open();
    return this.buttons[index];
  }

  /** Show what is in the chosen panel. */
  open() {
    const panel = this.panels[this.index];
    if (!panel.firstChild) panel.append(this.contents[this.index]());
    this.shown(this.current);
  }

  /** @param {number} index */
  mark(index) {
    this.index = index;
    this.buttons.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
      this.panels[i].hidden = i !== index;
    });
  }
}

/** @param {string} name */
function idOf(name) {
  return name.toLowerCase().replace(/\W+/g, "-");
}
