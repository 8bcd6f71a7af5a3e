/** A picture with its words, and the numbers in it as a table. */
import { fill, make, table } from "./dom.js";
import { paintScene, readTheme } from "./scene.js";

/** @import {Child} from "./dom.js" */
/** @import {Scene, Theme} from "./scene.js" */

export class Figure {
  /** @param {string} title */
  constructor(title) {
    this.canvas = /** @type {HTMLCanvasElement} */ (make("canvas", { role: "img" }));
    this.text = make("div.figure-text");
    this.rows = make("div.scroll", { tabindex: 0, role: "region", "aria-label": `${title} as a table` });
    this.details = /** @type {HTMLDetailsElement} */ (make("details", { toggle: () => this.tabulate() }, make("summary", null, "As a table"), this.rows));
    this.picture = make("div.scroll", { tabindex: 0, role: "region", "aria-label": `${title}, picture` }, this.canvas);
    this.element = make("section.figure", { "aria-label": title }, make("h3", null, title), this.picture, this.text, this.details);
    /** @type {() => {heads: string[], rows: string[][], caption: string}} */
    this.numbers = () => ({ heads: [], rows: [], caption: "" });
  }

  /**
   * @param {(theme: Theme) => Scene} draw
   * @param {(Child | Child[])[]} words
   * @param {() => {heads: string[], rows: string[][], caption: string}} numbers
   */
  show(draw, words, numbers) {
    const theme = readTheme();
    const scene = draw(theme);
    paintScene(this.canvas, scene, theme);
    this.canvas.setAttribute("aria-label", scene.title);
    fill(this.text, ...words);
    this.numbers = numbers;
    this.element.hidden = false;
    this.tabulate();
  }

  tabulate() {
    if (!this.details.open) return;
    const { heads, rows, caption } = this.numbers();
    fill(this.rows, table(heads, rows, caption));
  }
}
