/** The kernel of the chosen value: its weights as numbers, edited in place, and how nearly it is a product of two. */
import { product, range } from "./integers.js";
import { button, fill, formatNumber, make } from "./dom.js";
import { numberBox } from "./controls.js";
import { randomNumbers } from "./evaluate.js";
import { splitKernel } from "./separable.js";

/** @import {Conv} from "./spec.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Stage} from "./stage.js" */

const MOST_WEIGHTS = 75;

/**
 * Kernels by name, for any two sizes: positions from -1 to 1 across the kernel.
 * @type {Record<string, (y: number, x: number, count: number, next: () => number) => number>}
 */
export const PRESETS = {
  blur: (_y, _x, count) => 1 / count,
  edge: (_y, x) => x,
  sharpen: (y, x, count) => (y === 0 && x === 0 ? 2 - 1 / count : -1 / count),
  emboss: (y, x) => (y === 0 && x === 0 ? 1 : y + x),
  "Gabor wave": (y, x) => Math.exp(-2 * (x * x + y * y)) * Math.cos(3.2 * (x + 0.6 * y)),
  random: (_y, _x, _count, next) => Math.round((next() * 2 - 1) * 100) / 100,
};

/** The values of a preset over a kernel. @param {string} name @param {number[]} sizes @param {number} seed */
export function presetValues(name, sizes, seed) {
  const [high, wide] = [sizes.length > 1 ? sizes[sizes.length - 2] : 1, sizes[sizes.length - 1]];
  const count = product(sizes);
  const next = randomNumbers(seed);
  /** @param {number} i @param {number} size */
  const centred = (i, size) => (size > 1 ? (2 * i) / (size - 1) - 1 : 0);
  return Float64Array.from({ length: count }, (_, i) => {
    const value = PRESETS[name](centred(Math.floor(i / wide) % high, high), centred(i % wide, wide), count, next);
    return Math.round(value * 1000) / 1000;
  });
}

export class KernelCard {
  /** @param {Stage} stage @param {() => void} changed */
  constructor(stage, changed) {
    this.stage = stage;
    this.changed = changed;
    stage.spotted = () => this.markSpot();
    this.key = "";
    /** @type {Layer | null} */
    this.layer = null;
    /** @type {Float64Array | null} */
    this.held = null;
    this.seed = 1;
    this.body = make("div.kernel-body");
    this.note = make("p.note", { "aria-live": "polite" });
    this.presets = make(
      "div.presets",
      { role: "group", "aria-label": "Preset kernels" },
      Object.keys(PRESETS).map((name) => button(name, () => this.apply(name))),
    );
    this.element = make("section.card.kernel", { "aria-label": "Kernel" }, make("h2", null, "Kernel"), this.body, this.presets, this.note);
  }

  /** Show the weights that make the chosen value. @param {Layer} layer @param {boolean} [again] */
  show(layer, again = false) {
    const { tensor, channel, place } = this.stage.choice;
    const found = this.stage.source();
    const { conv, number } = found ?? firstSource(layer);
    const row = this.row(conv, found ? channel - found.part.firstOut : 0);
    const terms = found ? this.stage.termsAt(layer.plans[tensor - 1], channel, place) : [];
    const used = new Set(terms.map((term) => term.weight));
    const key = [number, row.join(), conv.kernel_size.join(), layer.weights[number].w.length].join("|");
    const { w } = layer.weights[number];
    this.layer = layer;
    if (again || key !== this.key || w !== this.held) {
      this.held = w; // while somebody types, the boxes stay
      this.key = key;
      this.build(layer, conv, number, row);
    }
    this.body.querySelectorAll("input").forEach((input) => {
      input.classList.toggle("used", used.has(Number(input.dataset.weight)));
    });
    this.markSpot();
    this.describe(conv, w, row);
  }

  /** Frame the box of the weight whose product is framed. */
  markSpot() {
    const { spot } = this.stage;
    this.body.querySelectorAll("input").forEach((input) => {
      input.classList.toggle("met", spot !== null && input.classList.contains("used") && Number(input.dataset.weight) === spot);
    });
  }

  /** For each input channel of the group, where the kernel begins among the weights. @param {Conv} conv @param {number} own */
  row(conv, own) {
    const wide = conv.in_channels / conv.groups;
    const narrow = conv.out_channels / conv.groups;
    const volume = product(conv.kernel_size);
    const group = Math.floor(own / narrow);
    return range(wide).map((j) => volume * (conv.transposed ? (group * wide + j) * narrow + (own % narrow) : own * wide + j));
  }

  /** @param {Layer} layer @param {Conv} conv @param {number} number @param {number[]} row */
  build(layer, conv, number, row) {
    const volume = product(conv.kernel_size);
    const across = conv.kernel_size[conv.kernel_size.length - 1];
    const { w } = layer.weights[number];
    this.current = { conv, number, row };
    this.stage.frameProduct(null);
    const shown = row.slice(0, Math.max(1, Math.floor(MOST_WEIGHTS / volume)));
    const grids = shown.map((start, j) => {
      const boxes = range(Math.min(volume, 343)).map((t) => {
        const place = conv.kernel_size.reduceRight((/** @type {{rest: number, at: number[]}} */ { rest, at }, size) => ({ rest: Math.floor(rest / size), at: [rest % size, ...at] }), { rest: t, at: [] });
        return numberBox(`weight ${place.at.join(", ")} of input channel ${j}`, Math.round(w[start + t] * 1000) / 1000, (value) => {
          if (typeof value !== "number") return;
          w[start + t] = value;
          this.changed();
        }, { step: "any", "data-weight": start + t, ...this.stage.spotListeners(start + t) });
      });
      const grid = make("div.weights", null, boxes);
      grid.style.setProperty("--across", String(across));
      return make("div", null, row.length > 1 ? make("p.small", null, `input channel ${j} of the group`) : null, grid);
    });
    const more = row.length > shown.length ? make("p.small", null, `and ${row.length - shown.length} more channels`) : null;
    fill(this.body, make("div.grids", null, grids), more);
  }

  /** @param {string} name */
  apply(name) {
    if (!this.current || !this.layer) return;
    const { conv, number, row } = this.current;
    this.seed += 1;
    row.forEach((start, j) => this.layer?.weights[number].w.set(presetValues(name, conv.kernel_size, this.seed * 31 + j), start));
    this.changed();
    this.show(this.layer, true);
  }

  /** @param {Conv} conv @param {Float64Array} w @param {number[]} row */
  describe(conv, w, row) {
    const { kernel_size: sizes } = conv;
    if (sizes.length !== 2 || Math.min(...sizes) < 2) {
      this.note.textContent = "";
      return;
    }
    const { energy, rank } = splitKernel(w.subarray(row[0], row[0] + product(sizes)), sizes[0], sizes[1]);
    const share = formatNumber(Math.floor(energy * 1000) / 10);
    this.note.textContent =
      rank <= 1
        ? `Rank ${rank}: this kernel is exactly a column times a row, so two passes of ${sizes[0]} and ${sizes[1]} taps do the same.`
        : `Rank ${rank}: no column times a row is this kernel; the best one holds ${share} % of its energy.`;
  }
}

/** The first convolution of a layer. @param {Layer} layer */
function firstSource(layer) {
  for (const plan of layer.plans) {
    const part = plan.parts.find((each) => each.conv);
    if (part?.conv) return { conv: part.conv, number: 0 };
  }
  throw new Error("a layer without a convolution");
}
