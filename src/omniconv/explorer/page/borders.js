/** What "same" pads in TensorFlow, in ONNX and in PyTorch, and what each padding mode reads there: computed by the rules of each. */
import { OmniError, range } from "./integers.js";
import { countExtent, foldPlace, planSamePadding } from "./geometry.js";
import { PADDING_MODES, axesOf, convOutputShape } from "./spec.js";
import { stepsOf } from "./chain.js";

/** @import {Conv} from "./spec.js" */
/** @import {Spec} from "./chain.js" */

/**
 * One way to pad a layer.
 * @typedef {object} Border
 * @property {string} name
 * @property {[number, number][]} padding of each axis
 * @property {string} mode
 * @property {number[]} sizes of the result; none where it is refused
 * @property {number[][]} edges for each axis, the outputs that read padding
 * @property {number[]} shift for each axis, how much later its windows begin than TensorFlow's
 * @property {string} refusal
 */

/** The first step that is a plain convolution, with its input; null where there is none. @param {Spec} spec @param {number[][]} shapes */
export function firstConv(spec, shapes) {
  const index = stepsOf(spec).findIndex((step) => step.type === "conv" && !step.transposed);
  return index < 0 ? null : { conv: /** @type {Conv} */ (stepsOf(spec)[index]), shape: shapes[index], index };
}

/**
 * @param {string} name
 * @param {Conv} conv
 * @param {number[]} shape
 * @param {[number, number][]} padding
 * @param {string} mode
 * @returns {Border}
 */
function makeBorder(name, conv, shape, padding, mode) {
  const own = { ...conv, padding, padding_mode: mode };
  const axes = axesOf(own, shape);
  const shift = axes.map((axis, a) => planSamePadding(axis, shape[2 + a], false)[0] - padding[a][0]);
  try {
    const sizes = convOutputShape(own, shape).slice(2);
    const edges = axes.map((axis, a) => range(sizes[a]).filter((o) => {
      const first = o * axis.stride - padding[a][0];
      return first < 0 || first + countExtent(axis.kernel, axis.dilation) > shape[2 + a];
    }));
    return { name, padding, mode, sizes, edges, shift, refusal: "" };
  } catch (error) {
    if (!(error instanceof OmniError)) throw error;
    return { name, padding, mode, sizes: [], edges: [], shift, refusal: error.message };
  }
}

/** A convolution padded as each framework does it. @param {Conv} conv @param {number[]} shape @returns {Border[]} */
export function listSame(conv, shape) {
  const axes = axesOf(conv, shape);
  const sizes = shape.slice(2);
  const totals = axes.map((axis) => countExtent(axis.kernel, axis.dilation) - 1);
  /** @param {string} name @param {[number, number][]} padding */
  const border = (name, padding) => makeBorder(name, conv, shape, padding, conv.padding_mode);
  const torch = border('PyTorch: padding="same"', totals.map((total) => [Math.floor(total / 2), total - Math.floor(total / 2)]));
  if (conv.stride.some((s) => s > 1)) {
    Object.assign(torch, { sizes: [], edges: [], refusal: "PyTorch has no padding=\"same\" with a stride" });
  }
  return [
    border("this layer", axes.map((axis) => axis.padding)),
    border("TensorFlow, Keras: same", axes.map((axis, a) => planSamePadding(axis, sizes[a], false))),
    border("ONNX: SAME_LOWER", axes.map((axis, a) => planSamePadding(axis, sizes[a], true))),
    torch,
    border("PyTorch: padding = d (k − 1) / 2", totals.map((total) => [Math.floor(total / 2), Math.floor(total / 2)])),
    border("valid: none", axes.map(() => [0, 0])),
  ];
}

/** A convolution with its padding in every mode. @param {Conv} conv @param {number[]} shape @returns {Border[]} */
export function listModes(conv, shape) {
  const padding = axesOf(conv, shape).map((axis) => axis.padding);
  return PADDING_MODES.map((mode) => makeBorder(mode, conv, shape, padding, mode));
}

/** What stands along one axis with its padding: positions of the input, -1 for zeros. @param {Border} border @param {number} a @param {number} size */
export function readAlong({ padding, mode }, a, size) {
  return range(padding[a][0] + size + padding[a][1]).map((i) => foldPlace(i - padding[a][0], size, mode));
}
