/** What an output sees, and which positions in that field it leaves out: what the Python analyses find, by the same rules. */
import { gcd, lcm, product, range } from "./integers.js";
import { tapsOf } from "./geometry.js";
import { axesOf } from "./spec.js";
import { dimsOf, shapesOf, slicesOf, stepsOf } from "./chain.js";
import { resizeReads } from "./plan.js";
import { traceBack } from "./taps.js";

/** @import {Axis} from "./geometry.js" */
/** @import {Spec, Step} from "./chain.js" */
/** @import {Plan} from "./plan.js" */

/**
 * @typedef {object} AxisCoverage
 * @property {number[]} paths over the field
 * @property {number[]} holes
 * @property {number} fraction
 */

/**
 * Which positions of its field a stack of plain convolutions reads, on each axis; null where another step is among them.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {AxisCoverage[] | null}
 */
export function coverageAxes(spec, shape) {
  const steps = stepsOf(spec);
  const plain = steps.every(
    (step) => (step.type === "conv" && !step.transposed) || step.type === "activation" || step.type === "shuffle",
  );
  if (!plain) return null;
  const shapes = shapesOf(spec, shape);
  return range(dimsOf(spec)).map((a) => {
    let paths = [1];
    let stride = 1;
    steps.forEach((step, index) => {
      if (step.type !== "conv") return;
      const axis = axesOf(step, shapes[index])[a];
      const wide = new Array(paths.length + stride * axis.dilation * (axis.kernel - 1)).fill(0);
      for (let t = 0; t < axis.kernel; t++) paths.forEach((n, i) => (wide[i + t * stride * axis.dilation] += n));
      paths = wide;
      stride *= axis.stride;
    });
    const holes = range(paths.length).filter((i) => paths[i] === 0);
    return { paths, holes, fraction: 1 - holes.length / paths.length };
  });
}

/**
 * @typedef {object} AxisField
 * @property {number} size of the hull
 * @property {[number, number]} stride as a fraction
 * @property {number} offset
 * @property {number} padding
 * @property {{size: number, low: number}[]} phases
 */

/**
 * The receptive field on each axis, as if the input had no end.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {AxisField[]}
 */
export function receptiveAxes(spec, shape) {
  const steps = stepsOf(spec);
  const shapes = shapesOf(spec, shape);
  return range(dimsOf(spec)).map((a) => {
    /** @type {[number, number]} */
    let stride = [1, 1];
    let period = 1;
    for (const step of [...steps].reverse()) {
      const [up, down] = rateOf(step, a);
      const common = gcd(stride[0] * up, stride[1] * down);
      stride = [(stride[0] * up) / common, (stride[1] * down) / common];
      period = lcm(period, stride[1]);
    }
    const phases = range(period).map((o) => {
      let places = new Set([o]);
      for (let index = steps.length - 1; index >= 0; index--) places = readPlaces(steps[index], shapes[index], a, places);
      const [low, high] = [Math.min(...places), Math.max(...places)];
      return places.size ? { size: high - low + 1, low } : { size: 0, low: 0 };
    });
    return summarise(phases, stride);
  });
}

/** @param {{size: number, low: number}[]} phases @param {[number, number]} stride @returns {AxisField} */
function summarise(phases, stride) {
  const seen = phases.map((phase, o) => ({ ...phase, o })).filter((phase) => phase.size);
  if (!seen.length) return { size: 0, stride, offset: 0, padding: 0, phases };
  const centres = seen.map(({ low, size, o }) => low + (size - 1) / 2 - (o * stride[0]) / stride[1]);
  const offset = centres.reduce((sum, centre) => sum + centre, 0) / centres.length;
  return { size: Math.max(...seen.map((s) => s.size)), stride, offset, padding: -Math.min(0, seen[0].low), phases };
}

/** Input positions between neighbouring outputs, as a fraction. @param {Step} step @param {number} a */
function rateOf(step, a) {
  if (step.type === "conv") return step.transposed ? [1, step.stride[a]] : [step.stride[a], 1];
  if (step.type === "split") return [step.branches[0].stride[a], 1];
  return step.type === "resize" || step.type === "pixel_shuffle" ? [1, step.factor] : [1, 1];
}

/** @param {Step} step @param {number[]} shape @param {number} a @param {Set<number>} places @returns {Set<number>} */
function readPlaces(step, shape, a, places) {
  if (step.type === "conv") return readAxis(axesOf(step, shape)[a], places);
  if (step.type === "split") {
    const all = slicesOf(step).map(({ branch }) =>
      readAxis(axesOf(branch, [shape[0], branch.in_channels, ...shape.slice(2)])[a], places),
    );
    return new Set(all.flatMap((each) => [...each]));
  }
  if (step.type === "resize") {
    return new Set([...places].flatMap((o) => resizeReads(o, step.factor, step.mode).map(([place]) => place)));
  }
  if (step.type === "pixel_shuffle") return new Set([...places].map((o) => Math.floor(o / step.factor)));
  return places;
}

/** @param {Axis} axis @param {Set<number>} places */
function readAxis(axis, places) {
  return new Set([...places].flatMap((o) => tapsOf(axis, o).map(([, place]) => place)));
}

/**
 * For each spatial position of the input, whether the output at `place` depends on it.
 * @param {Plan[]} plans
 * @param {number[]} place three positions of the result
 * @returns {Uint8Array}
 */
export function supportOf(plans, place) {
  const last = plans[plans.length - 1];
  const marks = new Uint8Array(last.channelsOut * product(last.sizesOut));
  const at = (place[0] * last.sizesOut[1] + place[1]) * last.sizesOut[2] + place[2];
  for (let i = at; i < marks.length; i += product(last.sizesOut)) marks[i] = 1;
  const found = traceBack(plans, marks)[0];
  const places = product(plans[0].sizesIn);
  const support = new Uint8Array(places);
  found.forEach((mark, i) => (support[i % places] |= mark));
  return support;
}
