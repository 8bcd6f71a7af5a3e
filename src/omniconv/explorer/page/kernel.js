/** The kernel of the chosen value: its weights as numbers, edited in place, and how nearly it is a product of two. */
import { product, range } from "./integers.js";
import { button, fill, formatNumber, make, segmented } from "./dom.js";
import { numberBox } from "./controls.js";
import { afterPaint } from "./later.js";
import { PRESETS, learnedFilters, learnedSizes, presetValues } from "./presets.js";
import { readTheme, valueColour } from "./scene.js";
import { splitKernel } from "./separable.js";

/** @import {Conv} from "./spec.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Stage} from "./stage.js" */

const MOST_WEIGHTS = 75;
/** Weights of one kernel that have boxes; of a larger one, too, what is told of it comes after the picture. */
const MOST_BOXES = 343;

/** What a brush adds to a weight, where nothing else is written. */
const STROKE = 0.5;

export class KernelCard {
  /** @param {Stage} stage @param {(number: number, own: number) => void} changed is told the convolution and its channel */
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
    this.turn = 0;
    this.learned = 0;
    /** What a stroke does to a weight: 0 nothing, since weights are typed. */
    this.brush = 0;
    this.stroke = STROKE;
    /** Weights that the stroke at hand has met. @type {Set<string | undefined>} */
    this.met = new Set();
    this.body = make("div.kernel-body", {
      pointerdown: (/** @type {PointerEvent} */ event) => this.startStroke(event),
      pointermove: (/** @type {PointerEvent} */ event) => this.paintAt(event),
      pointerup: () => this.met.clear(),
      pointercancel: () => this.met.clear(),
      keydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
    });
    this.note = make("div.note", { "aria-live": "polite" });
    this.told = make("p.small", { role: "status" });
    this.learnedButton = button("learned", () => this.applyLearned());
    this.presets = make(
      "div.presets",
      { role: "group", "aria-label": "Preset kernels" },
      Object.keys(PRESETS).map((name) => button(name, () => this.apply(name))),
      this.learnedButton,
    );
    this.tools = make(
      "div.brush",
      null,
      segmented("Pointer", [["0", "types"], ["1", "raises"], ["-1", "lowers"]], "0", (word) => {
        this.brush = Number(word);
        this.body.classList.toggle("painted", this.brush !== 0);
      }),
      make("label.small", null, "by ", numberBox("how much a stroke adds", STROKE, (value) => {
        this.stroke = typeof value === "number" ? Math.abs(value) : STROKE;
      }, { step: "any" })),
      make("p.small", null, "Drag over weights; with the keyboard, arrows up and down do the same."),
    );
    this.element = make("section.card.kernel", { "aria-label": "Kernel" }, make("h2", null, "Kernel"), this.body, this.presets, this.told, this.note, this.tools);
  }

  /** A stroke begins at a weight; its box is not entered. @param {PointerEvent} event */
  startStroke(event) {
    if (!this.brush || !(event.target instanceof HTMLInputElement)) return;
    event.preventDefault();
    this.met.clear();
    this.paint(event.target, this.brush * this.stroke);
  }

  /** Touch keeps its first target, so that the box is sought where the pointer is. @param {PointerEvent} event */
  paintAt(event) {
    if (!this.brush || !this.met.size || !event.buttons) return;
    const box = document.elementFromPoint(event.clientX, event.clientY);
    if (box instanceof HTMLInputElement && !this.met.has(box.dataset.weight)) this.paint(box, this.brush * this.stroke);
  }

  /** Arrow keys raise and lower the weight in focus. @param {KeyboardEvent} event */
  press(event) {
    const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!by || !(event.target instanceof HTMLInputElement)) return;
    event.preventDefault();
    this.paint(event.target, by * this.stroke);
  }

  /** Add to a weight by its box. @param {HTMLInputElement} box @param {number} by */
  paint(box, by) {
    if (!box.dataset.weight || !this.body.contains(box)) return;
    this.met.add(box.dataset.weight);
    box.value = String(Math.round((Number(box.value) + by) * 1000) / 1000);
    box.dispatchEvent(new Event("input"));
  }

  /** Show the weights that make the chosen value. @param {Layer} layer @param {boolean} [again] */
  show(layer, again = false) {
    const { view } = this.stage;
    if (!view) return;
    const found = view.source();
    const { conv, number } = found ?? firstSource(layer);
    const own = found ? view.choice.channel - found.part.firstOut : 0;
    const row = this.row(conv, own);
    const terms = found ? view.terms() : [];
    const used = new Set(terms.map((term) => term.weight));
    const key = [number, row.join(), conv.kernel_size.join(), layer.weights[number].w.length].join("|");
    const { w } = layer.weights[number];
    this.layer = layer;
    if (again || key !== this.key || w !== this.held) {
      if (!again) this.told.textContent = "";
      this.held = w; // while somebody types, the boxes stay
      this.key = key;
      this.build(layer, conv, number, own, row);
    }
    this.body.querySelectorAll("input").forEach((input) => {
      input.classList.toggle("used", used.has(Number(input.dataset.weight)));
    });
    this.colour(w);
    this.markSpot();
    this.describe(conv, w, row);
  }

  /** Colours of the boxes, as those of values in the picture. @param {Float64Array} w */
  colour(w) {
    const theme = readTheme();
    const boxes = [...this.body.querySelectorAll("input")];
    const most = boxes.reduce((found, box) => Math.max(found, Math.abs(w[Number(box.dataset.weight)])), 0);
    for (const box of boxes) {
      const { fill: back, ink } = valueColour(most ? w[Number(box.dataset.weight)] / most : 0, theme);
      [box.style.background, box.style.color] = [back, ink];
    }
  }

  /** Frame the box of the weight whose product is framed. */
  markSpot() {
    const spot = this.stage.view?.spot ?? null;
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

  /** @param {Layer} layer @param {Conv} conv @param {number} number @param {number} own the channel @param {number[]} row */
  build(layer, conv, number, own, row) {
    const volume = product(conv.kernel_size);
    const across = conv.kernel_size[conv.kernel_size.length - 1];
    const { w } = layer.weights[number];
    this.current = { conv, number, own, row };
    this.stage.frameProduct(null);
    const shown = row.slice(0, Math.max(1, Math.floor(MOST_WEIGHTS / volume)));
    const grids = shown.map((start, j) => {
      const boxes = range(Math.min(volume, MOST_BOXES)).map((t) => {
        const place = conv.kernel_size.reduceRight((/** @type {{rest: number, at: number[]}} */ { rest, at }, size) => ({ rest: Math.floor(rest / size), at: [rest % size, ...at] }), { rest: t, at: [] });
        return numberBox(`weight ${place.at.join(", ")} of input channel ${j}`, Math.round(w[start + t] * 1000) / 1000, (value) => {
          if (typeof value !== "number") return;
          w[start + t] = value;
          this.changed(number, own);
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
    this.seed += 1;
    this.put((sizes, j) => presetValues(name, sizes, this.seed * 31 + j), "");
  }

  /** The next filter of the trained network; of several input channels each gets one. */
  applyLearned() {
    const filters = learnedFilters(this.current?.conv.kernel_size ?? []);
    const first = this.learned++ % filters.length;
    this.put((sizes, j) => {
      const filter = filters[(first + j) % filters.length];
      return Float64Array.from({ length: product(sizes) }, (_, i) => filter[i % filter.length]);
    }, `Filter ${first + 1} of ${filters.length} that a small network learned from handwritten digits.`);
  }

  /** Other values for the kernels of the chosen channel. @param {(sizes: number[], j: number) => Float64Array} values @param {string} told */
  put(values, told) {
    if (!this.current || !this.layer) return;
    const { conv, number, own, row } = this.current;
    const { w } = this.layer.weights[number];
    row.forEach((start, j) => w.set(values(conv.kernel_size, j), start));
    this.told.textContent = told;
    this.changed(number, own);
    this.show(this.layer, true);
  }

  /** @param {Conv} conv @param {Float64Array} w @param {number[]} row */
  describe(conv, w, row) {
    const { kernel_size: sizes } = conv;
    const some = learnedFilters(sizes).length > 0;
    this.learnedButton.toggleAttribute("disabled", !some);
    this.learnedButton.title = some ? "" : `there are learned filters of ${learnedSizes()}`;
    const turn = ++this.turn;
    if (sizes.length !== 2 || Math.min(...sizes) < 2) fill(this.note);
    else if (product(sizes) <= MOST_BOXES) this.describeRank(sizes, w, row);
    else afterPaint().then(() => turn === this.turn && this.describeRank(sizes, w, row));
  }

  /** How nearly the first kernel is a column times a row. @param {number[]} sizes @param {Float64Array} w @param {number[]} row */
  describeRank([high, wide], w, row) {
    const { energy, rank, column, row: across, singular } = splitKernel(w.subarray(row[0], row[0] + high * wide), high, wide);
    const share = formatNumber(Math.floor(energy * 1000) / 10);
    // The larger factor is shared out, so that both are numbers of the same kind.
    const scale = Math.sqrt(singular[0] || 1);
    const [down, along] = [column.map((value) => value / scale), across.map((value) => value * scale)];
    const best = Float64Array.from({ length: high * wide }, (_, i) => Math.round(1e12 * down[Math.floor(i / wide)] * along[i % wide]) / 1e12);
    /** @param {number[]} numbers */
    const list = (numbers) => numbers.map(formatNumber).join("  ");
    fill(
      this.note,
      make("p", null, rank <= 1
        ? `Rank ${rank}: this kernel is exactly a column times a row, so two passes of ${high} and ${wide} taps do the same.`
        : `Rank ${rank}: no column times a row is this kernel; the best one holds ${share} % of its energy.`),
      rank ? make("p.small", null, `column  ${list(down)}`) : null,
      rank ? make("p.small", null, `row  ${list(along)}`) : null,
      rank > 1 ? button("Use the best column × row", () => this.put((_, j) => (j ? w.slice(row[j], row[j] + high * wide) : best), "")) : null,
    );
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
