/** The checkerboard laboratory: three ways to enlarge the same input, and how uneven each leaves it. */
import { range } from "./integers.js";
import { buildKind } from "./kinds.js";
import { convsOf, inChannels, shapesOf } from "./chain.js";
import { freeOfBorder } from "./overlap.js";
import { planSpec } from "./plan.js";
import { product } from "./integers.js";
import { randomNumbers, runPlans } from "./evaluate.js";
import { weightShape } from "./spec.js";
import { fill, formatNumber, make, segmented } from "./dom.js";
import { Figure } from "./figure.js";
import { asInput, drawPicture } from "./pictures.js";
import { mapScene } from "./know.js";

/** @import {Spec} from "./chain.js" */

const SIZE = 6;
/** Of a picture, which needs more positions to be known. */
const PICTURE_SIZE = 20;

/** The three layers. @param {number} kernel @param {number} stride @returns {[string, Spec][]} */
export function enlargers(kernel, stride) {
  const base = { in_channels: 1, out_channels: 1, dims: 2 };
  const odd = kernel | 1;
  return [
    [`transposed ${kernel}×${kernel}`, buildKind("transposed", { ...base, kernel_size: kernel, stride })],
    [`resize, then ${odd}×${odd}`, buildKind("resize_conv", { ...base, kernel_size: odd, factor: stride, padding: "same" })],
    [`sub-pixel ${odd}×${odd}`, buildKind("sub_pixel", { ...base, kernel_size: odd, factor: stride, padding: "same" })],
  ];
}

/**
 * Weights of one value, random ones, or random ones that all sub-positions of a pixel share (ICNR).
 * @param {Spec} spec
 * @param {string} how
 */
function weightsFor(spec, how) {
  const next = randomNumbers(5);
  return convsOf(spec).map((conv) => {
    const size = product(weightShape(conv));
    const own = how === "icnr" && spec.type === "chain" ? size / conv.out_channels : size;
    const drawn = Float64Array.from({ length: own }, () => (how === "equal" ? 1 : next()));
    return { w: Float64Array.from({ length: size }, (_, i) => drawn[i % own]), b: null };
  });
}

/**
 * What a layer makes of an input, and the levels and the spread of what it makes of a flat one, away from the border.
 * @param {Spec} spec
 * @param {string} how
 * @param {string} what flat, disc or picture
 */
export function enlargeInput(spec, how, what) {
  const size = what === "picture" ? PICTURE_SIZE : SIZE;
  const shape = [1, inChannels(spec), size, size];
  const plans = planSpec(spec, shape);
  const x = what === "picture" ? asInput(drawPicture("shapes", size), 1) : drawDisc(size, what === "flat");
  const weights = weightsFor(spec, how);
  const [image, even] = [x, drawDisc(size, true)].map((given) => runPlans(plans, given, weights)[plans.length]);
  const free = freeOfBorder(plans);
  const inner = [...even].filter((_, i) => free[i]);
  const levels = [...new Set(inner.map((value) => Math.round(value * 1e6) / 1e6))].sort((a, b) => a - b);
  const shapes = shapesOf(spec, shape);
  const sizes = [1, ...shapes[shapes.length - 1].slice(2)];
  return { image, sizes, levels, spread: inner.length ? Math.max(...inner) / Math.min(...inner) : NaN };
}

/** @param {number} size @param {boolean} flat */
function drawDisc(size, flat) {
  const middle = (size - 1) / 2;
  return Float64Array.from({ length: size * size }, (_, i) => (flat || Math.hypot(Math.floor(i / size) - middle, (i % size) - middle) < 2.2 ? 1 : 0.2));
}

export class Checkerboard {
  constructor() {
    this.kernel = 3;
    this.stride = 2;
    this.weights = "equal";
    this.input = "flat";
    this.figures = range(3).map((i) => new Figure(["Transposed", "Resize, then convolve", "Sub-pixel"][i]));
    this.verdict = make("p.result", { "aria-live": "polite" });
    /** @param {"kernel" | "stride"} name @returns {(value: string) => void} */
    const number = (name) => (value) => {
      this[name] = Number(value);
      this.show();
    };
    /** @param {"weights" | "input"} name @returns {(value: string) => void} */
    const word = (name) => (value) => {
      this[name] = value;
      this.show();
    };
    this.element = make(
      "div",
      null,
      make("p", null, "The same input, enlarged in three ways. A flat input should stay flat: where it does not, the layer itself draws a pattern."),
      make(
        "div.choices",
        null,
        segmented("Kernel", ["2", "3", "4", "5", "6"].map((k) => [k, `${k}×${k}`]), "3", number("kernel")),
        segmented("Stride", ["2", "3"].map((s) => [s, s]), "2", number("stride")),
        segmented("Weights", [["equal", "all 1"], ["random", "random"], ["icnr", "random, ICNR"]], "equal", word("weights")),
        segmented("Input", [["flat", "flat"], ["disc", "a disc"], ["picture", "a picture"]], "flat", word("input")),
      ),
      make("div.figures.three", null, this.figures.map((figure) => figure.element)),
      this.verdict,
    );
  }

  show() {
    const words = enlargers(this.kernel, this.stride).map(([name, spec], i) => {
      const { image, sizes, levels, spread } = enlargeInput(spec, this.weights, this.input);
      const shown = levels.length && levels.length <= 9 ? levels.map(formatNumber).join(" : ") : `${levels.length} levels`;
      const flat = this.input === "flat";
      const text = Number.isNaN(spread) ? "every output sees the border" : `largest over smallest: ${formatNumber(spread)}`;
      this.figures[i].show(
        (theme) => mapScene(image, sizes, `${name}: ${text}`, theme, { room: 250 }),
        [make("p", null, name), make("p.result", null, flat ? "" : "a flat input: ", make("b", null, shown), ` — ${text}`)],
        () => ({
          heads: ["row", ...range(sizes[2]).map((w) => `column ${w}`)],
          rows: range(sizes[1]).map((h) => [String(h), ...range(sizes[2]).map((w) => formatNumber(image[h * sizes[2] + w]))]),
          caption: name,
        }),
      );
      return spread;
    });
    const even = this.kernel % this.stride === 0;
    fill(
      this.verdict,
      this.weights === "equal"
        ? `${this.kernel}×${this.kernel} with stride ${this.stride}: the stride ${even ? "divides the kernel, and the output is even" : `does not divide the kernel, and outputs differ by ${formatNumber(words[0])} to 1`}.`
        : "With random weights a transposed and a sub-pixel layer start uneven in any case; ICNR starts the sub-pixel layer even.",
    );
  }
}
