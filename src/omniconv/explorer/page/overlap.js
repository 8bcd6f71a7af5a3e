/** How often each value is met: what the Python analysis finds, by the same rules. */
import { product, range } from "./integers.js";
import { countPhases } from "./geometry.js";
import { axesOf } from "./spec.js";
import { stepsOf } from "./chain.js";
import { pullStep, pushBorder, pushStep } from "./taps.js";

/** @import {Conv} from "./spec.js" */
/** @import {Spec, Step} from "./chain.js" */
/** @import {Plan} from "./plan.js" */

/** @typedef {{counts: number[], sizes: number[], levels: number[], verdict: string, ratio: number}} Period */

/** Whether a spec has a step that enlarges its input. @param {Spec} spec */
export function upsamples(spec) {
  return stepsOf(spec).some((step) => step.type === "resize" || step.type === "pixel_shuffle" || isTransposed(step));
}

/** @param {Step} step */
function isTransposed(step) {
  return step.type === "conv" && step.transposed;
}

/** @param {Iterable<number>} counts @returns {"even" | "uneven" | "holes"} */
export function judgeCounts(counts) {
  const all = [...counts];
  if (!all.every((count) => count > 0)) return "holes";
  return all.every((count) => Math.abs(count - all[0]) <= 1e-9 * Math.abs(all[0])) ? "even" : "uneven";
}

/** @param {number[]} counts @param {number[]} sizes @returns {Period} */
function periodOf(counts, sizes) {
  const sorted = [...counts].sort((a, b) => a - b);
  const levels = sorted.filter((count, i) => i === 0 || count - sorted[i - 1] > 1e-9 * Math.max(1, count));
  const ratio = sorted[0] ? sorted[sorted.length - 1] / sorted[0] : Infinity;
  return { counts, sizes, levels, verdict: judgeCounts(counts), ratio };
}

/**
 * Taps that meet in each phase of one layer, as a product of its axes: outputs of a transposed layer, inputs of another
 * in its gradient.
 * @param {Conv} conv
 * @param {number[]} shape
 * @returns {Period}
 */
export function overlapPhases(conv, shape) {
  const axes = axesOf(conv, shape).map((axis) => countPhases(axis));
  const counts = axes.reduce((found, axis) => found.flatMap((a) => axis.map((b) => a * b)), [1]);
  return periodOf(counts, conv.stride);
}

/**
 * How often each output is met (`output`), or each input in the gradient, over a whole image with its borders.
 * @param {Plan[]} plans
 * @param {"output" | "gradient"} direction
 * @returns {{image: Float64Array, sizes: number[]}}
 */
export function overlapImage(plans, direction) {
  const [first, last] = [plans[0], plans[plans.length - 1]];
  if (direction === "output") {
    let held = new Float64Array(first.channelsIn * product(first.sizesIn)).fill(1);
    for (const plan of plans) held = pushStep(plan, held, true);
    return { image: overChannels(held, last.channelsOut, true), sizes: last.sizesOut };
  }
  let demand = new Float64Array(last.channelsOut * product(last.sizesOut)).fill(1 / last.channelsOut);
  for (const plan of [...plans].reverse()) demand = pullStep(plan, demand, true);
  return { image: overChannels(demand, first.channelsIn, false), sizes: first.sizesIn };
}

/** @param {Float64Array} values @param {number} channels @param {boolean} mean */
function overChannels(values, channels, mean) {
  const places = values.length / channels;
  const found = new Float64Array(places);
  values.forEach((value, i) => (found[i % places] += mean ? value / channels : value));
  return found;
}

/** Positions of the result whose every channel is free of the border. @param {Plan[]} plans @returns {boolean[]} */
export function freeOfBorder(plans) {
  /** @type {Uint8Array} */
  let marks = new Uint8Array(plans[0].channelsIn * product(plans[0].sizesIn));
  for (const plan of plans) marks = pushBorder(plan, marks);
  const places = product(plans[plans.length - 1].sizesOut);
  return range(places).map((p) => {
    for (let i = p; i < marks.length; i += places) if (marks[i]) return false;
    return true;
  });
}
