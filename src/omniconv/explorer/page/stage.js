/** The picture of a layer: all its tensors, what the chosen value reads and feeds, the kernel that slides. */
import { product, range } from "./integers.js";
import { axisLetters } from "./format.js";
import { foldPlace } from "./geometry.js";
import { axesOf } from "./spec.js";
import { button, fill, formatNumber, make, table } from "./dom.js";
import { MOST_BLOCKS, drawGrid, hitGrid, layGrid } from "./grid.js";
import { paintScene, readTheme } from "./scene.js";
import { termsOf, traceBack, traceForward } from "./taps.js";
import { dilationWords, nameStep } from "./words.js";
import { isoShapes } from "./iso.js";

/** @import {Grid} from "./grid.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Plan} from "./plan.js" */
/** @import {Term} from "./taps.js" */
/** @import {Scene, Shape} from "./scene.js" */

/** @typedef {{tensor: number, channel: number, place: number[]}} Choice */

const HEAD = 56;
const GAP = 46;

export class Stage {
  /** @param {{announce: (text: string) => void}} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Layer | null} */
    this.layer = null;
    /** @type {Choice} */
    this.choice = { tensor: 1, channel: 0, place: [0, 0, 0] };
    /** @type {Uint8Array[]} */
    this.marks = [];
    /** @type {Grid[]} */
    this.grids = [];
    /** @type {Scene} */
    this.scene = { width: 1, height: 1, shapes: [], title: "" };
    this.timer = 0;
    this.frameAsked = 0;
    /** The weight whose product is framed. @type {number | null} */
    this.spot = null;
    /** Called whenever another product is framed. */
    this.spotted = () => {};
    /** Called whenever another value is chosen. */
    this.chosen = () => {};
    this.canvas = /** @type {HTMLCanvasElement} */ (
      make("canvas", {
        tabindex: 0,
        role: "application",
        "aria-roledescription": "picture of a layer",
        "aria-describedby": "stage-help",
        keydown: (/** @type {KeyboardEvent} */ event) => this.press(event),
        pointermove: (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && this.point(event),
        pointerdown: (/** @type {PointerEvent} */ event) => this.point(event),
      })
    );
    this.playButton = button("Play", () => this.toggle(), { "aria-pressed": "false", class: "primary" });
    this.where = make("output.where", { "aria-live": "off" });
    this.terms = make("div.terms", { tabindex: 0, role: "region", "aria-label": "Products of the chosen value" });
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
        { id: "stage-help" },
        make("span.key.chosen", null, "chosen"),
        make("span.key.read", null, "is read"),
        make("span.key.fed", null, "is fed"),
        make("span.key.pad", null, "padding"),
        make("span.key.met", null, "belongs to the weight or product in focus"),
        " Point at any value, or use the arrow keys; in 3-D, Shift with up and down changes the depth. Page Up and Page Down change the channel, comma and full stop the tensor, space plays.",
      ),
      this.terms,
      this.details,
    );
    this.drawnWidth = 0;
    new ResizeObserver(() => this.element.clientWidth !== this.drawnWidth && this.draw()).observe(this.element);
  }

  /** @param {Layer} layer */
  show(layer) {
    const steps = layer.plans.length;
    const fresh = !this.layer || this.layer.setting.kind !== layer.setting.kind || this.layer.plans.length !== steps;
    this.layer = layer;
    if (fresh) {
      const { sizesOut } = layer.plans[steps - 1];
      this.choice = { tensor: steps, channel: 0, place: sizesOut.map((size) => Math.floor((size - 1) / 2)) };
    }
    this.choose(this.choice);
    this.showTables();
  }

  /** Channels and sizes of a tensor. @param {number} tensor */
  extent(tensor) {
    const { plans } = /** @type {Layer} */ (this.layer);
    if (!tensor) return { channels: plans[0].channelsIn, sizes: plans[0].sizesIn };
    return { channels: plans[tensor - 1].channelsOut, sizes: plans[tensor - 1].sizesOut };
  }

  /** Choose a value; what lies outside is moved to the nearest that is there. @param {Choice} choice */
  choose(choice) {
    if (!this.layer) return;
    const { plans } = this.layer;
    const tensor = clampTo(choice.tensor, plans.length + 1);
    const { channels, sizes } = this.extent(tensor);
    const place = sizes.map((size, a) => clampTo(choice.place[a], size));
    this.choice = { tensor, channel: clampTo(choice.channel, channels), place };
    const chosen = new Uint8Array(channels * product(sizes));
    chosen[this.index(this.choice)] = 1;
    this.marks = [...traceBack(plans.slice(0, tensor), chosen), ...traceForward(plans.slice(tensor), chosen).slice(1)];
    this.askDraw();
    this.explain();
    this.chosen();
  }

  /** Draw once before the next picture of the screen, however often it is asked. */
  askDraw() {
    cancelAnimationFrame(this.frameAsked);
    this.frameAsked = requestAnimationFrame(() => this.draw());
  }

  /** Frame the product of one weight in the chosen value: its input, its term, its box. @param {number | null} weight */
  frameProduct(weight) {
    if (weight === this.spot) return;
    this.spot = weight;
    this.markTerms();
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

  markTerms() {
    for (const term of this.terms.querySelectorAll("[data-weight]")) {
      term.classList.toggle("met", Number(/** @type {HTMLElement} */ (term).dataset.weight) === this.spot);
    }
  }

  /** The product that is framed, if the chosen value has it. */
  spotTerm() {
    const { tensor, channel, place } = this.choice;
    if (this.spot === null || !this.source()) return null;
    const { plans } = /** @type {Layer} */ (this.layer);
    return this.termsAt(plans[tensor - 1], channel, place).find((term) => term.weight === this.spot) ?? null;
  }

  /** @param {Choice} choice */
  index({ tensor, channel, place }) {
    const { sizes } = this.extent(tensor);
    return ((channel * sizes[0] + place[0]) * sizes[1] + place[1]) * sizes[2] + place[2];
  }

  /** The padding that the next step adds to a tensor. @param {number} tensor @returns {[number, number][]} */
  frame(tensor) {
    const { plans, shapes } = /** @type {Layer} */ (this.layer);
    const step = plans[tensor]?.step;
    if (step?.type !== "conv" || step.transposed) return [[0, 0], [0, 0]];
    const pairs = axesOf(step, shapes[tensor]).map((axis) => axis.padding);
    return [pairs.length > 1 ? pairs[pairs.length - 2] : [0, 0], pairs[pairs.length - 1]];
  }

  draw() {
    if (!this.layer) return;
    const { plans, values, shapes } = this.layer;
    const theme = readTheme();
    this.drawnWidth = this.element.clientWidth;
    const space = Math.max(260, this.drawnWidth - 42);
    const upright = space < 430;
    const tensors = range(plans.length + 1);
    const met = this.spotTerm();
    const firsts = tensors.map((tensor) => this.firstChannel(tensor));
    /** @param {number} cell */
    const lay = (cell) =>
      tensors.map((tensor) => {
        const { channels, sizes } = this.extent(tensor);
        const frame = this.frame(tensor);
        const wide = (sizes[2] + frame[1][0] + frame[1][1]) * cell + 10;
        const flat = sizes[1] === 1 && sizes[0] === 1;
        const columns = upright ? Math.max(1, Math.floor((space + 10) / wide)) : sizes[0] > 1 || channels > 4 ? 2 : flat ? 1 : channels > 2 ? 2 : 1;
        return layGrid({ channels, sizes, frame, cell, columns, first: firsts[tensor] });
      });
    let cell = 44;
    let grids = lay(cell);
    const flatStack = shapes[0].length === 3;
    /** @param {Grid[]} all */
    const fits = (all) => {
      const across = all.reduce((sum, grid) => sum + grid.width, GAP * (all.length - 1));
      const tall = Math.max(...all.map((grid) => grid.height));
      return upright || flatStack ? Math.max(...all.map((grid) => grid.width)) <= space : across <= space && tall <= 640;
    };
    while (cell > 7 && !fits(grids)) grids = lay((cell -= 1));
    this.grids = grids;
    const stacked = upright || flatStack;
    let [x, y] = [0, HEAD];
    grids.forEach((grid) => {
      [grid.x, grid.y] = [x, y];
      if (stacked) y += grid.height + HEAD + 14;
      else x += grid.width + GAP;
    });
    const width = Math.max(...grids.map((grid) => grid.x + grid.width)) + 4;
    const height = Math.max(...grids.map((grid) => grid.y + grid.height)) + 4;
    /** @type {Shape[]} */
    const shapesOut = [];
    for (const tensor of tensors) {
      const grid = grids[tensor];
      const name = tensor ? nameStep(plans[tensor - 1].step) : "";
      const size = shapes[tensor].slice(2).join("×");
      const { channels } = this.extent(tensor);
      const title = tensor === 0 ? "input" : tensor === plans.length ? "output" : `after step ${tensor}`;
      const room = Math.floor((stacked ? width : grid.width + GAP - 8) / 6.3);
      const lines = [title, `${channels} × ${size}`, name];
      lines.forEach((line, i) => {
        const text = line.length > room ? `${line.slice(0, room - 1)}…` : line;
        const bold = line === title;
        shapesOut.push({ kind: "text", x: grid.x, y: grid.y - 46 + 17 * i, text, size: bold ? 14 : 12, bold, fill: bold ? theme.ink : theme.soft });
      });
      const marks = this.marks[tensor];
      const held = values[tensor];
      const scale = held.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      shapesOut.push(
        ...drawGrid(grid, {
          theme,
          value: (i) => held[i],
          scale,
          mark: (i) => (met && tensor === this.choice.tensor - 1 && i === met.input ? 4 : !marks[i] ? 0 : tensor === this.choice.tensor ? 3 : tensor < this.choice.tensor ? 1 : 2),
          dim: true,
          name: (channel) => this.nameChannel(tensor, channel),
          padding: (channel, place) => this.padding(tensor, channel, place),
        }),
      );
    }
    let [full, high] = [width, height];
    if (shapes[0].length === 5) {
      const solids = isoShapes(this, theme, height + 24, Math.max(width, space));
      shapesOut.push(...solids.shapes);
      [full, high] = [Math.max(full, solids.width), height + 24 + solids.height];
    }
    this.scene = { width: full, height: high, shapes: shapesOut, title: this.describe() };
    paintScene(this.canvas, this.scene, theme);
    this.canvas.setAttribute("aria-label", this.describe());
  }

  /** The first channel that is drawn, so that the chosen one, or one that is marked, is among them. @param {number} tensor */
  firstChannel(tensor) {
    const { channels, sizes } = this.extent(tensor);
    const shown = Math.max(1, Math.floor(MOST_BLOCKS / sizes[0]));
    const marks = this.marks[tensor];
    const wanted = tensor === this.choice.tensor ? this.choice.channel : Math.max(0, marks.indexOf(1)) / product(sizes);
    return Math.max(0, Math.min(Math.floor(wanted / shown) * shown, channels - shown));
  }

  /** @param {number} tensor @param {number} channel */
  nameChannel(tensor, channel) {
    const { plans } = /** @type {Layer} */ (this.layer);
    const { channels } = this.extent(tensor);
    const step = plans[tensor]?.step;
    const before = plans[tensor - 1]?.step;
    const taken = step?.type === "conv" && step.groups > 1 ? step : before?.type === "conv" && before.groups > 1 ? before : null;
    const group = taken ? Math.floor((channel * taken.groups) / channels) : -1;
    const few = this.extent(tensor).sizes[2] * (this.grids[tensor]?.cell ?? 30) < 110;
    if (channels === 1) return "channel 0";
    return group < 0 ? `channel ${channel}` : few ? `ch ${channel} · g ${group}` : `channel ${channel} · group ${group}`;
  }

  /** @param {number} tensor @param {number} channel @param {number[]} place outside of the tensor on height or width */
  padding(tensor, channel, place) {
    const { plans, values } = /** @type {Layer} */ (this.layer);
    const { step, sizesIn } = plans[tensor];
    if (step.type !== "conv") return null;
    const reads = place.map((p, a) => foldPlace(p, sizesIn[a], step.padding_mode));
    const zero = reads.some((read) => read < 0);
    const value = zero ? 0 : values[tensor][this.index({ tensor, channel, place: reads })];
    const at = [channel, ...place].join();
    const read = this.choice.tensor === tensor + 1 && this.padded().has(at);
    const met = read ? this.spotTerm() : null;
    return { value, mark: !read ? 0 : met && nameTerm(met) === at ? 4 : 1 };
  }

  /** Places of padding that the chosen value reads, as texts. */
  padded() {
    const { plans } = /** @type {Layer} */ (this.layer);
    const { tensor, channel, place } = this.choice;
    const key = [tensor, channel, ...place].join();
    if (this.paddedKey === key && this.paddedLayer === this.layer) return this.paddedSet;
    this.paddedKey = key;
    this.paddedLayer = this.layer;
    /** @type {Set<string>} */
    const found = new Set();
    const plan = plans[tensor - 1];
    for (const term of this.termsAt(plan, channel, place)) {
      found.add(nameTerm(term));
    }
    this.paddedSet = found;
    return found;
  }

  /** @type {Set<string>} */
  paddedSet = new Set();
  paddedKey = "";
  /** @type {Layer | null} */
  paddedLayer = null;

  /** @param {Plan | undefined} plan @param {number} channel @param {number[]} place */
  termsAt(plan, channel, place) {
    const part = plan?.parts.find(({ firstOut, groups, narrow }) => channel >= firstOut && channel < firstOut + groups * narrow);
    return plan && part ? termsOf(plan, part, channel, place) : [];
  }

  /** The convolution that makes the chosen value, its number among all, and the row of its weights. */
  source() {
    const { plans } = /** @type {Layer} */ (this.layer);
    const { tensor, channel } = this.choice;
    const plan = plans[tensor - 1];
    const part = plan?.parts.find(({ firstOut, groups, narrow }) => channel >= firstOut && channel < firstOut + groups * narrow);
    if (!part?.conv) return null;
    let number = plan.parts.indexOf(part);
    for (const earlier of plans.slice(0, tensor - 1)) number += earlier.parts.filter((each) => each.conv).length;
    return { part, conv: part.conv, number };
  }

  /** The chosen value in words. */
  describe() {
    if (!this.layer) return "";
    const { values, plans } = this.layer;
    const { tensor, channel, place } = this.choice;
    const name = tensor === 0 ? "input" : tensor === plans.length ? "output" : `result of step ${tensor}`;
    const at = this.placeWords(place);
    const value = formatNumber(values[tensor][this.index(this.choice)]);
    /** @param {number} n */
    const count = (n) => this.marks[n].reduce((sum, mark) => sum + mark, 0);
    const reads = tensor ? `, reads ${count(0)} of ${this.marks[0].length} inputs` : "";
    const feeds = tensor < plans.length ? `, feeds ${count(plans.length)} of ${this.marks[plans.length].length} outputs` : "";
    return `${name}, channel ${channel}, ${at}: ${value}${reads}${feeds}`;
  }

  /** @param {number[]} place */
  placeWords(place) {
    const dims = /** @type {Layer} */ (this.layer).shapes[0].length - 2;
    const words = { d: "depth", h: "row", w: "column" };
    return axisLetters(dims).map((a, i) => `${words[/** @type {"d" | "h" | "w"} */ (a)]} ${place[3 - dims + i]}`).join(", ");
  }

  explain() {
    if (this.terms.querySelector(".met:hover, .met:focus")) this.spot = null; // its term goes
    this.where.textContent = this.describe();
    const { plans, values, weights } = /** @type {Layer} */ (this.layer);
    const { tensor, channel, place } = this.choice;
    const source = this.source();
    if (!source) {
      fill(this.terms, make("p", null, tensor ? `This step (${nameStep(plans[tensor - 1].step)}) has no weights.` : "An input: everything it feeds is marked."));
      return;
    }
    const terms = this.termsAt(plans[tensor - 1], channel, place);
    const { w, b } = weights[source.number];
    const own = channel - source.part.firstOut;
    const shown = terms.slice(0, 27).map((term) => {
      const x = term.input < 0 ? 0 : values[tensor - 1][term.input];
      return make(
        "span.term",
        { tabindex: 0, "data-weight": term.weight, ...this.spotListeners(term.weight) },
        make("span.x", { title: `channel ${term.channel}, ${this.placeWords(term.taps.map((tap) => tap.place))}` }, term.input < 0 ? "0 (padding)" : inBrackets(x)),
        " · ",
        make("span.w", null, inBrackets(w[term.weight])),
      );
    });
    const sum = values[tensor][this.index(this.choice)];
    const parts = shown.flatMap((term, i) => (i ? [" + ", term] : [term]));
    const more = terms.length > shown.length ? ` + ${terms.length - shown.length} more` : "";
    const bias = b ? ` + ${formatNumber(b[own])} (bias)` : "";
    const apart = dilationWords(source.conv);
    fill(
      this.terms,
      terms.length
        ? make("p.sum", null, make("b", null, formatNumber(sum)), " = ", ...parts, more + bias)
        : make("p.sum", null, make("b", null, formatNumber(sum)), " : no tap of the kernel lands here (a hole)."),
      apart ? make("p.small", null, apart) : null,
    );
    this.markTerms();
  }

  showTables() {
    if (!this.layer || !this.details.open) return;
    const { values, plans, shapes } = this.layer;
    const { tensor } = this.choice;
    const list = [...new Set([0, tensor, plans.length])].map((n) => {
      const { channels, sizes } = this.extent(n);
      const rows = range(Math.min(60, channels * sizes[0] * sizes[1])).map((row) => {
        const cells = range(Math.min(40, sizes[2])).map((w) => formatNumber(values[n][row * sizes[2] + w]));
        const channel = Math.floor(row / (sizes[0] * sizes[1]));
        return [String(channel), String(row % (sizes[0] * sizes[1])), ...cells];
      });
      const heads = ["channel", "row", ...range(Math.min(40, sizes[2])).map((w) => `column ${w}`)];
      const name = n === 0 ? "Input" : n === plans.length ? "Output" : `After step ${n}`;
      return make("div.scroll", { tabindex: 0, role: "region", "aria-label": name }, table(heads, rows, `${name} of shape ${shapes[n].join("×")}`));
    });
    fill(this.tables, ...list);
  }

  /** @param {PointerEvent} event */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    for (const [tensor, grid] of this.grids.entries()) {
      const hit = hitGrid(grid, x, y);
      if (!hit) continue;
      const same = tensor === this.choice.tensor && hit.channel === this.choice.channel && hit.place.join() === this.choice.place.join();
      if (!same) {
        this.pause();
        this.choose({ tensor, ...hit });
      }
      return;
    }
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const { tensor, channel, place } = this.choice;
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
      this.hooks.announce(this.describe());
    } else return;
    event.preventDefault();
  }

  /** To the next value of the tensor, around at its end. @param {number} by */
  walk(by) {
    if (!this.layer) return;
    const tensor = this.choice.tensor || this.layer.plans.length;
    const { channels, sizes } = this.extent(tensor);
    const count = channels * product(sizes);
    const at = this.choice.tensor ? this.index(this.choice) : 0;
    let rest = (at + by + count) % count;
    const place = [0, 0, 0];
    for (let a = 2; a >= 0; a--) {
      place[a] = rest % sizes[a];
      rest = Math.floor(rest / sizes[a]);
    }
    this.choose({ tensor, channel: rest, place });
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

/** Channel and place that a product reads, before padding is folded. @param {Term} term */
function nameTerm({ channel, taps }) {
  return [channel, ...taps.map((tap) => tap.place)].join();
}

/** A factor of a product. @param {number} value */
function inBrackets(value) {
  return value < 0 ? `(${formatNumber(value)})` : formatNumber(value);
}

/** The nearest of 0 to count - 1. @param {number} value @param {number} count */
function clampTo(value, count) {
  return Math.max(0, Math.min(count - 1, value));
}

