/** Which inputs an output reads and which outputs an input feeds, exactly, through any number of steps. */
import { product } from "./integers.js";

/** @import {Part, Plan, Reading} from "./plan.js" */

/**
 * Calls `visit(output, input, share)` for every position pair of a part, positions flat over the three axes.
 * @param {Part} part
 * @param {number[]} sizesIn
 * @param {number[]} sizesOut
 * @param {(output: number, input: number, share: number) => void} visit
 * @param {((output: number) => boolean)} [wanted]
 */
function eachPair(part, sizesIn, sizesOut, visit, wanted) {
  let output = -1;
  for (let d = 0; d < sizesOut[0]; d++) {
    for (let h = 0; h < sizesOut[1]; h++) {
      for (let w = 0; w < sizesOut[2]; w++) {
        output += 1;
        if (wanted && !wanted(output)) continue;
        for (const a of part.axes[0][d]) {
          if (a.read < 0) continue;
          for (const b of part.axes[1][h]) {
            if (b.read < 0) continue;
            for (const c of part.axes[2][w]) {
              if (c.read < 0) continue;
              const input = (a.read * sizesIn[1] + b.read) * sizesIn[2] + c.read;
              visit(output, input, a.share * b.share * c.share);
            }
          }
        }
      }
    }
  }
}

/**
 * Carries numbers from the outputs of a step back to its inputs; `mean` divides by the channels of a group.
 * @template {Uint8Array | Float64Array} T
 * @param {Plan} plan
 * @param {T} demand
 * @param {boolean} [mean]
 * @returns {T}
 */
export function pullStep(plan, demand, mean = false) {
  const { sizesIn, sizesOut, channelsIn, parts, copies } = plan;
  const [placesIn, placesOut] = [product(sizesIn), product(sizesOut)];
  const found = /** @type {T} */ (likeOf(demand, channelsIn * placesIn));
  if (copies) {
    copies.forEach((from, to) => (found[from] = joinOf(demand, found[from], demand[to])));
    return found;
  }
  const whole = demand instanceof Uint8Array;
  for (const part of parts) {
    for (let g = 0; g < part.groups; g++) {
      const sum = likeOf(demand, placesOut);
      for (let c = 0; c < part.narrow; c++) {
        const base = (part.firstOut + g * part.narrow + c) * placesOut;
        for (let p = 0; p < placesOut; p++) sum[p] = joinOf(demand, sum[p], demand[base + p]);
      }
      const pulled = likeOf(demand, placesIn);
      eachPair(part, sizesIn, sizesOut, (o, i, share) => {
        pulled[i] = whole ? 1 : pulled[i] + sum[o] * share;
      }, (o) => sum[o] !== 0);
      const scale = mean && !whole ? 1 / part.wide : 1;
      for (let j = 0; j < part.wide; j++) {
        const base = (part.firstIn + g * part.wide + j) * placesIn;
        for (let p = 0; p < placesIn; p++) found[base + p] = pulled[p] * scale;
      }
    }
  }
  return found;
}

/**
 * Carries numbers from the inputs of a step to its outputs; `mean` divides by the channels of a group.
 * @template {Uint8Array | Float64Array} T
 * @param {Plan} plan
 * @param {T} held
 * @param {boolean} [mean]
 * @returns {T}
 */
export function pushStep(plan, held, mean = false) {
  const { sizesIn, sizesOut, channelsOut, parts, copies } = plan;
  const [placesIn, placesOut] = [product(sizesIn), product(sizesOut)];
  const found = /** @type {T} */ (likeOf(held, channelsOut * placesOut));
  if (copies) {
    copies.forEach((from, to) => (found[to] = held[from]));
    return found;
  }
  const whole = held instanceof Uint8Array;
  for (const part of parts) {
    for (let g = 0; g < part.groups; g++) {
      const sum = likeOf(held, placesIn);
      for (let j = 0; j < part.wide; j++) {
        const base = (part.firstIn + g * part.wide + j) * placesIn;
        for (let p = 0; p < placesIn; p++) sum[p] = joinOf(held, sum[p], held[base + p]);
      }
      const scale = mean && !whole ? 1 / part.wide : 1;
      const pushed = likeOf(held, placesOut);
      eachPair(part, sizesIn, sizesOut, (o, i, share) => {
        if (sum[i]) pushed[o] = whole ? 1 : pushed[o] + sum[i] * share * scale;
      });
      for (let c = 0; c < part.narrow; c++) found.set(pushed, (part.firstOut + g * part.narrow + c) * placesOut);
    }
  }
  return found;
}

/** @param {Uint8Array | Float64Array} model @param {number} size @returns {Uint8Array | Float64Array} */
function likeOf(model, size) {
  return model instanceof Uint8Array ? new Uint8Array(size) : new Float64Array(size);
}

/** The sum, or for marks whether either is set. @param {Uint8Array | Float64Array} model @param {number} a @param {number} b */
function joinOf(model, a, b) {
  return model instanceof Uint8Array ? a | b : a + b;
}

/** Marks of every value that some outputs depend on: before the first step and after each. */
/** @param {Plan[]} plans @param {Uint8Array} marks of the last result @returns {Uint8Array[]} */
export function traceBack(plans, marks) {
  const found = [marks];
  for (const plan of [...plans].reverse()) found.unshift(pullStep(plan, found[0]));
  return found;
}

/** Marks of every value that depends on some inputs: before the first step and after each. */
/** @param {Plan[]} plans @param {Uint8Array} marks of the input @returns {Uint8Array[]} */
export function traceForward(plans, marks) {
  const found = [marks];
  for (const plan of plans) found.push(pushStep(plan, found[found.length - 1]));
  return found;
}

/**
 * Outputs of a step that see the border, where some inputs do: a tap outside, or a value that saw one.
 * @param {Plan} plan
 * @param {Uint8Array} held
 * @returns {Uint8Array}
 */
export function pushBorder(plan, held) {
  const { sizesOut, parts } = plan;
  const found = pushStep(plan, held);
  const places = product(sizesOut);
  for (const part of parts) {
    if (!part.conv) continue;
    const beyond = part.axes.map((axis, a) =>
      axis.map((taps) => taps.some((tap) => tap.place < 0 || tap.place >= plan.sizesIn[a])),
    );
    const met = part.axes.map((axis) => axis.map((taps) => taps.length > 0));
    for (let p = 0; p < places; p++) {
      const w = p % sizesOut[2];
      const h = Math.floor(p / sizesOut[2]) % sizesOut[1];
      const d = Math.floor(p / (sizesOut[1] * sizesOut[2]));
      const seen = beyond[0][d] || beyond[1][h] || beyond[2][w];
      if (!seen || !(met[0][d] && met[1][h] && met[2][w])) continue;
      for (let c = 0; c < part.groups * part.narrow; c++) found[(part.firstOut + c) * places + p] = 1;
    }
  }
  return found;
}

/**
 * Every product of one output of a part: channel, taps of the three axes, and where the value lies (-1: padding).
 * @typedef {{channel: number, taps: [Reading, Reading, Reading], weight: number, input: number}} Term
 */

/**
 * The products that are summed in output `place` of channel `channel`, those of padding included.
 * @param {Plan} plan
 * @param {Part} part
 * @param {number} channel of the result of the step
 * @param {number[]} place three positions
 * @returns {Term[]}
 */
export function termsOf(plan, part, channel, place) {
  const own = channel - part.firstOut;
  const group = Math.floor(own / part.narrow);
  const kernel = part.conv ? part.conv.kernel_size : [1, 1, 1];
  const sizes = [...new Array(3 - kernel.length).fill(1), ...kernel];
  /** @type {Term[]} */
  const found = [];
  for (let j = 0; j < part.wide; j++) {
    const from = part.firstIn + group * part.wide + j;
    const row = part.conv?.transposed
      ? (group * part.wide + j) * part.narrow + (own % part.narrow)
      : own * part.wide + j;
    for (const a of part.axes[0][place[0]]) {
      for (const b of part.axes[1][place[1]]) {
        for (const c of part.axes[2][place[2]]) {
          const inside = a.read >= 0 && b.read >= 0 && c.read >= 0;
          const at = (a.read * plan.sizesIn[1] + b.read) * plan.sizesIn[2] + c.read;
          found.push({
            channel: from,
            taps: [a, b, c],
            weight: ((row * sizes[0] + a.tap) * sizes[1] + b.tap) * sizes[2] + c.tap,
            input: inside ? from * product(plan.sizesIn) + at : -1,
          });
        }
      }
    }
  }
  return found;
}
