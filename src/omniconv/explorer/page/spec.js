/** One convolution of any kind, described once: channels, taps and channel map; no sizes and no weights. */
import {
  LIMIT, asChoice, asFlag, asInteger, asIntegers, asShape, floorDiv, gcd, product, range, repr, shapeError, specError,
} from "./integers.js";
import { countExtent, inferOutput, planSamePadding } from "./geometry.js";
import { formatConv } from "./format.js";

/** @import {Axis} from "./geometry.js" */
/** @typedef {[number, number]} Pair */
/** @typedef {Pair[] | "same_upper" | "same_lower"} Padding */

/**
 * Field names are those of Python's `Conv`, so that one word means one thing in both languages.
 * @typedef {object} Conv
 * @property {"conv"} type
 * @property {number} in_channels
 * @property {number} out_channels
 * @property {number[]} kernel_size
 * @property {number[]} stride
 * @property {number[]} dilation
 * @property {Padding} padding
 * @property {number} groups
 * @property {boolean} transposed
 * @property {number[]} output_padding
 * @property {boolean} flip
 * @property {string} padding_mode
 */

export const PADDING_MODES = ["zeros", "reflect", "replicate", "circular"];

/** Number of axes: `dims` where given, else the one length of the arrays among `values`, else `fallback`. */
/** @param {unknown} dims @param {unknown[]} values @param {number} [fallback] @returns {number} */
export function resolveDims(dims, values, fallback = 2) {
  let found = dims;
  if (dims === null || dims === undefined) {
    const lengths = new Set(values.filter(Array.isArray).map((items) => items.length));
    found = lengths.size === 1 ? [...lengths][0] : fallback;
  }
  return asInteger("dims", found, 1, 3);
}

/** @param {string} name @param {unknown} value @param {number} dims @param {number} minimum @returns {number[]} */
export function perAxis(name, value, dims, minimum) {
  if (!Array.isArray(value)) return new Array(dims).fill(asInteger(name, value, minimum));
  if (value.length !== dims) {
    const need = `one, or one for each of ${dims} axes`;
    throw specError(`${name}=${repr(value)} has ${value.length} values`, { need });
  }
  return asIntegers(name, value, minimum, LIMIT, { need: "integers" });
}

/** @param {unknown} padding @param {number} dims @returns {Pair[]} */
function checkPairs(padding, dims) {
  const items = Array.isArray(padding) ? padding : [];
  if (items.length !== dims) {
    const need = `one pair for each of ${dims} axes`;
    throw specError(`padding=${repr(padding)} has ${items.length} pairs`, { need });
  }
  const pairs = items.map((item) => asIntegers("padding", item, 0, LIMIT, { need: "(before, after)" }));
  for (const pair of pairs) {
    if (pair.length !== 2) {
      throw specError(`padding=${repr(padding)} has ${pair.length} values on an axis`, { need: "(before, after)" });
    }
  }
  return /** @type {Pair[]} */ (pairs);
}

/**
 * Every accepted way to write padding as pairs, or a "same" that depends on the size.
 * @param {unknown} padding
 * @param {{kernel: number[], stride: number[], dilation: number[], transposed: boolean, extra: number[]}} layer
 * @returns {{pairs: Padding, extra: number[]}}
 */
function normalisePadding(padding, { kernel, stride, dilation, transposed, extra }) {
  const dims = kernel.length;
  const extents = kernel.map((k, a) => countExtent(k, dilation[a]));
  if (typeof padding === "string") {
    const name = padding === "same" ? "same_upper" : padding;
    if (name === "valid") return { pairs: kernel.map(() => [0, 0]), extra };
    if (name === "causal") {
      if (!transposed) return { pairs: extents.map((e) => [e - 1, 0]), extra };
      return {
        pairs: extents.map((e, a) => [0, Math.max(e - stride[a], 0)]),
        extra: extents.map((e, a) => Math.max(stride[a] - e, 0)),
      };
    }
    if (name === "same_upper" || name === "same_lower") {
      let totals = extents.map((e) => e - 1);
      if (transposed) {
        totals = extents.map((e, a) => e - stride[a]);
        extra = totals.map((total) => Math.max(-total, 0));
      } else if (!stride.every((s) => s === 1)) {
        return { pairs: name, extra };
      }
      const halves = totals.map((total) => [floorDiv(Math.max(total, 0), 2), Math.max(total, 0)]);
      const pairs = halves.map(([half, total]) => [half, total - half]);
      return { pairs: /** @type {Pair[]} */ (name === "same_upper" ? pairs : pairs.map(([a, b]) => [b, a])), extra };
    }
    const need = 'an integer, pairs, "valid", "same", "same_lower" or "causal"';
    throw specError(`padding=${repr(padding)} is unknown`, { need });
  }
  if (Array.isArray(padding) && padding.some(Array.isArray)) {
    if (!padding.every(Array.isArray)) {
      throw specError(`padding=${repr(padding)} mixes integers and pairs`, { need: "one or the other" });
    }
    return { pairs: checkPairs(padding, dims), extra };
  }
  return { pairs: perAxis("padding", padding, dims, 0).map((p) => [p, p]), extra };
}

/**
 * @typedef {object} ConvOptions
 * @property {unknown} [dims]
 * @property {unknown} [stride]
 * @property {unknown} [dilation]
 * @property {unknown} [padding]
 * @property {unknown} [groups]
 * @property {unknown} [transposed]
 * @property {unknown} [output_padding]
 * @property {unknown} [flip]
 * @property {unknown} [padding_mode]
 */

/**
 * Python's `Conv.of`.
 * @param {unknown} inChannels
 * @param {unknown} outChannels
 * @param {unknown} kernelSize
 * @param {ConvOptions} [options]
 * @returns {Conv}
 */
export function conv(inChannels, outChannels, kernelSize, options = {}) {
  const given = {
    stride: 1, dilation: 1, padding: /** @type {unknown} */ (0), groups: /** @type {unknown} */ (1),
    transposed: /** @type {unknown} */ (false), output_padding: 0, flip: /** @type {unknown} */ (false),
    padding_mode: /** @type {unknown} */ ("zeros"), ...options,
  };
  const dims = resolveDims(options.dims, [
    kernelSize, given.stride, given.dilation, given.output_padding, given.padding,
  ]);
  const transposed = asFlag("transposed", given.transposed);
  const kernel = perAxis("kernel_size", kernelSize, dims, 1);
  const stride = perAxis("stride", given.stride, dims, 1);
  const dilation = perAxis("dilation", given.dilation, dims, 1);
  const output = perAxis("output_padding", given.output_padding, dims, 0);
  const { pairs, extra } = normalisePadding(given.padding, { kernel, stride, dilation, transposed, extra: output });
  /** @type {Conv} */
  const found = {
    type: "conv",
    in_channels: asInteger("in_channels", inChannels),
    out_channels: asInteger("out_channels", outChannels),
    groups: asInteger("groups", given.groups),
    transposed,
    flip: asFlag("flip", given.flip),
    kernel_size: kernel,
    stride,
    dilation,
    padding: pairs,
    output_padding: extra,
    padding_mode: /** @type {string} */ (given.padding_mode),
  };
  return checkConv(found);
}

/** @param {Conv} spec @returns {Conv} */
function checkConv(spec) {
  const at = () => formatConv(spec);
  for (const name of /** @type {const} */ (["in_channels", "out_channels"])) {
    if (spec[name] % spec.groups) {
      const common = gcd(spec.in_channels, spec.out_channels);
      const legal = range(common + 1).filter((g) => g >= 2 && common % g === 0).slice(0, 2);
      throw specError(`groups=${spec.groups} does not divide ${name}=${spec[name]}`, {
        need: `${name} % groups == 0`,
        fix: (legal.length ? legal : [1]).map((g) => `groups=${g}`).join(" or "),
        at: at(),
      });
    }
  }
  asChoice("padding_mode", spec.padding_mode, PADDING_MODES);
  if (spec.padding_mode !== "zeros" && spec.transposed) {
    const problem = `padding_mode=${repr(spec.padding_mode)} with transposed=True has no meaning`;
    throw specError(`${problem}: its padding crops the output`, { need: 'padding_mode="zeros"', at: at() });
  }
  spec.output_padding.forEach((extra, a) => {
    const [stride, dilation] = [spec.stride[a], spec.dilation[a]];
    if (extra && !spec.transposed) {
      const problem = `output_padding=${repr(spec.output_padding)} on a convolution that is not transposed`;
      throw specError(problem, { need: "output_padding=0", at: at() });
    }
    if (extra && extra >= Math.max(stride, dilation)) {
      throw specError(`output_padding=${extra} is not below stride=${stride} or dilation=${dilation}`, {
        need: "output_padding < max(stride, dilation)",
        fix: `output_padding=${Math.max(stride, dilation) - 1}`,
        at: at(),
      });
    }
  });
  return spec;
}

/** @param {Conv} spec @returns {number[]} */
export function weightShape(spec) {
  if (spec.transposed) return [spec.in_channels, spec.out_channels / spec.groups, ...spec.kernel_size];
  return [spec.out_channels, spec.in_channels / spec.groups, ...spec.kernel_size];
}

/** @param {Conv} spec @param {number[]} shape @returns {Axis[]} */
export function axesOf(spec, shape) {
  return spec.kernel_size.map((kernel, a) => {
    /** @type {Axis} */
    const axis = {
      kernel,
      stride: spec.stride[a],
      dilation: spec.dilation[a],
      padding: [0, 0],
      transposed: spec.transposed,
      outputPadding: spec.output_padding[a],
      flip: spec.flip,
    };
    axis.padding =
      typeof spec.padding === "string"
        ? planSamePadding(axis, shape[2 + a], spec.padding === "same_lower")
        : spec.padding[a];
    return axis;
  });
}

/** @param {unknown} shape @param {number} channels @param {number} dims @param {() => string} text @returns {number[]} */
export function takeShape(shape, channels, dims, text) {
  const example = repr([1, channels, ...new Array(dims).fill(32)]);
  const taken = asShape(shape, { fix: example, at: text() });
  if (taken.length !== dims + 2) {
    throw shapeError(`input of shape ${repr(taken)} has rank ${taken.length}`, {
      need: `(N, C, *spatial) of rank ${dims + 2}`,
      fix: example,
      at: text(),
    });
  }
  return taken;
}

/** @param {Conv} spec @param {unknown} given @returns {number[]} */
export function convOutputShape(spec, given) {
  const dims = spec.kernel_size.length;
  const shape = takeShape(given, spec.in_channels, dims, () => formatConv(spec));
  if (shape[1] !== spec.in_channels) {
    throw shapeError(`input of shape ${repr(shape)} has ${shape[1]} channels`, {
      need: `in_channels=${spec.in_channels} on axis 1 (channels first)`,
      fix: repr([shape[0], spec.in_channels, ...shape.slice(2)]),
      at: formatConv(spec, shape),
    });
  }
  const sizes = axesOf(spec, shape).map((axis, index) => {
    const size = shape[2 + index];
    const widest = { reflect: size - 1, circular: size }[spec.padding_mode];
    if (widest !== undefined && Math.max(...axis.padding) > widest) {
      const problem = `${spec.padding_mode} padding ${repr(axis.padding)} on spatial axis ${index} of size ${size}`;
      throw shapeError(problem, { need: `at most ${widest}`, at: formatConv(spec, shape) });
    }
    const output = inferOutput(axis, size);
    const extent = countExtent(axis.kernel, axis.dilation);
    if (output < 1) {
      const detail = axis.transposed ? "input" : "padded input";
      const room = axis.transposed ? size : size + axis.padding[0] + axis.padding[1];
      const problem = `spatial axis ${index} would have output size ${output}: kernel extent ${extent}, ${detail} size ${room}`;
      throw shapeError(problem, {
        need: axis.transposed ? "output size >= 1" : "kernel extent <= padded input size",
        fix: axis.transposed ? "less padding" : `padding=${floorDiv(extent, 2)}`,
        at: formatConv(spec, shape),
      });
    }
    if (output > LIMIT) {
      const problem = `spatial axis ${index} would have output size ${output}`;
      throw shapeError(problem, { need: `at most ${LIMIT}`, at: formatConv(spec, shape) });
    }
    return output;
  });
  return [shape[0], spec.out_channels, ...sizes];
}

/** Nominal multiply-accumulates: every tap counts, also in the padding. @param {Conv} spec @param {number[]} shape */
export function countMacs(spec, shape) {
  const result = convOutputShape(spec, shape);
  const positions = product((spec.transposed ? shape : result).slice(2));
  return shape[0] * positions * product(weightShape(spec));
}
