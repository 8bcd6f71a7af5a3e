/** A layer with one value of it chosen: what that value reads and feeds, where it lies, and what is said of it. */
import { product } from "./integers.js";
import { axisLetters } from "./format.js";
import { foldPlace } from "./geometry.js";
import { axesOf } from "./spec.js";
import { formatNumber } from "./dom.js";
import { MOST_BLOCKS } from "./grid.js";
import { termsOf, traceBack, traceForward } from "./taps.js";

/** @import {Layer} from "./layer.js" */
/** @import {Plan} from "./plan.js" */
/** @import {Term} from "./taps.js" */

/** @typedef {{tensor: number, channel: number, place: number[]}} Choice tensor 0 is the input, each other the result of a step */

export class View {
  /**
   * What lies outside of the layer is moved to the nearest value that is there.
   * @param {Layer} layer
   * @param {Choice} choice
   * @param {{layer: Layer, choice: Choice, marks: Uint8Array[]} | null} [before] marks stay, where the layer differs from this one's in its numbers alone
   */
  constructor(layer, choice, before = null) {
    this.layer = layer;
    const { plans } = layer;
    const tensor = clampTo(choice.tensor, plans.length + 1);
    const { channels, sizes } = this.extent(tensor);
    const place = sizes.map((size, a) => clampTo(choice.place[a], size));
    /** @type {Choice} */
    this.choice = { tensor, channel: clampTo(choice.channel, channels), place };
    const same = before?.layer.plans === plans && String(Object.values(before.choice)) === String(Object.values(this.choice));
    /** Of what the chosen value depends on and of what depends on it, in each tensor. @type {Uint8Array[]} */
    this.marks = same ? before.marks : this.trace();
    /** The weight whose product is framed. @type {number | null} */
    this.spot = null;
    this.padded = new Set(this.terms().map(nameTerm));
  }

  /** The middle of the result. @param {Layer} layer @returns {Choice} */
  static middleOf({ plans }) {
    const { sizesOut } = plans[plans.length - 1];
    return { tensor: plans.length, channel: 0, place: sizesOut.map((size) => Math.floor((size - 1) / 2)) };
  }

  /** Whether the chosen value depends on no input: no tap reaches it. */
  isHole() {
    return this.choice.tensor > 0 && !this.marks[0].includes(1);
  }

  /** The value of the same channel that is no hole and nearest to the chosen one; of a channel of holes the same. @returns {Choice} */
  nearestReached() {
    const { plans } = this.layer;
    const { tensor, channel, place } = this.choice;
    const { sizes } = this.extent(tensor);
    const inputs = new Uint8Array(this.marks[0].length).fill(1);
    const reached = traceForward(plans.slice(0, tensor), inputs)[tensor];
    let [best, least] = [place, Infinity];
    const places = product(sizes);
    for (let p = 0; p < places; p++) {
      if (!reached[channel * places + p]) continue;
      const at = [Math.floor(p / (sizes[1] * sizes[2])), Math.floor(p / sizes[2]) % sizes[1], p % sizes[2]];
      const distance = at.reduce((sum, n, a) => sum + (n - place[a]) ** 2, 0);
      if (distance < least) [best, least] = [at, distance];
    }
    return { tensor, channel, place: best };
  }

  /** The marks of the chosen value. @returns {Uint8Array[]} */
  trace() {
    const { plans } = this.layer;
    const { tensor } = this.choice;
    const { channels, sizes } = this.extent(tensor);
    const chosen = new Uint8Array(channels * product(sizes));
    chosen[this.index(this.choice)] = 1;
    return [...traceBack(plans.slice(0, tensor), chosen), ...traceForward(plans.slice(tensor), chosen).slice(1)];
  }

  /** Channels and sizes of a tensor. @param {number} tensor */
  extent(tensor) {
    const { plans } = this.layer;
    if (!tensor) return { channels: plans[0].channelsIn, sizes: plans[0].sizesIn };
    return { channels: plans[tensor - 1].channelsOut, sizes: plans[tensor - 1].sizesOut };
  }

  /** The choice of the next value of the tensor, around at its end. @param {number} by @returns {Choice} */
  next(by) {
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
    return { tensor, channel: rest, place };
  }

  /** The product that is framed, if the chosen value has it. */
  spotTerm() {
    if (this.spot === null || !this.source()) return null;
    return this.terms().find((term) => term.weight === this.spot) ?? null;
  }

  /** @param {Choice} choice */
  index({ tensor, channel, place }) {
    const { sizes } = this.extent(tensor);
    return ((channel * sizes[0] + place[0]) * sizes[1] + place[1]) * sizes[2] + place[2];
  }

  /** The padding that the next step adds to a tensor. @param {number} tensor @returns {[number, number][]} */
  frame(tensor) {
    const { plans, shapes } = this.layer;
    const step = plans[tensor]?.step;
    if (step?.type !== "conv" || step.transposed) return [[0, 0], [0, 0]];
    const pairs = axesOf(step, shapes[tensor]).map((axis) => axis.padding);
    return [pairs.length > 1 ? pairs[pairs.length - 2] : [0, 0], pairs[pairs.length - 1]];
  }

  /** The first channel that is drawn, so that the chosen one, or one that is marked, is among them. @param {number} tensor */
  firstChannel(tensor) {
    const { channels, sizes } = this.extent(tensor);
    const shown = Math.max(1, Math.floor(MOST_BLOCKS / sizes[0]));
    const marks = this.marks[tensor];
    const wanted = tensor === this.choice.tensor ? this.choice.channel : Math.max(0, marks.indexOf(1)) / product(sizes);
    return Math.max(0, Math.min(Math.floor(wanted / shown) * shown, channels - shown));
  }

  /** @param {number} tensor @param {number} channel @param {boolean} short */
  nameChannel(tensor, channel, short) {
    const { plans } = this.layer;
    const { channels } = this.extent(tensor);
    const step = plans[tensor]?.step;
    const before = plans[tensor - 1]?.step;
    const taken = step?.type === "conv" && step.groups > 1 ? step : before?.type === "conv" && before.groups > 1 ? before : null;
    if (channels === 1 || !taken) return `channel ${channel}`;
    const group = Math.floor((channel * taken.groups) / channels);
    return short ? `ch ${channel} · g ${group}` : `channel ${channel} · group ${group}`;
  }

  /** @param {number} tensor @param {number} channel @param {number[]} place outside of the tensor on height or width */
  padding(tensor, channel, place) {
    const { plans, values } = this.layer;
    const { step, sizesIn } = plans[tensor];
    if (step.type !== "conv") return null;
    const reads = place.map((p, a) => foldPlace(p, sizesIn[a], step.padding_mode));
    const zero = reads.some((read) => read < 0);
    const value = zero ? 0 : values[tensor][this.index({ tensor, channel, place: reads })];
    const at = this.choice.tensor === tensor + 1 ? [channel, ...place].join() : "";
    const read = at !== "" && this.padded.has(at);
    const met = read ? this.spotTerm() : null;
    return { value, mark: !read ? 0 : met && nameTerm(met) === at ? 4 : 1 };
  }

  /** The products that make the chosen value. @returns {Term[]} */
  terms() {
    const { tensor, channel, place } = this.choice;
    const plan = this.layer.plans[tensor - 1];
    const part = plan && partOf(plan, channel);
    return part ? termsOf(plan, part, channel, place) : [];
  }

  /** The convolution that makes the chosen value, its number among all, and the row of its weights. */
  source() {
    const { plans } = this.layer;
    const { tensor, channel } = this.choice;
    const plan = plans[tensor - 1];
    const part = plan && partOf(plan, channel);
    if (!part?.conv) return null;
    let number = plan.parts.indexOf(part);
    for (const earlier of plans.slice(0, tensor - 1)) number += earlier.parts.filter((each) => each.conv).length;
    return { part, conv: part.conv, number };
  }

  /** The chosen value in words. */
  describe() {
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
    const dims = this.layer.shapes[0].length - 2;
    const words = { d: "depth", h: "row", w: "column" };
    return axisLetters(dims).map((a, i) => `${words[/** @type {"d" | "h" | "w"} */ (a)]} ${place[3 - dims + i]}`).join(", ");
  }
}

/** The part of a plan that makes a channel of its result. @param {Plan} plan @param {number} channel */
function partOf(plan, channel) {
  return plan.parts.find(({ firstOut, groups, narrow }) => channel >= firstOut && channel < firstOut + groups * narrow);
}

/** Channel and place that a product reads, before padding is folded. @param {Term} term */
function nameTerm({ channel, taps }) {
  return [channel, ...taps.map((tap) => tap.place)].join();
}

/** The nearest of 0 to count - 1. @param {number} value @param {number} count */
function clampTo(value, count) {
  return Math.max(0, Math.min(count - 1, value));
}

