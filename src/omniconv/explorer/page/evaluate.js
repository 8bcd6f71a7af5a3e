/** The result of every spec in float64, sums included: a plain loop over taps, and the judge of faster engines. */
import { product } from "./integers.js";
import { activate } from "./activation.js";
import { convsOf } from "./chain.js";
import { weightShape } from "./spec.js";
import { planSpec } from "./plan.js";

/** @import {Part, Plan, Reading} from "./plan.js" */
/** @import {Spec} from "./chain.js" */

/** @typedef {{w: Float64Array, b: Float64Array | null}} Weights */

/**
 * Values before the first step and after each, for one item of a batch.
 * @param {Plan[]} plans
 * @param {Float64Array} x
 * @param {Weights[]} weights one for each convolution
 * @returns {Float64Array[]}
 */
export function runPlans(plans, x, weights) {
  const found = [x];
  let used = 0;
  for (const plan of plans) {
    const before = found[found.length - 1];
    const convs = plan.parts.filter((part) => part.conv).length;
    found.push(runStep(plan, before, weights.slice(used, used + convs)));
    used += convs;
  }
  return found;
}

/**
 * The values after one channel of one convolution has got other weights: only what depends on it is computed again.
 * @param {Plan[]} plans
 * @param {Float64Array[]} values as they were
 * @param {Weights[]} weights
 * @param {number} number of the convolution
 * @param {number} own its channel
 * @returns {Float64Array[]}
 */
export function rerunPlans(plans, values, weights, number, own) {
  let used = 0;
  const found = [values[0]];
  for (const [index, plan] of plans.entries()) {
    const before = found[index];
    const convs = plan.parts.filter((part) => part.conv).length;
    const part = plan.parts[number - used];
    const mine = weights.slice(used, used + convs);
    used += convs;
    if (number >= used) found.push(values[index + 1]);
    else if (before !== values[index] || !part) found.push(runStep(plan, before, mine));
    else {
      const y = values[index + 1].slice();
      addPart(plan, part, before, weights[number], clearChannel(plan, part.firstOut + own, y), own, own + 1);
      found.push(y);
    }
  }
  return found;
}

/** @param {Plan} plan @param {number} channel @param {Float64Array} y */
function clearChannel({ sizesOut }, channel, y) {
  const places = product(sizesOut);
  return y.fill(0, channel * places, (channel + 1) * places);
}

/**
 * The result for a whole batch.
 * @param {Spec} spec
 * @param {number[]} shape
 * @param {Float64Array} x
 * @param {Weights[]} weights
 * @returns {Float64Array}
 */
export function evaluate(spec, shape, x, weights) {
  const plans = planSpec(spec, shape);
  const item = product(shape.slice(1));
  const last = plans[plans.length - 1];
  const size = last.channelsOut * product(last.sizesOut);
  const found = new Float64Array(shape[0] * size);
  for (let n = 0; n < shape[0]; n++) {
    const values = runPlans(plans, x.subarray(n * item, (n + 1) * item), weights);
    found.set(values[values.length - 1], n * size);
  }
  return found;
}

/** The result of one step. @param {Plan} plan @param {Float64Array} x @param {Weights[]} weights @returns {Float64Array} */
export function runStep(plan, x, weights) {
  const { step, copies, parts } = plan;
  const y = new Float64Array(plan.channelsOut * product(plan.sizesOut));
  if (step.type === "activation") return x.map(activate(step));
  if (copies) {
    for (let i = 0; i < y.length; i++) y[i] = x[copies[i]];
    return y;
  }
  parts.forEach((part, index) => addPart(plan, part, x, weights[index], y));
  return y;
}

/** The readings of an axis without those of zeros, as flat arrays. @param {Reading[][]} axis */
function flatten(axis) {
  const lists = axis.map((taps) => taps.filter((tap) => tap.read >= 0));
  const starts = new Int32Array(lists.length + 1);
  lists.forEach((taps, o) => (starts[o + 1] = starts[o] + taps.length));
  const all = lists.flat();
  return {
    starts,
    taps: Int32Array.from(all, (tap) => tap.tap),
    reads: Int32Array.from(all, (tap) => tap.read),
    shares: Float64Array.from(all, (tap) => tap.share),
  };
}

/**
 * Outputs `out`, `out + byOut`, ... that read `read`, `read + byRead`, ... through one tap, each with the same share.
 * @typedef {{tap: number, share: number, out: number, byOut: number, read: number, byRead: number, count: number}} Stretch
 */

/** The readings of an axis without those of zeros, tap by tap, as stretches of equal steps. @param {Reading[][]} axis @returns {Stretch[]} */
function listStretches(axis) {
  /** @type {Map<number, Stretch[]>} */
  const byTap = new Map();
  axis.forEach((taps, o) => {
    for (const { tap, read, share } of taps) {
      if (read < 0) continue;
      const found = byTap.get(tap) ?? [];
      byTap.set(tap, found);
      const last = found[found.length - 1];
      if (last?.share === share && last.count === 1) [last.byOut, last.byRead] = [o - last.out, read - last.read];
      if (last?.share === share && o === last.out + last.count * last.byOut && read === last.read + last.count * last.byRead) last.count += 1;
      else found.push({ tap, share, out: o, byOut: 0, read, byRead: 0, count: 1 });
    }
  });
  return [...byTap.values()].flat();
}

/**
 * Row by row: each tap is added to all outputs of a row that it reads for.
 * @param {Plan} plan
 * @param {Part} part
 * @param {Float64Array} x
 * @param {Weights | undefined} weights
 * @param {Float64Array} y
 * @param {number} [first] of its output channels
 * @param {number} [end]
 */
function addPart(plan, part, x, weights, y, first = 0, end = part.groups * part.narrow) {
  const [da, ha] = part.axes.slice(0, 2).map(flatten);
  const stretches = listStretches(part.axes[2]);
  const [D, H, W] = plan.sizesOut;
  const [, Hi, Wi] = plan.sizesIn;
  const placesIn = product(plan.sizesIn);
  const kernel = part.conv ? part.conv.kernel_size : [];
  const [, KH, KW] = [...new Array(3 - kernel.length).fill(1), ...kernel];
  const volume = product(kernel);
  const w = part.conv && weights ? weights.w : null;
  for (let c = first; c < end; c++) {
    const group = Math.floor(c / part.narrow);
    const base = (part.firstOut + c) * D * H * W;
    if (weights?.b) y.fill(weights.b[c], base, base + D * H * W);
    for (let j = 0; j < part.wide; j++) {
      const from = (part.firstIn + group * part.wide + j) * placesIn;
      const row = part.conv?.transposed
        ? (group * part.wide + j) * part.narrow + (c % part.narrow)
        : c * part.wide + j;
      for (let d = 0; d < D; d++) {
        for (let h = 0; h < H; h++) {
          const out = base + (d * H + h) * W;
          for (let a = da.starts[d]; a < da.starts[d + 1]; a++) {
            for (let b = ha.starts[h]; b < ha.starts[h + 1]; b++) {
              const line = from + (da.reads[a] * Hi + ha.reads[b]) * Wi;
              const taps = row * volume + (da.taps[a] * KH + ha.taps[b]) * KW;
              const share = da.shares[a] * ha.shares[b];
              for (const stretch of stretches) {
                const { byOut, byRead, count } = stretch;
                const factor = (w ? w[taps + stretch.tap] : share) * stretch.share;
                let [o, i] = [out + stretch.out, line + stretch.read];
                for (let n = 0; n < count; n++, o += byOut, i += byRead) y[o] += x[i] * factor;
              }
            }
          }
        }
      }
    }
  }
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). @param {number} seed */
export function randomNumbers(seed) {
  let held = seed >>> 0;
  return () => {
    held = (held + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(held ^ (held >>> 15), held | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Small whole weights without biases, so that sums can be followed by hand. @param {Spec} spec @param {number} seed */
export function drawWeights(spec, seed) {
  const next = randomNumbers(seed);
  return convsOf(spec).map((conv) => {
    const w = Float64Array.from({ length: product(weightShape(conv)) }, () => Math.floor(next() * 7) - 3);
    return { w, b: /** @type {Float64Array | null} */ (null) };
  });
}
