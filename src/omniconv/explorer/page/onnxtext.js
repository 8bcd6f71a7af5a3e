/** A layer in the text form of ONNX, which `onnx.parser.parse_model` reads; its weights are inputs w0, w1, ... */
import { range } from "./integers.js";
import { axesOf, weightShape } from "./spec.js";
import { convsOf, shapesOf, slicesOf, stepsOf } from "./chain.js";

/** @import {Activation} from "./activation.js" */
/** @import {Conv} from "./spec.js" */
/** @import {Spec, Step} from "./chain.js" */

/** @type {Record<string, string>} */
const PLAIN = {
  relu: "Relu", sigmoid: "Sigmoid", hard_swish: "HardSwish", tanh: "Tanh", exp: "Exp", sqrt: "Sqrt", abs: "Abs",
  neg: "Neg",
};

/** @type {Record<string, string>} */
const PAD_WORDS = { reflect: "reflect", replicate: "edge", circular: "wrap" };

/** Writes nodes one after another and names what they produce. */
class OnnxWriter {
  constructor() {
    /** @type {string[]} */
    this.nodes = [];
    this.count = 0;
    this.weights = 0;
  }

  /** @param {string} operator @param {string[]} inputs @param {string} [attributes] */
  add(operator, inputs, attributes = "") {
    const name = `v${(this.count += 1)}`;
    this.nodes.push(`  ${name} = ${operator}${attributes ? ` <${attributes}>` : ""} (${inputs.join(", ")})`);
    return name;
  }

  /** @param {number[]} values */
  ints(values) {
    return this.add("Constant", [], `value_ints = [${values.join(", ")}]`);
  }

  /** @param {number} value */
  float(value) {
    const text = Number.isFinite(value) ? String(value) : "";
    return text ? this.add("Constant", [], `value_float = ${/[.e]/.test(text) ? text : `${text}.0`}`) : "";
  }

  /** @param {Conv} conv @param {string} x @param {number[]} shape */
  conv(conv, x, shape) {
    const pairs = axesOf(conv, shape).map((axis) => axis.padding);
    let w = `w${this.weights}`;
    this.weights += 1;
    const dims = pairs.length;
    if (conv.flip) {
      const axes = range(dims).map((a) => a + 2);
      const [starts, ends, steps] = [axes.map(() => -1), axes.map(() => -(2 ** 31)), axes.map(() => -1)];
      w = this.add("Slice", [w, this.ints(starts), this.ints(ends), this.ints(axes), this.ints(steps)]);
    }
    let pads = [...pairs.map(([before]) => before), ...pairs.map(([, after]) => after)];
    if (conv.padding_mode !== "zeros" && pads.some(Boolean)) {
      const wide = [0, 0, ...pads.slice(0, dims), 0, 0, ...pads.slice(dims)];
      x = this.add("Pad", [x, this.ints(wide)], `mode = "${PAD_WORDS[conv.padding_mode]}"`);
      pads = pads.map(() => 0);
    }
    // Output padding of a stride or more, which some runtimes refuse, is less padding after, or zeros after that.
    const extra = conv.output_padding.some((n, a) => n >= conv.stride[a]) ? conv.output_padding : conv.output_padding.map(() => 0);
    const ends = pads.slice(dims).map((after, a) => after - extra[a]);
    pads = [...pads.slice(0, dims), ...ends.map((end) => Math.max(end, 0))];
    const attributes = [
      `kernel_shape = [${conv.kernel_size.join(", ")}]`,
      `strides = [${conv.stride.join(", ")}]`,
      `dilations = [${conv.dilation.join(", ")}]`,
      `pads = [${pads.join(", ")}]`,
      `group = ${conv.groups}`,
    ];
    if (conv.transposed) attributes.push(`output_padding = [${conv.output_padding.map((n, a) => n - extra[a]).join(", ")}]`);
    const y = this.add(conv.transposed ? "ConvTranspose" : "Conv", [x, w], attributes.join(", "));
    if (ends.every((end) => end >= 0)) return y;
    const wide = [...new Array(dims + 4).fill(0), ...ends.map((end) => Math.max(-end, 0))];
    return this.add("Pad", [y, this.ints(wide)], 'mode = "constant"');
  }

  /** @param {Step} step @param {string} x @param {number[]} shape @param {number[]} after @returns {string} */
  step(step, x, shape, after) {
    const [n, channels, ...sizes] = shape;
    switch (step.type) {
      case "conv":
        return this.conv(step, x, shape);
      case "split": {
        const parts = slicesOf(step).map(({ branch, firstIn }) => {
          const ends = this.ints([firstIn + branch.in_channels]);
          const part = this.add("Slice", [x, this.ints([firstIn]), ends, this.ints([1])]);
          return this.conv(branch, part, [n, branch.in_channels, ...sizes]);
        });
        return this.add("Concat", parts, "axis = 1");
      }
      case "shuffle":
        return this.permute(x, [n, step.groups, channels / step.groups, ...sizes], [0, 2, 1, ...sizes.map((_, a) => a + 3)], shape);
      case "pixel_shuffle": {
        const dims = sizes.length;
        const wide = [n, after[1], ...sizes.map(() => step.factor), ...sizes];
        return this.permute(x, wide, [0, 1, ...sizes.flatMap((_, a) => [2 + dims + a, 2 + a])], after);
      }
      case "resize": {
        const scales = this.add("Constant", [], `value_floats = [1.0, 1.0, ${sizes.map(() => `${step.factor}.0`).join(", ")}]`);
        const how = step.mode === "nearest" ? 'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"' : 'coordinate_transformation_mode = "half_pixel"';
        return this.add("Resize", [x, "", scales], `mode = "${step.mode}", ${how}`);
      }
      case "activation":
        return this.activation(step, x);
    }
  }

  /** @param {string} x @param {number[]} wide @param {number[]} order @param {number[]} shape */
  permute(x, wide, order, shape) {
    const split = this.add("Reshape", [x, this.ints(wide)]);
    const turned = this.add("Transpose", [split], `perm = [${order.join(", ")}]`);
    return this.add("Reshape", [turned, this.ints(shape)]);
  }

  /** @param {Activation} step @param {string} x */
  activation(step, x) {
    const p = Object.fromEntries(step.parameters);
    if (Object.hasOwn(PLAIN, step.name)) return this.add(PLAIN[step.name], [x]);
    /** @param {number} value */
    const number = (value) => (/[.e]/.test(String(value)) ? String(value) : `${value}.0`);
    switch (step.name) {
      case "relu6":
        return this.add("Clip", [x, this.float(0), this.float(6)]);
      case "clip":
        return this.add("Clip", [x, this.float(p.lo), this.float(p.hi)]);
      case "silu":
        return this.add("Mul", [x, this.add("Sigmoid", [x])]);
      case "leaky_relu":
        return this.add("LeakyRelu", [x], `alpha = ${number(p.alpha)}`);
      case "elu":
        return this.add("Elu", [x], `alpha = ${number(p.alpha)}`);
      case "hard_sigmoid":
        return this.add("HardSigmoid", [x], `alpha = ${number(p.alpha)}, beta = ${number(p.beta)}`);
      default:
        return this.add("Gelu", [x], `approximate = "${step.name === "gelu" ? "none" : "tanh"}"`);
    }
  }
}

/** @param {Spec} spec @param {number[]} shape */
export function onnxText(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const writer = new OnnxWriter();
  let x = "x";
  stepsOf(spec).forEach((step, index) => {
    x = writer.step(step, x, shapes[index], shapes[index + 1]);
  });
  const weights = convsOf(spec).map((conv, i) => `float[${weightShape(conv).join(", ")}] w${i}`);
  const inputs = [`float[${shape.join(", ")}] x`, ...weights].join(", ");
  const result = `float[${shapes[shapes.length - 1].join(", ")}] y`;
  return [
    '<ir_version: 9, opset_import: ["" : 20]>', `layer (${inputs}) => (${result})`, "{", ...writer.nodes, `  y = Identity (${x})`, "}", "",
  ].join("\n");
}
