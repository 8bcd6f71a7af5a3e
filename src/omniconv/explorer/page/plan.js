/**
 * What every output of a step reads, as lists of taps for each axis and a map of channels.
 *
 * Tensors are flat arrays of one item of the batch: channels, then three axes (missing ones have size 1).
 */
import { modulo, product, range } from "./integers.js";
import { planTaps } from "./geometry.js";
import { axesOf } from "./spec.js";
import { shapesOf, shuffleSource, slicesOf, stepsOf } from "./chain.js";

/** @import {Conv} from "./spec.js" */
/** @import {Spec, Step} from "./chain.js" */

/**
 * A tap of one axis: kernel index, position before padding is folded, position that is read (-1: zero), and the share
 * with which a resize weighs it (1 for convolutions).
 * @typedef {{tap: number, place: number, read: number, share: number}} Reading
 */

/**
 * Channels in groups, and for each axis the readings of each output.
 * @typedef {object} Part
 * @property {Conv | null} conv null for a resize
 * @property {number} firstIn
 * @property {number} firstOut
 * @property {number} groups
 * @property {number} wide input channels of a group
 * @property {number} narrow output channels of a group
 * @property {Reading[][][]} axes
 */

/**
 * @typedef {object} Plan
 * @property {Step} step
 * @property {number} channelsIn
 * @property {number[]} sizesIn three of them
 * @property {number} channelsOut
 * @property {number[]} sizesOut three of them
 * @property {Part[]} parts empty for a step that copies
 * @property {Int32Array | null} copies for each output the input it copies
 */

/** Three sizes. @param {number[]} shape @returns {number[]} */
export function sizesOf(shape) {
  return [...new Array(5 - shape.length).fill(1), ...shape.slice(2)];
}

/** A plan for each step of a spec. @param {Spec} spec @param {number[]} shape @returns {Plan[]} */
export function planSpec(spec, shape) {
  const shapes = shapesOf(spec, shape);
  return stepsOf(spec).map((step, index) => planStep(step, shapes[index], shapes[index + 1]));
}

/** @param {Step} step @param {number[]} before @param {number[]} after @returns {Plan} */
function planStep(step, before, after) {
  /** @type {Plan} */
  const plan = {
    step,
    channelsIn: before[1],
    sizesIn: sizesOf(before),
    channelsOut: after[1],
    sizesOut: sizesOf(after),
    parts: [],
    copies: null,
  };
  switch (step.type) {
    case "conv":
      plan.parts = [planConv(step, before, 0, 0)];
      break;
    case "split":
      plan.parts = slicesOf(step).map(({ branch, firstIn, firstOut }) =>
        planConv(branch, [before[0], branch.in_channels, ...before.slice(2)], firstIn, firstOut),
      );
      break;
    case "resize":
      plan.parts = [planResize(step.factor, step.mode, before)];
      break;
    default:
      plan.copies = planCopies(plan);
  }
  return plan;
}

/** @param {Conv} conv @param {number[]} shape @param {number} firstIn @param {number} firstOut @returns {Part} */
function planConv(conv, shape, firstIn, firstOut) {
  const axes = axesOf(conv, shape).map((axis, a) =>
    planTaps(axis, shape[2 + a], conv.padding_mode).map((taps) => taps.map((tap) => ({ ...tap, share: 1 }))),
  );
  return {
    conv,
    firstIn,
    firstOut,
    groups: conv.groups,
    wide: conv.in_channels / conv.groups,
    narrow: conv.out_channels / conv.groups,
    axes: withLeadingAxes(axes),
  };
}

/** @param {Reading[][][]} axes @returns {Reading[][][]} */
function withLeadingAxes(axes) {
  const one = [[{ tap: 0, place: 0, read: 0, share: 1 }]];
  return [...new Array(3 - axes.length).fill(one), ...axes];
}

/** @param {number} factor @param {string} mode @param {number[]} shape @returns {Part} */
function planResize(factor, mode, shape) {
  const axes = shape.slice(2).map((size) =>
    range(size * factor).map((o) => {
      const pairs = resizeReads(o, factor, mode);
      const inside = pairs.map(([place, share]) => [Math.min(Math.max(place, 0), size - 1), share]);
      // At the border both neighbours are the same value.
      const merged = inside.length === 2 && inside[0][0] === inside[1][0] ? [[inside[0][0], 1]] : inside;
      return merged.map(([place, share]) => ({ tap: 0, place, read: place, share }));
    }),
  );
  return { conv: null, firstIn: 0, firstOut: 0, groups: shape[1], wide: 1, narrow: 1, axes: withLeadingAxes(axes) };
}

/**
 * Positions that output `o` of a resize reads on an axis without ends, and their shares.
 * @param {number} o
 * @param {number} factor
 * @param {string} mode
 * @returns {[number, number][]}
 */
export function resizeReads(o, factor, mode) {
  if (mode === "nearest") return [[Math.floor(o / factor), 1]];
  const numerator = 2 * o + 1 - factor;
  const rest = modulo(numerator, 2 * factor);
  const cell = (numerator - rest) / (2 * factor);
  const fraction = rest / (2 * factor);
  return fraction ? [[cell, 1 - fraction], [cell + 1, fraction]] : [[cell, 1]];
}

/** @param {Plan} plan @returns {Int32Array} */
function planCopies({ step, channelsIn, channelsOut, sizesIn, sizesOut }) {
  const positions = product(sizesOut);
  const copies = new Int32Array(channelsOut * positions);
  if (step.type === "pixel_shuffle") {
    const factors = sizesOut.map((size, a) => size / sizesIn[a]);
    const block = product(factors);
    let index = 0;
    for (let c = 0; c < channelsOut; c++) {
      for (let d = 0; d < sizesOut[0]; d++) {
        for (let h = 0; h < sizesOut[1]; h++) {
          for (let w = 0; w < sizesOut[2]; w++) {
            const place = [d, h, w];
            const rest = place.reduce((sum, o, a) => sum * factors[a] + (o % factors[a]), 0);
            const from = place.reduce((sum, o, a) => sum * sizesIn[a] + Math.floor(o / factors[a]), 0);
            copies[index++] = (c * block + rest) * product(sizesIn) + from;
          }
        }
      }
    }
    return copies;
  }
  const source = step.type === "shuffle" ? shuffleSource(step, channelsIn) : range(channelsIn);
  source.forEach((from, c) => {
    for (let p = 0; p < positions; p++) copies[c * positions + p] = from * positions + p;
  });
  return copies;
}
