/** Overlap, coverage, connectivity, receptive field and cost: what the Python analyses find, by the same rules. */
import { ceilDiv, floorDiv, gcd, lcm, product, range } from "./integers.js";
import { countExtent, countPhases, tapsOf } from "./geometry.js";
import { axesOf, countMacs, weightShape } from "./spec.js";
import { dimsOf, inChannels, shapesOf, slicesOf, stepsOf } from "./chain.js";
import { labelOf } from "./format.js";
import { planSpec, resizeReads } from "./plan.js";
import { pullStep, pushBorder, pushStep, traceBack } from "./taps.js";

/** @import {Conv} from "./spec.js" */
/** @import {Axis} from "./geometry.js" */
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
 * The transposed layer with the next larger kernel that the stride divides, and outputs where they were.
 * @param {Conv} conv with explicit padding
 * @returns {Conv}
 */
export function evenKernel(conv) {
  const kernel = conv.kernel_size.map((k, a) => ceilDiv(k, conv.stride[a]) * conv.stride[a]);
  const dilation = conv.dilation.map((d, a) => (gcd(d, conv.stride[a]) === 1 ? d : 1));
  /** @type {[number, number][]} */
  const padding = [];
  let extra = conv.kernel_size.map((k, a) => {
    const old = countExtent(k, conv.dilation[a]);
    const next = countExtent(kernel[a], dilation[a]);
    const [before, after] = /** @type {[number, number][]} */ (conv.padding)[a];
    const surplus = next - (old - before - after + conv.output_padding[a]);
    const room = Math.max(surplus, 0);
    const first = Math.min(Math.max(before + floorDiv(next - old + 1, 2), 0), room);
    padding.push([first, room - first]);
    return Math.max(-surplus, 0);
  });
  if (extra.some((each, a) => each >= Math.max(conv.stride[a], dilation[a]))) extra = extra.map(() => 0);
  return { ...conv, kernel_size: kernel, dilation, padding, output_padding: extra };
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
 * Over how many paths of channels each output channel reaches each input channel: outputs x inputs.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {number[][]}
 */
export function connectivityPaths(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const count = inChannels(spec);
  /** @type {number[][]} */
  let rows = range(count).map((c) => range(count).map((j) => (j === c ? 1 : 0)));
  stepsOf(spec).forEach((step, index) => {
    rows = throughChannels(step, rows, shapes[index + 1][1]);
  });
  return rows;
}

/** @param {Step} step @param {number[][]} rows one for each channel before @param {number} channels after */
function throughChannels(step, rows, channels) {
  if (step.type === "conv" || step.type === "split") {
    const slices = step.type === "conv" ? [{ branch: step, firstIn: 0, firstOut: 0 }] : slicesOf(step);
    return slices.flatMap(({ branch, firstIn }) => {
      const wide = branch.in_channels / branch.groups;
      const narrow = branch.out_channels / branch.groups;
      return range(branch.groups).flatMap((g) => {
        const sum = addRows(rows.slice(firstIn + g * wide, firstIn + (g + 1) * wide));
        return range(narrow).map(() => sum);
      });
    });
  }
  if (step.type === "shuffle") {
    const width = channels / step.groups;
    return range(channels).map((c) => rows[(c % step.groups) * width + Math.floor(c / step.groups)]);
  }
  if (step.type === "pixel_shuffle") {
    const block = rows.length / channels;
    return range(channels).map((c) => addRows(rows.slice(c * block, (c + 1) * block)));
  }
  return rows;
}

/** @param {number[][]} rows @returns {number[]} */
function addRows(rows) {
  return rows.reduce((sum, row) => sum.map((n, i) => n + row[i]));
}

/** Sets of channels that see nothing of one another, as counts of outputs and inputs. @param {number[][]} paths */
export function findBlocks(paths) {
  const left = new Set(range(paths.length));
  /** @type {[number, number][]} */
  const found = [];
  while (left.size) {
    let rows = [Math.min(...left)];
    for (;;) {
      const columns = range(paths[0].length).filter((j) => rows.some((c) => paths[c][j]));
      const wider = range(paths.length).filter((c) => rows.includes(c) || columns.some((j) => paths[c][j]));
      const same = wider.length === rows.length;
      rows = wider;
      if (!same) continue;
      rows.forEach((c) => left.delete(c));
      found.push([rows.length, columns.length]);
      break;
    }
  }
  return found;
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

/**
 * @typedef {object} LayerCost
 * @property {string} name
 * @property {number} weights
 * @property {number} biases
 * @property {number} macs nominal [MAC]
 * @property {number} executed those whose tap lands inside [MAC]
 */

/**
 * What each convolution costs.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {LayerCost[]}
 */
export function costOf(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const plans = planSpec(spec, shape);
  return plans.flatMap((plan, index) =>
    plan.parts.flatMap((part) => {
      if (!part.conv) return [];
      const { conv } = part;
      const given = [shape[0], conv.in_channels, ...shapes[index].slice(2)];
      const inside = part.axes.map((axis) => axis.flat().filter((tap) => tap.read >= 0).length);
      return [
        {
          name: labelOf(conv),
          weights: product(weightShape(conv)),
          biases: conv.out_channels,
          macs: countMacs(conv, given),
          executed: shape[0] * product(inside) * part.wide * conv.out_channels,
        },
      ];
    }),
  );
}
