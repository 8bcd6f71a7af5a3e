/** Panels of which one is shown; arrow keys move between their tabs. */
import { make } from "./dom.js";

export class Tabs {
  /** @param {[string, HTMLElement][]} panels @param {(name: string) => void} shown */
  constructor(panels, shown) {
    this.names = panels.map(([name]) => name);
    this.panels = panels.map(([name, content]) =>
      make("div.panel", { role: "tabpanel", id: `panel-${idOf(name)}`, "aria-labelledby": `tab-${idOf(name)}`, tabindex: 0 }, content),
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
    this.current = "";
    this.element = make("section.card.tabs", { "aria-label": "More" }, make("div.tablist", { role: "tablist", "aria-label": "About this layer" }, this.buttons), this.panels);
    this.choose(0);
  }

  /** @param {number} index */
  choose(index) {
    this.current = this.names[index];
    this.buttons.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === index));
      tab.tabIndex = i === index ? 0 : -1;
      this.panels[i].hidden = i !== index;
    });
    this.shown(this.current);
    return this.buttons[index];
  }
}

/** @param {string} name */
function idOf(name) {
  return name.toLowerCase().replace(/\W+/g, "-");
}
