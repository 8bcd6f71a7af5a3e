/** A layer as PyTorch code. */
import { formatFloat } from "./integers.js";
import { axesOf } from "./spec.js";
import { shapesOf, stepsOf } from "./chain.js";

/** @import {Activation} from "./activation.js" */
/** @import {Conv} from "./spec.js" */
/** @import {Spec, Step} from "./chain.js" */

/** @type {Record<string, string>} */
const PAD_MODULES = { zeros: "ZeroPad", reflect: "ReflectionPad", replicate: "ReplicationPad", circular: "CircularPad" };

/** @type {Record<string, string>} */
const TORCH_ACTIVATIONS = {
  relu: "nn.ReLU()", relu6: "nn.ReLU6()", sigmoid: "nn.Sigmoid()", silu: "nn.SiLU()", hard_swish: "nn.Hardswish()",
  tanh: "nn.Tanh()", gelu: "nn.GELU()", gelu_tanh: 'nn.GELU("tanh")', exp: "Call(torch.exp)", sqrt: "Call(torch.sqrt)",
  abs: "Call(torch.abs)", neg: "Call(torch.neg)",
};

/** One number where all are equal, unless each is to be written. @param {number[]} values @param {boolean} [each] */
export function pythonTuple(values, each = false) {
  if (!each && new Set(values).size === 1) return String(values[0]);
  return `(${values.join(", ")}${values.length === 1 ? "," : ""})`;
}

/** @param {Activation} step */
function torchActivation(step) {
  const p = Object.fromEntries(step.parameters);
  if (Object.hasOwn(TORCH_ACTIVATIONS, step.name)) return TORCH_ACTIVATIONS[step.name];
  /** @param {number} value */
  const number = (value) => (Number.isFinite(value) ? formatFloat(value) : `float("${formatFloat(value)}")`);
  if (step.name === "leaky_relu") return `nn.LeakyReLU(${number(p.alpha)})`;
  if (step.name === "elu") return `nn.ELU(${number(p.alpha)})`;
  if (step.name === "clip") return `Call(lambda x: x.clamp(${number(p.lo)}, ${number(p.hi)}))`;
  return `Call(lambda x: (${number(p.alpha)} * x + ${number(p.beta)}).clamp(0, 1))`;
}

/** The modules of a convolution: padding that PyTorch's own cannot say stands before it, or crops after. */
/** @param {Conv} conv @param {number[]} shape @returns {string[]} */
function torchConv(conv, shape) {
  const dims = conv.kernel_size.length;
  const pairs = axesOf(conv, shape).map((axis) => axis.padding);
  const even = pairs.every(([before, after]) => before === after) && (conv.padding_mode === "zeros" || conv.transposed);
  const each = pairs.map(([before]) => before);
  const words = [String(conv.in_channels), String(conv.out_channels), pythonTuple(conv.kernel_size)];
  if (conv.stride.some((s) => s !== 1)) words.push(`stride=${pythonTuple(conv.stride)}`);
  if (even && each.some(Boolean)) words.push(`padding=${pythonTuple(each)}`);
  if (conv.output_padding.some(Boolean)) words.push(`output_padding=${pythonTuple(conv.output_padding)}`);
  if (conv.dilation.some((d) => d !== 1)) words.push(`dilation=${pythonTuple(conv.dilation)}`);
  if (conv.groups > 1) words.push(`groups=${conv.groups}`);
  const mirrored = conv.flip && conv.kernel_size.some((k) => k > 1) ? "  # with its weights mirrored on every axis" : "";
  const layer = `nn.Conv${conv.transposed ? "Transpose" : ""}${dims}d(${words.join(", ")}),${mirrored}`;
  if (even) return [layer];
  const flat = [...pairs].reverse().flat().map((n) => (conv.transposed ? -n : n));
  const pad = `nn.${PAD_MODULES[conv.padding_mode]}${dims}d((${flat.join(", ")})),`;
  return conv.transposed ? [layer, `${pad}  # crops`] : [pad, layer];
}

/** @param {Step} step @param {number[]} shape @returns {string[]} */
function torchStep(step, shape) {
  const dims = shape.length - 2;
  switch (step.type) {
    case "conv":
      return torchConv(step, shape);
    case "split":
      return [
        "Split(",
        `    (${step.branches.map((branch) => branch.in_channels).join(", ")},),`,
        ...step.branches.flatMap((branch) => [
          "    nn.Sequential(",
          ...torchConv(branch, [shape[0], branch.in_channels, ...shape.slice(2)]).map((line) => `        ${line}`),
          "    ),",
        ]),
        "),",
      ];
    case "shuffle":
      return [`nn.ChannelShuffle(${step.groups}),`];
    case "pixel_shuffle":
      return [dims === 2 ? `nn.PixelShuffle(${step.factor}),` : `DepthToSpace(${step.factor}),`];
    case "resize": {
      const mode = step.mode === "nearest" ? "nearest" : ["linear", "bilinear", "trilinear"][dims - 1];
      return [`nn.Upsample(scale_factor=${step.factor}, mode="${mode}"${mode === "nearest" ? "" : ", align_corners=False"}),`];
    }
    case "activation":
      return [`${torchActivation(step)},`];
  }
}

/** @type {Record<string, string>} */
const TORCH_CLASSES = {
  "Split(": `class Split(nn.Module):
    def __init__(self, widths, *branches):
        super().__init__()
        self.widths, self.branches = widths, nn.ModuleList(branches)

    def forward(self, x):
        parts = x.split(self.widths, dim=1)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts)], dim=1)
`,
  "DepthToSpace(": `class DepthToSpace(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        n, c, *sizes = x.shape
        f, dims = self.factor, x.ndim - 2
        y = x.reshape(n, c // f**dims, *[f] * dims, *sizes)
        order = [0, 1] + [axis for a in range(dims) for axis in (2 + dims + a, 2 + a)]
        return y.permute(order).reshape(n, c // f**dims, *[size * f for size in sizes])
`,
  "Call(": `class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)
`,
};

/** @param {Spec} spec @param {number[]} shape */
export function torchText(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const lines = stepsOf(spec).flatMap((step, index) => torchStep(step, shapes[index]));
  const body = lines.map((line) => `    ${line}\n`).join("");
  const classes = Object.entries(TORCH_CLASSES).filter(([name]) => body.includes(name)).map(([, text]) => `\n\n${text}`).join("");
  const example = shape.join(", ");
  return `import torch\nfrom torch import nn\n${classes}\n${classes ? "\n" : ""}layer = nn.Sequential(\n${body})\ny = layer(torch.zeros(${example}))\n`;
}

/** A layer as Omniconv code. @param {string} line */
export function omniconvText(line) {
  return [
    "import numpy as np",
    "import omniconv as oc",
    "",
    `spec, shape = oc.parse("${line}")`,
    "# Random weights, not those of the page: put your own here.",
    "weights = oc.random_weights(spec, 0)",
    "layer = oc.compile(spec, shape, weights)",
    "y = layer(np.zeros(shape, np.float32))",
    "",
  ].join("\n");
}
