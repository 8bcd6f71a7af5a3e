/** The constructors of all kinds, with the names and defaults of the Python package. */
import { asChoice, asInteger, asIntegers, ceilDiv, floorDiv, product, range, repr, specError } from "./integers.js";
import { activation } from "./activation.js";
import { countExtent } from "./geometry.js";
import { conv, perAxis, resolveDims } from "./spec.js";
import { chain, pixelShuffle, resize, shuffle, split } from "./chain.js";

/** @import {Conv} from "./spec.js" */
/** @import {Step} from "./chain.js" */
/** @import {Spec} from "./chain.js" */
/** @typedef {Record<string, unknown>} Arguments */

/** What a constructor takes, with its defaults; `undefined` must be given. @type {Record<string, Arguments>} */
export const DEFAULTS = {
  asymmetric: withSpace({ in_channels: undefined, out_channels: undefined, mid_channels: null, activation: null }),
  blueprint_separable: withSpace({
    in_channels: undefined, out_channels: undefined, mid_channels: null, activation: null,
  }),
  causal: {
    in_channels: undefined, out_channels: undefined, kernel_size: undefined, axes: null, stride: 1, dilation: 1,
    groups: 1, padding_mode: "zeros", dims: null,
  },
  convolution: withSpace({ in_channels: undefined, out_channels: undefined, groups: 1 }),
  cross_correlation: withSpace({ in_channels: undefined, out_channels: undefined, groups: 1 }),
  depthwise: withSpace({ in_channels: undefined, channel_multiplier: 1 }),
  depthwise_separable: withSpace({
    in_channels: undefined, out_channels: undefined, channel_multiplier: 1, activation: null,
  }),
  dilated: { ...withSpace({ in_channels: undefined, out_channels: undefined, groups: 1 }), dilation: 2 },
  factorised: withSpace({ in_channels: undefined, out_channels: undefined, mid_channels: null, activation: null }),
  flattened: withSpace({ in_channels: undefined, out_channels: undefined, activation: null }),
  grouped: withSpace({ in_channels: undefined, out_channels: undefined, groups: undefined }),
  mixed: {
    in_channels: undefined, kernel_sizes: [3, 5, 7], splits: null, channel_multiplier: 1, stride: 1, dilation: 1,
    padding: "same", padding_mode: "zeros", dims: null,
  },
  pointwise: { in_channels: undefined, out_channels: undefined, stride: 1, dims: null },
  pointwise_grouped: { in_channels: undefined, out_channels: undefined, groups: undefined, stride: 1, dims: null },
  resize_conv: {
    in_channels: undefined, out_channels: undefined, kernel_size: undefined, factor: 2, mode: "nearest", dilation: 1,
    padding: 0, groups: 1, padding_mode: "zeros", dims: null,
  },
  shuffled_grouped: {
    ...withSpace({
      in_channels: undefined, out_channels: undefined, groups: undefined, form: "unit", mid_channels: null,
      second_groups: null, activation: null,
    }),
    kernel_size: 3,
  },
  spatially_separable: {
    ...withSpace({ in_channels: undefined, out_channels: null, form: "per_channel", mid_channels: null }),
    kernel_size: 3,
  },
  sub_pixel: {
    in_channels: undefined, out_channels: undefined, kernel_size: undefined, factor: 2, dilation: 1, padding: 0,
    groups: 1, padding_mode: "zeros", activation: null, dims: null,
  },
  transposed: {
    in_channels: undefined, out_channels: undefined, kernel_size: undefined, stride: 2, dilation: 1, padding: 0,
    output_padding: 0, groups: 1, flip: false, dims: null,
  },
};

/** @param {Arguments} channels @returns {Arguments} */
function withSpace(channels) {
  const space = { kernel_size: undefined, stride: 1, dilation: 1, padding: 0, padding_mode: "zeros", dims: null };
  return { ...channels, ...space };
}

/** @param {Arguments} a @param {Arguments} [changed] */
function spaceOf(a, changed = {}) {
  const { stride, dilation, padding, padding_mode, dims } = a;
  return { stride, dilation, padding, padding_mode, dims, ...changed };
}

/** @param {unknown} name @returns {Step[]} */
function stepsFor(name) {
  return name === null ? [] : [activation(/** @type {string} */ (name))];
}

/** The part of a whole layer that acts on some axes: kernel 1, stride 1 and no padding on all others. */
/** @param {Conv} whole @param {number[]} axes @param {number} ic @param {number} oc @param {number} [groups] */
function restrict(whole, axes, ic, oc, groups = 1) {
  /** @param {number[]} values */
  const only = (values) => values.map((value, a) => (axes.includes(a) ? value : 1));
  const { padding } = whole;
  return conv(ic, oc, only(whole.kernel_size), {
    dims: whole.kernel_size.length,
    stride: only(whole.stride),
    dilation: only(whole.dilation),
    padding: typeof padding === "string" ? padding : padding.map((pair, a) => (axes.includes(a) ? pair : [0, 0])),
    groups,
    padding_mode: whole.padding_mode,
  });
}

/** @param {Arguments} a @param {Arguments} [changed] */
function wholeOf(a, changed = {}) {
  return conv(a.in_channels, a.out_channels, a.kernel_size, spaceOf(a, changed));
}

/** @param {unknown} inChannels @param {unknown} kernelSize @param {unknown} multiplier @param {Arguments} space */
function depthwiseOf(inChannels, kernelSize, multiplier, space) {
  const channels = asInteger("in_channels", inChannels);
  const out = channels * asInteger("channel_multiplier", multiplier);
  return conv(channels, out, kernelSize, { ...space, groups: channels });
}

/** @param {unknown} ic @param {unknown} oc @param {Arguments} options */
function pointwiseOf(ic, oc, { stride = 1, dims = null, groups = 1 }) {
  return conv(ic, oc, 1, { dims: resolveDims(dims, [stride]), stride, groups });
}

/** A dense layer for each axis. @param {Conv} whole @param {number} mid */
function axisLayers(whole, mid) {
  const dims = whole.kernel_size.length;
  const widths = [whole.in_channels, ...new Array(dims - 1).fill(mid), whole.out_channels];
  return range(dims).map((axis) => restrict(whole, [axis], widths[axis], widths[axis + 1]));
}

/** @type {Record<string, (a: Arguments) => Spec>} */
const BUILD = {
  asymmetric(a) {
    const whole = wholeOf(a);
    const mid = a.mid_channels === null ? whole.out_channels : asInteger("mid_channels", a.mid_channels);
    const layers = axisLayers(whole, mid);
    return chain(layers.flatMap((layer, axis) => [...(axis ? stepsFor(a.activation) : []), layer]));
  },
  blueprint_separable(a) {
    const dims = resolveDims(a.dims, [a.kernel_size, a.stride, a.dilation, a.padding]);
    const mixing =
      a.mid_channels === null
        ? [pointwiseOf(a.in_channels, a.out_channels, { dims })]
        : [
            pointwiseOf(a.in_channels, a.mid_channels, { dims }),
            pointwiseOf(a.mid_channels, a.out_channels, { dims }),
          ];
    const spatial = depthwiseOf(a.out_channels, a.kernel_size, 1, spaceOf(a, { dims }));
    return chain([...mixing, ...stepsFor(a.activation), spatial]);
  },
  causal(a) {
    const dims = resolveDims(a.dims, [a.kernel_size, a.stride, a.dilation]);
    const chosen = a.axes === null ? range(dims) : asIntegers("axes", a.axes, 0, dims - 1);
    const kernels = perAxis("kernel_size", a.kernel_size, dims, 1);
    const dilation = perAxis("dilation", a.dilation, dims, 1);
    const padding = kernels.map((k, axis) => {
      const total = countExtent(k, dilation[axis]) - 1;
      const half = floorDiv(total, 2);
      return chosen.includes(axis) ? [total, 0] : [half, total - half];
    });
    return conv(a.in_channels, a.out_channels, kernels, {
      dims, stride: a.stride, dilation, padding, groups: a.groups, padding_mode: a.padding_mode,
    });
  },
  convolution: (a) => wholeOf(a, { groups: a.groups, flip: true }),
  cross_correlation: (a) => wholeOf(a, { groups: a.groups }),
  depthwise: (a) => depthwiseOf(a.in_channels, a.kernel_size, a.channel_multiplier, spaceOf(a)),
  depthwise_separable(a) {
    const spatial = depthwiseOf(a.in_channels, a.kernel_size, a.channel_multiplier, spaceOf(a));
    const dims = spatial.kernel_size.length;
    return chain([spatial, ...stepsFor(a.activation), pointwiseOf(spatial.out_channels, a.out_channels, { dims })]);
  },
  dilated: (a) => wholeOf(a, { groups: a.groups }),
  factorised(a) {
    const dims = resolveDims(a.dims, [a.kernel_size, a.stride, a.dilation, a.padding], 3);
    if (dims === 1) throw specError("dims=1 has no spatial axis beside time", { need: "dims=2 or dims=3" });
    const whole = wholeOf(a, { dims });
    const [time, ...space] = whole.kernel_size;
    const taps = product(space);
    const full = time * taps * whole.in_channels * whole.out_channels;
    const mid =
      a.mid_channels === null
        ? Math.max(1, floorDiv(full, taps * whole.in_channels + time * whole.out_channels))
        : asInteger("mid_channels", a.mid_channels);
    return chain([
      restrict(whole, range(dims).slice(1), whole.in_channels, mid),
      ...stepsFor(a.activation),
      restrict(whole, [0], mid, whole.out_channels),
    ]);
  },
  flattened(a) {
    const whole = wholeOf(a);
    const out = whole.out_channels;
    const along = range(whole.kernel_size.length).map((axis) => restrict(whole, [axis], out, out, out));
    return chain([restrict(whole, [], whole.in_channels, out), ...stepsFor(a.activation), ...along]);
  },
  grouped: (a) => wholeOf(a, { groups: a.groups }),
  mixed: buildMixed,
  pointwise: (a) => pointwiseOf(a.in_channels, a.out_channels, { stride: a.stride, dims: a.dims }),
  pointwise_grouped: (a) =>
    pointwiseOf(a.in_channels, a.out_channels, { stride: a.stride, dims: a.dims, groups: a.groups }),
  resize_conv(a) {
    const layer = wholeOf({ ...a, stride: 1 }, { groups: a.groups });
    return chain([resize(asInteger("factor", a.factor), a.mode), layer]);
  },
  shuffled_grouped: buildShuffled,
  spatially_separable: buildSeparable,
  sub_pixel(a) {
    const dims = resolveDims(a.dims, [a.kernel_size, a.dilation, a.padding]);
    const out = asInteger("out_channels", a.out_channels) * asInteger("factor", a.factor) ** dims;
    const layer = conv(a.in_channels, out, a.kernel_size, spaceOf(a, { stride: 1, dims, groups: a.groups }));
    return chain([layer, ...stepsFor(a.activation), pixelShuffle(a.factor)]);
  },
  transposed: (a) =>
    conv(a.in_channels, a.out_channels, a.kernel_size, {
      dims: a.dims, stride: a.stride, dilation: a.dilation, padding: a.padding, groups: a.groups, transposed: true,
      output_padding: a.output_padding, flip: a.flip,
    }),
};

/** @param {Arguments} a */
function buildMixed(a) {
  const channels = asInteger("in_channels", a.in_channels);
  const kernels = eachOf("kernel_sizes", a.kernel_sizes);
  const slices = kernels.length;
  if (slices < 1 || slices > channels) {
    const need = "a kernel size or more, a channel for each";
    throw specError(`${slices} kernel sizes and in_channels=${channels}`, { need });
  }
  const names = ["same", "same_lower", "causal"];
  if (!names.includes(/** @type {string} */ (a.padding))) {
    const problem = `padding=${repr(a.padding)} gives slices of different sizes`;
    throw specError(problem, { need: `one of ${names.join(", ")}` });
  }
  let widths = range(slices).map((i) => floorDiv(channels, slices) + (i < channels % slices ? 1 : 0));
  if (a.splits !== null) widths = perAxis("splits", eachOf("splits", a.splits), slices, 1);
  const sum = widths.reduce((total, width) => total + width, 0);
  if (sum !== channels) {
    const problem = `splits=${repr(a.splits)} have the sum ${sum}`;
    throw specError(problem, { need: `in_channels=${channels}`, fix: "splits=None" });
  }
  const dims = resolveDims(a.dims, [...kernels, a.stride, a.dilation]);
  const branches = widths.map((width, i) => depthwiseOf(width, kernels[i], a.channel_multiplier, spaceOf(a, { dims })));
  return chain([split(branches)]);
}

/** @param {string} name @param {unknown} value @returns {unknown[]} */
function eachOf(name, value) {
  if (!Array.isArray(value)) throw specError(`${name}=${repr(value)} is not a sequence`, { need: "a tuple or a list" });
  return value;
}

/** @param {Arguments} a */
function buildShuffled(a) {
  asChoice("form", a.form, ["unit", "layers"]);
  const first = asInteger("groups", a.groups);
  const last = asInteger("out_channels", a.out_channels);
  const second = a.second_groups === null ? first : asInteger("second_groups", a.second_groups);
  let mid = a.form === "unit" ? ceilDiv(last, 4 * first) * first : last;
  if (a.mid_channels !== null) mid = asInteger("mid_channels", a.mid_channels);
  const dims = resolveDims(a.dims, [a.kernel_size, a.stride, a.dilation, a.padding]);
  const between = [...stepsFor(a.activation), shuffle(first)];
  const expand = pointwiseOf(mid, last, { groups: second, dims });
  if (a.form === "layers") {
    const layer = conv(a.in_channels, mid, a.kernel_size, spaceOf(a, { dims, groups: first }));
    return chain([layer, ...between, expand]);
  }
  const reduce = pointwiseOf(a.in_channels, mid, { groups: first, dims });
  return chain([reduce, ...between, depthwiseOf(mid, a.kernel_size, 1, spaceOf(a, { dims })), expand]);
}

/** @param {Arguments} a */
function buildSeparable(a) {
  const channels = asInteger("in_channels", a.in_channels);
  const last = a.out_channels === null ? channels : asInteger("out_channels", a.out_channels);
  const whole = conv(channels, last, a.kernel_size, spaceOf(a));
  asChoice("form", a.form, ["per_channel", "dense"]);
  if (a.form === "per_channel") {
    if (last !== channels || (a.mid_channels !== null && asInteger("mid_channels", a.mid_channels) !== channels)) {
      const middle = `mid_channels=${repr(a.mid_channels)}`;
      const problem = `form="per_channel" with in_channels=${channels}, ${middle}, out_channels=${last}`;
      throw specError(problem, { need: "equal channel counts", fix: 'form="dense"' });
    }
    const axes = range(whole.kernel_size.length);
    return chain(axes.map((axis) => restrict(whole, [axis], channels, channels, channels)));
  }
  return chain(axisLayers(whole, a.mid_channels === null ? last : asInteger("mid_channels", a.mid_channels)));
}

/** The spec of a kind, from its arguments by name. @param {string} kind @param {Arguments} given @returns {Spec} */
export function buildKind(kind, given) {
  asChoice("kind", kind, Object.keys(BUILD));
  return BUILD[kind]({ ...DEFAULTS[kind], ...given });
}

