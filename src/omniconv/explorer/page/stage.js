/** The picture of a layer: all its tensors, what the chosen value reads and feeds, the kernel that slides. */
import { button, fill, make } from "./dom.js";
import { formatSpec } from "./format.js";
import { hitGrid } from "./grid.js";
import { drawView } from "./picture.js";
import { Products } from "./products.js";
import { paintSlices, readTheme } from "./scene.js";
import { listTables } from "./tables.js";
import { View } from "./view.js";

/** @import {Grid} from "./grid.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Scene} from "./scene.js" */
/** @import {Choice} from "./view.js" */

export class Stage {
  /** @param {{announce: (text: string) => void}} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Layer | null} */
    this.layer = null;
    /** @type {View | null} */
    this.view = null;
    /** @type {Grid[]} */
    this.grids = [];
    /** @type {Scene} */
    this.scene = { width: 1, height: 1, shapes: [], title: "" };
    this.timer = 0;
    this.frameAsked = 0;
    this.painting = false;
    /** Whether the picture that is painted is not the last that was asked for. */
    this.stale = false;
    /** Called whenever another product is framed. */
    this.spotted = () => {};
    /** Called whenever another value is chosen. */
    this.chosen = () => {};
    this.canvas = /** @type {HTMLCanvasElement} */ (
      make("canvas", {
        tabindex: 0,
        role: "application",
        "aria-roledescription": "picture of a layer",
        "aria-describedby": "stage-keys stage-help",
        keydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
        pointermove: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && this.point(event),
        pointerdown: (/** @type {PointerEvent} */ event) => this.point(event),
      })
    );
    this.playButton = button("Play", () => this.toggle(), { "aria-pressed": "false", class: "primary" });
    this.where = make("output.where", { "aria-live": "off" });
    this.products = new Products((weight) => this.spotListeners(weight));
    this.tables = make("div.tables");
    this.details = /** @type {HTMLDetailsElement} */ (
      make("details", { toggle: () => this.showTables() }, make("summary", null, "The same as tables"), this.tables)
    );
    this.element = make(
      "section.card.stage",
      { "aria-label": "See" },
      make(
        "div.bar",
        null,
        this.playButton,
        button("Step back", () => this.walk(-1), { "aria-label": "Step back" }),
        button("Step", () => this.walk(1), { "aria-label": "Step forward" }),
        this.where,
      ),
      make("div.scroll", { tabindex: 0, role: "region", "aria-label": "Picture, scrolls where it is wide" }, this.canvas),
      make(
        "p.legend",
        { id: "stage-keys" },
        make("span.key.chosen", null, "chosen"),
        make("span.key.read", null, "is read"),
        make("span.key.fed", null, "is fed"),
        make("span.key.pad", null, "padding"),
        make("span.key.met", null, "belongs to the weight or product in focus"),
      ),
      make(
        "p.legend",
        { id: "stage-help" },
        "Point at any value, or use the arrow keys; in 3-D, Shift with up and down changes the depth. Page Up and Page Down change the channel, comma and full stop the tensor, space plays.",
      ),
      this.products.element,
      this.details,
    );
    this.drawnWidth = 0;
    new ResizeObserver(() => this.element.clientWidth !== this.drawnWidth && this.draw()).observe(this.element);
  }

  /** @param {Layer} layer */
  show(layer) {
    const steps = layer.plans.length;
    const fresh = !this.layer || this.layer.setting.kind !== layer.setting.kind || this.layer.plans.length !== steps;
    const other = !this.layer || formatSpec(this.layer.spec, this.layer.shape) !== formatSpec(layer.spec, layer.shape);
    this.layer = layer;
    this.choose(fresh || !this.view ? View.middleOf(layer) : this.view.choice);
    // A hole reads nothing and shows nothing of the layer: of a new setting another value is shown first.
    if (other && this.view?.isHole()) this.choose(this.view.nearestReached());
    this.showTables();
  }

  /** Choose a value; what lies outside is moved to the nearest that is there. @param {Choice} choice */
  choose(choice) {
    if (!this.layer) return;
    const spot = this.view?.spot ?? null;
    this.view = new View(this.layer, choice, this.view);
    this.view.spot = this.products.holds() ? null : spot; // a term that is framed goes with its value
    this.askDraw();
    this.where.textContent = this.view.describe();
    this.products.show(this.view);
    this.chosen();
  }

  /** Draw once before the next picture of the screen, however often it is asked. */
  askDraw() {
    cancelAnimationFrame(this.frameAsked);
    this.frameAsked = requestAnimationFrame(() => this.draw());
  }

  /** Frame the product of one weight in the chosen value: its input, its term, its box. @param {number | null} weight */
  frameProduct(weight) {
    if (!this.view || weight === this.view.spot) return;
    this.view.spot = weight;
    this.products.mark(weight);
    this.askDraw();
    this.spotted();
  }

  /** Listeners of what stands for a weight: while it has focus or the pointer, its product is framed. @param {number} weight */
  spotListeners(weight) {
    const enter = () => this.frameProduct(weight);
    const leave = () => {
      const held = document.activeElement;
      this.frameProduct(held instanceof HTMLElement && held.dataset.weight ? Number(held.dataset.weight) : null);
    };
    return { focus: enter, blur: leave, pointerenter: enter, pointerleave: leave };
  }

  /** How wide the picture may be. */
  space() {
    return Math.max(260, this.element.clientWidth - 42);
  }

  /** One picture after the other: what is asked for while one is painted is drawn after it. */
  draw() {
    if (!this.view) return;
    this.stale = this.painting;
    if (this.painting) return;
    const theme = readTheme();
    this.drawnWidth = this.element.clientWidth;
    const { scene, grids } = drawView(this.view, this.space(), theme);
    [this.scene, this.grids] = [scene, grids];
    this.painting = true;
    paintSlices(this.canvas, scene, theme, () => {
      this.painting = false;
      this.canvas.setAttribute("aria-label", scene.title);
      if (this.stale) this.askDraw();
    });
  }

  showTables() {
    if (this.view && this.details.open) fill(this.tables, ...listTables(this.view));
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    for (const [tensor, grid] of this.grids.entries()) {
      const hit = hitGrid(grid, x, y);
      if (!hit) continue;
      const chosen = this.view?.choice;
      if (tensor !== chosen?.tensor || hit.channel !== chosen.channel || hit.place.join() !== chosen.place.join()) {
        this.pause();
        this.choose({ tensor, ...hit });
      }
      return;
    }
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (!this.view) return;
    const { tensor, channel, place } = this.view.choice;
    const [d, h, w] = place;
    /** @type {Record<string, Choice>} */
    const moves = {
      ArrowLeft: { tensor, channel, place: [d, h, w - 1] },
      ArrowRight: { tensor, channel, place: [d, h, w + 1] },
      ArrowUp: { tensor, channel, place: event.shiftKey ? [d - 1, h, w] : [d, h - 1, w] },
      ArrowDown: { tensor, channel, place: event.shiftKey ? [d + 1, h, w] : [d, h + 1, w] },
      PageUp: { tensor, channel: channel - 1, place },
      PageDown: { tensor, channel: channel + 1, place },
      Home: { tensor, channel, place: [0, 0, 0] },
      End: { tensor, channel, place: [1e9, 1e9, 1e9] },
      ",": { tensor: tensor - 1, channel, place },
      ".": { tensor: tensor + 1, channel, place },
    };
    if (event.key === " ") this.toggle();
    else if (Object.hasOwn(moves, event.key)) {
      this.pause();
      this.choose(moves[event.key]);
      this.hooks.announce(this.view.describe());
    } else return;
    event.preventDefault();
  }

  /** To the next value of the tensor, around at its end. @param {number} by */
  walk(by) {
    if (this.view) this.choose(this.view.next(by));
  }

  toggle() {
    if (this.timer) this.pause();
    else {
      this.playOn();
      this.playButton.textContent = "Pause";
      this.playButton.setAttribute("aria-pressed", "true");
    }
  }

  /** The next step after a while, counted from when the one before is done. */
  playOn() {
    const slow = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.timer = window.setTimeout(() => {
      this.walk(1);
      if (this.timer) this.playOn();
    }, slow ? 1600 : 450);
  }

  pause() {
    window.clearTimeout(this.timer);
    this.timer = 0;
    this.playButton.textContent = "Play";
    this.playButton.setAttribute("aria-pressed", "false");
  }
}
