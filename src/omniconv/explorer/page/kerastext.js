/**
 * A layer as Keras code, channels last as is usual there. What no layer of Keras says (strides with dilation, crops with an input that is
 * longer, groups of a transposed layer, other paddings) is composed of what it has, exactly, and a comment says so.
 */
import { ceilDiv, floorDiv, formatFloat } from "./integers.js";
import { countExtent, planSamePadding } from "./geometry.js";
import { axesOf } from "./spec.js";
import { shapesOf, stepsOf } from "./chain.js";
import { KERAS_CLASSES } from "./kerasclasses.js";
import { pythonTuple } from "./torchtext.js";

/** @import {Activation} from "./activation.js" */
/** @import {Conv} from "./spec.js" */
/** @import {Spec, Step} from "./chain.js" */

/** @type {Record<string, string>} */
const KERAS_ACTIVATIONS = {
  relu: "layers.ReLU()", relu6: "layers.ReLU(max_value=6)", sigmoid: 'layers.Activation("sigmoid")', silu: 'layers.Activation("silu")',
  hard_swish: 'layers.Activation("hard_silu")', tanh: 'layers.Activation("tanh")', gelu: "layers.Activation(lambda x: keras.activations.gelu(x, approximate=False))",
  gelu_tanh: "layers.Activation(lambda x: keras.activations.gelu(x, approximate=True))", exp: "layers.Activation(keras.ops.exp)",
  sqrt: "layers.Activation(keras.ops.sqrt)", abs: "layers.Activation(keras.ops.abs)", neg: "layers.Activation(keras.ops.negative)",
};

/** @param {Activation} step */
function kerasActivation(step) {
  if (Object.hasOwn(KERAS_ACTIVATIONS, step.name)) return KERAS_ACTIVATIONS[step.name];
  const p = Object.fromEntries(step.parameters);
  /** @param {number} value */
  const number = (value) => (Number.isFinite(value) ? formatFloat(value) : `float("${formatFloat(value)}")`);
  if (step.name === "leaky_relu") return `layers.LeakyReLU(negative_slope=${number(p.alpha)})`;
  if (step.name === "elu") return `layers.ELU(alpha=${number(p.alpha)})`;
  if (step.name === "clip") return `layers.Activation(lambda x: keras.ops.clip(x, ${number(p.lo)}, ${number(p.hi)}))`;
  return `layers.Activation(lambda x: keras.ops.clip(${number(p.alpha)} * x + ${number(p.beta)}, 0, 1))`;
}

/** Pairs of an axis each, as Keras takes them. @param {[number, number][]} pairs */
function pairTuple(pairs) {
  const words = pairs.map(([before, after]) => `(${before}, ${after})`);
  return words.length === 1 ? words[0] : `(${words.join(", ")})`;
}

/** What to tell of a convolution that is mirrored. @param {Conv} conv */
function mirrorWords(conv) {
  return conv.flip && conv.kernel_size.some((k) => k > 1) ? "  # with its weights mirrored on every axis" : "";
}

/** Dilation that matters. @param {Conv} conv */
function dilationOf(conv) {
  return conv.dilation.map((d, a) => (conv.kernel_size[a] > 1 ? d : 1));
}

/**
 * What Keras calls the padding of a convolution, or layers before it and "valid".
 * @param {Conv} conv
 * @param {number[]} shape
 * @returns {{word: string, before: string[]}}
 */
function paddingOf(conv, shape) {
  const axes = axesOf(conv, shape);
  const pairs = axes.map((axis) => axis.padding);
  const dims = pairs.length;
  if (pairs.every(([before, after]) => !before && !after)) return { word: "valid", before: [] };
  if (conv.padding_mode !== "zeros") return { word: "valid", before: [`Pad(${dims === 1 ? `(${pairTuple(pairs)},)` : pairTuple(pairs)}, "${conv.padding_mode}"),`] };
  /** @param {[number, number][]} others */
  const are = (others) => pairs.every((pair, a) => pair.join() === others[a].join());
  if (are(axes.map((axis, a) => planSamePadding(axis, shape[2 + a], false)))) return { word: "same", before: [] };
  if (dims === 1 && !isDepthwise(conv) && are(axes.map((axis) => [countExtent(axis.kernel, axis.dilation) - 1, 0]))) return { word: "causal", before: [] };
  return { word: "valid", before: [`layers.ZeroPadding${dims}D(${pairTuple(pairs)}),`] };
}

/** Whether Keras has a depthwise layer for it. @param {Conv} conv */
function isDepthwise(conv) {
  return conv.groups > 1 && conv.groups === conv.in_channels && conv.kernel_size.length < 3 && new Set(conv.stride).size === 1;
}

/** @param {Conv} conv @param {number[]} shape @returns {string[]} */
function kerasConv(conv, shape) {
  if (conv.transposed) return conv.groups > 1 ? groupedTransposed(conv, shape) : kerasTransposed(conv, shape);
  const dims = conv.kernel_size.length;
  const dilation = dilationOf(conv);
  // Keras refuses strides with dilation; every s-th output of the layer without stride is the same.
  const apart = conv.stride.some((s) => s > 1) && dilation.some((d) => d > 1);
  const sizes = axesOf(conv, shape);
  const { word, before } = paddingOf(apart ? { ...conv, stride: conv.stride.map(() => 1), padding: sizes.map((axis) => axis.padding) } : conv, shape);
  const depthwise = isDepthwise(conv);
  const words = [...(depthwise ? [] : [String(conv.out_channels)]), pythonTuple(conv.kernel_size)];
  if (depthwise && conv.out_channels > conv.in_channels) words.push(`depth_multiplier=${conv.out_channels / conv.in_channels}`);
  if (!apart && conv.stride.some((s) => s > 1)) words.push(`strides=${pythonTuple(conv.stride)}`);
  if (word !== "valid") words.push(`padding="${word}"`);
  if (dilation.some((d) => d > 1)) words.push(`dilation_rate=${pythonTuple(dilation)}`);
  if (!depthwise && conv.groups > 1) words.push(`groups=${conv.groups}`);
  const layer = `layers.${depthwise ? "Depthwise" : ""}Conv${dims}D(${words.join(", ")}),${mirrorWords(conv)}`;
  return [...before, layer, ...(apart ? [`Every(${pythonTuple(conv.stride, true)}),  # Keras has no strides together with dilation`] : [])];
}

/** A transposed layer: the full output, cropped. @param {Conv} conv @param {number[]} shape @returns {string[]} */
function kerasTransposed(conv, shape) {
  const dims = conv.kernel_size.length;
  const dilation = dilationOf(conv);
  const apart = conv.stride.some((s) => s > 1) && dilation.some((d) => d > 1);
  /** @type {[number, number][]} */
  const longer = [];
  /** @type {[number, number][]} */
  const crops = [];
  let same = !apart;
  axesOf(conv, shape).forEach((axis, a) => {
    const extent = countExtent(axis.kernel, dilation[a]);
    const size = shape[2 + a];
    const [first, last] = axis.padding;
    const wanted = (size - 1) * axis.stride + extent - first - last + axis.outputPadding;
    // A stride of its own before it (Spread) makes no room behind the last input; a layer with a stride does.
    const room = apart ? extent : Math.max(extent, axis.stride);
    const full = (size - 1) * axis.stride + room;
    const extra = Math.max(0, ceilDiv(first + wanted - full, axis.stride));
    longer.push([0, extra]);
    crops.push([first, full + extra * axis.stride - first - wanted]);
    const surplus = Math.max(extent - axis.stride, 0);
    same &&= wanted === size * axis.stride && first === floorDiv(surplus, 2);
  });
  const words = [String(conv.out_channels), pythonTuple(conv.kernel_size)];
  if (!apart && conv.stride.some((s) => s > 1)) words.push(`strides=${pythonTuple(conv.stride)}`);
  if (same) words.push('padding="same"');
  if (dilation.some((d) => d > 1)) words.push(`dilation_rate=${pythonTuple(dilation)}`);
  const layer = `layers.Conv${dims}DTranspose(${words.join(", ")}),${mirrorWords(conv)}`;
  if (same) return [layer];
  return [
    ...(longer.some(([, extra]) => extra) ? [`layers.ZeroPadding${dims}D(${pairTuple(longer)}),  # output padding beyond what a longer input gives`] : []),
    ...(apart ? [`Spread(${pythonTuple(conv.stride, true)}),  # Keras has no strides together with dilation`] : []),
    layer,
    ...(crops.some(([before, after]) => before || after) ? [`layers.Cropping${dims}D(${pairTuple(crops)}),`] : []),
  ];
}

/** Keras has no groups of a transposed layer: one for each slice of the channels. @param {Conv} conv @param {number[]} shape */
function groupedTransposed(conv, shape) {
  const wide = conv.in_channels / conv.groups;
  const own = { ...conv, groups: 1, in_channels: wide, out_channels: conv.out_channels / conv.groups };
  return [
    "Split(  # Keras has no groups of a transposed layer",
    `    [${wide}] * ${conv.groups},`,
    "    *[",
    "        keras.Sequential([",
    ...kerasTransposed(own, [shape[0], wide, ...shape.slice(2)]).map((line) => `            ${line}`),
    "        ])",
    `        for _ in range(${conv.groups})`,
    "    ],",
    "),",
  ];
}

/** @param {Step} step @param {number[]} shape @returns {string[]} */
function kerasStep(step, shape) {
  const dims = shape.length - 2;
  switch (step.type) {
    case "conv":
      return kerasConv(step, shape);
    case "split":
      return [
        "Split(",
        `    [${step.branches.map((branch) => branch.in_channels).join(", ")}],`,
        ...step.branches.flatMap((branch) => [
          "    keras.Sequential([",
          ...kerasConv(branch, [shape[0], branch.in_channels, ...shape.slice(2)]).map((line) => `        ${line}`),
          "    ]),",
        ]),
        "),",
      ];
    case "shuffle":
      return [`ChannelShuffle(${step.groups}),`];
    case "pixel_shuffle":
      return [`DepthToSpace(${step.factor}),`];
    case "resize":
      if (step.mode === "nearest") return [`layers.UpSampling${dims}D(${step.factor}),`];
      return [dims === 2 ? `layers.UpSampling2D(${step.factor}, interpolation="bilinear"),` : `Resize(${step.factor}),  # Keras interpolates in two dimensions only`];
    case "activation":
      return [`${kerasActivation(step)},`];
  }
}

/** Keras's layer of a depthwise and a pointwise convolution in one, where it is that. @param {Step[]} steps @param {number[]} shape @returns {string[] | null} */
function kerasSeparable([first, second, ...rest], shape) {
  if (rest.length || first?.type !== "conv" || second?.type !== "conv") return null;
  const pointwise = second.groups === 1 && !second.transposed && [...second.kernel_size, ...second.stride].every((k) => k === 1) && [second.padding].flat(2).every((p) => p === 0);
  const dilation = dilationOf(first);
  const apart = first.stride.some((s) => s > 1) && dilation.some((d) => d > 1);
  if (!pointwise || first.transposed || !isDepthwise(first) || apart) return null;
  const { word, before } = paddingOf(first, shape);
  const words = [String(second.out_channels), pythonTuple(first.kernel_size)];
  if (first.stride.some((s) => s > 1)) words.push(`strides=${pythonTuple(first.stride)}`);
  if (word === "same") words.push('padding="same"');
  if (dilation.some((d) => d > 1)) words.push(`dilation_rate=${pythonTuple(dilation)}`);
  if (first.out_channels > first.in_channels) words.push(`depth_multiplier=${first.out_channels / first.in_channels}`);
  return [...before, `layers.SeparableConv${first.kernel_size.length}D(${words.join(", ")}),  # one bias, that of its pointwise step${mirrorWords(first).replace("  #", ";")}`];
}

/** @param {Spec} spec @param {number[]} shape */
export function kerasText(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const steps = stepsOf(spec);
  const lines = kerasSeparable(steps, shape) ?? steps.flatMap((step, index) => kerasStep(step, shapes[index]));
  const last = [...shape.slice(2), shape[1]];
  const body = [`keras.Input(${pythonTuple(last, true)}),  # channels last, without the batch`, ...lines].map((line) => `    ${line}\n`).join("");
  const used = Object.entries(KERAS_CLASSES).filter(([name]) => new RegExp(`\\b${name}\\(`).test(body));
  const classes = used.map(([, text]) => `\n\n${text}`).join("");
  const head = `${classes.includes("np.") ? "import keras\nimport numpy as np" : "import keras"}\nfrom keras import layers\n`;
  return `${head}${classes}\n${classes ? "\n" : ""}layer = keras.Sequential([\n${body}])\ny = layer(keras.ops.zeros(${pythonTuple([shape[0], ...last], true)}))\n`;
}
