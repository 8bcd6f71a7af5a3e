/**
 * The one integer arithmetic: output sizes, taps, intervals of one axis.
 *
 * Convolution `y[o] = sum_t x[o s + t d - p] w[t]`; transposed, its adjoint, `y[i s + t d - p] += x[i] w[t]`.
 */
import { ceilDiv, floorDiv, modulo } from "./integers.js";

/**
 * @typedef {object} Axis
 * @property {number} kernel
 * @property {number} stride
 * @property {number} dilation
 * @property {[number, number]} padding
 * @property {boolean} transposed
 * @property {number} outputPadding
 * @property {boolean} flip
 */

/**
 * One tap of one output: kernel index, input position, and where that value is really read (-1: padding with zeros).
 * @typedef {{tap: number, place: number, read: number}} Tap
 */

/** Positions spanned by one kernel. @param {number} kernel @param {number} dilation */
export function countExtent(kernel, dilation) {
  return dilation * (kernel - 1) + 1;
}

/** @param {Axis} axis @param {number} size */
export function inferOutput(axis, size) {
  const total = axis.padding[0] + axis.padding[1];
  const extent = countExtent(axis.kernel, axis.dilation);
  if (axis.transposed) return (size - 1) * axis.stride + extent - total + axis.outputPadding;
  return floorDiv(size + total - extent, axis.stride) + 1;
}

/**
 * Padding that makes the output `ceil(size / stride)`; the odd one goes after, or before when `lower`.
 * @param {Axis} axis
 * @param {number} size
 * @param {boolean} lower
 * @returns {[number, number]}
 */
export function planSamePadding(axis, size, lower) {
  const output = ceilDiv(size, axis.stride);
  const total = Math.max((output - 1) * axis.stride + countExtent(axis.kernel, axis.dilation) - size, 0);
  const small = floorDiv(total, 2);
  return lower ? [total - small, small] : [small, total - small];
}

/**
 * The taps of output `o`: kernel index and input position, which may lie outside the input.
 * @param {Axis} axis
 * @param {number} o
 * @returns {[number, number][]}
 */
export function tapsOf(axis, o) {
  /** @type {[number, number][]} */
  const found = [];
  for (let t = 0; t < axis.kernel; t++) {
    const index = axis.flip ? axis.kernel - 1 - t : t;
    if (!axis.transposed) {
      found.push([index, o * axis.stride + t * axis.dilation - axis.padding[0]]);
      continue;
    }
    const spread = o + axis.padding[0] - t * axis.dilation;
    if (modulo(spread, axis.stride) === 0) found.push([index, spread / axis.stride + 0]);
  }
  return found;
}

/**
 * Where a position outside the input is read: -1 for zeros.
 * @param {number} place
 * @param {number} size
 * @param {string} mode
 */
export function foldPlace(place, size, mode) {
  if (place >= 0 && place < size) return place;
  if (mode === "replicate") return place < 0 ? 0 : size - 1;
  if (mode === "circular") return modulo(place, size);
  if (mode === "reflect") return place < 0 ? -place : 2 * (size - 1) - place;
  return -1;
}

/**
 * For each output of an axis, its taps.
 * @param {Axis} axis
 * @param {number} size
 * @param {string} mode padding mode
 * @returns {Tap[][]}
 */
export function planTaps(axis, size, mode) {
  /** @type {Tap[][]} */
  const found = [];
  const count = inferOutput(axis, size);
  for (let o = 0; o < count; o++) {
    found.push(tapsOf(axis, o).map(([tap, place]) => ({ tap, place, read: foldPlace(place, size, mode) })));
  }
  return found;
}

/**
 * Taps that meet in each phase: of outputs of a transposed axis, of inputs in the gradient of another.
 * @param {Axis} axis
 * @returns {number[]}
 */
export function countPhases(axis) {
  const found = new Array(axis.stride).fill(0);
  for (let t = 0; t < axis.kernel; t++) found[modulo(t * axis.dilation - axis.padding[0], axis.stride)] += 1;
  return found;
}
