/** How the kernel for any setting computes one convolution: a frame around the input, and a list of taps for each phase. */
import { ceilDiv, modulo, product } from "./integers.js";
import { foldPlace, inferOutput } from "./geometry.js";
import { axesOf, convOutputShape } from "./spec.js";

/** @import {Axis} from "./geometry.js" */
/** @import {Conv} from "./spec.js" */

/** @typedef {{start: number, step: number, count: number, inStep: number, taps: [number, number][]}} Phase */

/**
 * @typedef {object} TapCall
 * @property {Record<string, number>} words of the record, addresses left out
 * @property {number} start element of y at which the record's y begins
 * @property {Int32Array} offsets
 * @property {Int32Array} index for each weight its place among those of the layer
 */

/**
 * @typedef {object} TapPlan
 * @property {number[]} output
 * @property {number[]} before positions of the frame before x, on three axes
 * @property {number[]} frame shape, channels and three axes
 * @property {number[]} sizes of x, three axes
 * @property {string} mode
 * @property {TapCall[]} calls
 */

/** Output positions that share one list of taps. @param {Axis} axis @param {number} size @returns {Phase[]} */
function planPhases(axis, size) {
  const output = inferOutput(axis, size);
  const before = axis.padding[0];
  /** @param {number} t */
  const index = (t) => (axis.flip ? axis.kernel - 1 - t : t);
  if (!axis.transposed) {
    const taps = Array.from({ length: axis.kernel }, (_, t) => /** @type {[number, number]} */ ([index(t), t * axis.dilation - before]));
    return [{ start: 0, step: 1, count: output, inStep: axis.stride, taps }];
  }
  return Array.from({ length: Math.min(axis.stride, output) }, (_, start) => {
    /** @type {[number, number][]} */
    const taps = [];
    for (let t = 0; t < axis.kernel; t++) {
      const spread = start + before - t * axis.dilation;
      if (modulo(spread, axis.stride) === 0) taps.push([index(t), spread / axis.stride]);
    }
    return { start, step: axis.stride, count: ceilDiv(output - start, axis.stride), inStep: 1, taps };
  });
}

/** @param {number[]} sizes @returns {number[]} */
function pitchesOf(sizes) {
  return sizes.map((_, a) => product(sizes.slice(a + 1)));
}

/** @template T @param {T[][]} lists @returns {T[][]} */
function productOf(lists) {
  return lists.reduce((found, list) => found.flatMap((each) => list.map((item) => [...each, item])), /** @type {T[][]} */ ([[]]));
}

/** @param {Conv} conv @param {number[]} shape @returns {TapPlan} */
export function planTapCalls(conv, shape) {
  const output = convOutputShape(conv, shape);
  const missing = 5 - shape.length;
  /** @type {Phase} */
  const alone = { start: 0, step: 1, count: 1, inStep: 1, taps: [[0, 0]] };
  const phases = [
    ...new Array(missing).fill([alone]),
    ...axesOf(conv, shape).map((axis, a) => planPhases(axis, shape[2 + a])),
  ];
  const sizes = [...new Array(missing).fill(1), ...shape.slice(2)];
  const margins = phases.map((list, a) => {
    let [before, after] = [0, 0];
    for (const { count, inStep, taps } of list) {
      for (const [, offset] of taps) {
        before = Math.max(before, -offset);
        after = Math.max(after, (count - 1) * inStep + offset - sizes[a] + 1);
      }
    }
    return [before, after];
  });
  const before = margins.map((pair) => pair[0]);
  const frame = [shape[1], ...sizes.map((size, a) => margins[a][0] + size + margins[a][1])];
  const calls = productOf(phases).map((parts) => planCall(conv, parts, before, frame, output));
  return { output, before, frame, sizes, mode: conv.padding_mode, calls };
}

/** @param {Conv} conv @param {Phase[]} parts @param {number[]} before @param {number[]} frame @param {number[]} output @returns {TapCall} */
function planCall(conv, parts, before, frame, output) {
  const inside = pitchesOf(frame);
  const outside = pitchesOf([output[1], ...new Array(5 - output.length).fill(1), ...output.slice(2)]);
  const [wide, narrow] = [conv.in_channels / conv.groups, conv.out_channels / conv.groups];
  const kernel = [...new Array(5 - output.length).fill(1), ...conv.kernel_size];
  const volume = product(kernel);
  const taps = productOf(parts.map((phase) => phase.taps));
  /** @type {number[]} */
  const offsets = [];
  for (let j = 0; j < wide; j++) {
    for (const tap of taps) offsets.push(tap.reduce((sum, [, offset], a) => sum + (offset + before[a]) * inside[a + 1], j * inside[0]));
  }
  const places = taps.map((tap) => tap.reduce((sum, [t], a) => sum * kernel[a] + t, 0));
  /** @type {number[]} */
  const index = [];
  for (let c = 0; c < conv.out_channels; c++) {
    const group = Math.floor(c / narrow);
    for (let j = 0; j < wide; j++) {
      const row = conv.transposed ? (group * wide + j) * narrow + (c % narrow) : c * wide + j;
      for (const place of places) index.push(row * volume + place);
    }
  }
  /** @type {Record<string, number>} */
  const words = {
    taps: offsets.length, images: 1, groups: conv.groups, channels: narrow, planes: parts[0].count, rows: parts[1].count,
    columns: parts[2].count, x_image: product(frame), x_group: wide * inside[0], y_image: product(output.slice(1)),
    y_channel: outside[0],
  };
  ["plane", "row", "column"].forEach((name, a) => {
    words[`x_${name}`] = parts[a].inStep * inside[a + 1];
    words[`y_${name}`] = parts[a].step * outside[a + 1];
  });
  const start = parts.reduce((sum, phase, a) => sum + phase.start * outside[a + 1], 0);
  return { words, start, offsets: Int32Array.from(offsets), index: Int32Array.from(index) };
}

/** The input in its frame. @param {TapPlan} plan @param {ArrayLike<number>} x @param {Float32Array} frame */
export function fillFrame({ before, frame: shape, sizes, mode }, x, frame) {
  const [channels, D, H, W] = shape;
  const columns = Array.from({ length: W }, (_, w) => foldPlace(w - before[2], sizes[2], mode));
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let d = 0; d < D; d++) {
      const plane = foldPlace(d - before[0], sizes[0], mode);
      for (let h = 0; h < H; h++) {
        const row = foldPlace(h - before[1], sizes[1], mode);
        const base = ((c * sizes[0] + plane) * sizes[1] + row) * sizes[2];
        const zero = plane < 0 || row < 0;
        for (let w = 0; w < W; w++) frame[at++] = zero || columns[w] < 0 ? 0 : x[base + columns[w]];
      }
    }
  }
}
