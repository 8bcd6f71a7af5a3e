/** One line of text for every problem, written: the grammar of the Python package. */
import { formatFloat } from "./integers.js";

/** @import {Conv} from "./spec.js" */
/** @import {Step} from "./chain.js" */
/** @import {Spec} from "./chain.js" */

/** @type {Record<string, [string, string]>} */
export const PADS = { d: ["pf", "pk"], h: ["pt", "pb"], w: ["pl", "pr"] };
export const AXIS_LETTERS = "dhw";

/** The most specific structural name of a convolution. @param {Conv} spec */
export function labelOf(spec) {
  const depthwise = spec.groups === spec.in_channels && spec.groups > 1;
  if (spec.transposed) return depthwise ? "depthwise_transposed" : "transposed";
  if (depthwise) return "depthwise";
  if (spec.kernel_size.every((k) => k === 1)) return spec.groups > 1 ? "pointwise_grouped" : "pointwise";
  if (spec.groups > 1) return "grouped";
  if (spec.dilation.some((d, a) => d > 1 && spec.kernel_size[a] > 1)) return "dilated";
  return "convolution";
}

/** @param {number} dims */
export function axisLetters(dims) {
  return [...AXIS_LETTERS.slice(-dims)];
}

/** @param {number[] | undefined} shape @param {string[]} letters */
function formatShape(shape, letters) {
  return shape ? [`n${shape[0]}`, ...letters.map((a, i) => `i${a}${shape[2 + i]}`)] : [];
}

/** @param {Conv} spec @param {number[]} [shape] */
export function formatConv(spec, shape) {
  const letters = axisLetters(spec.kernel_size.length);
  const sizes = formatShape(shape, letters);
  const words = [labelOf(spec), ...sizes.slice(0, 1), `ic${spec.in_channels}`, `oc${spec.out_channels}`];
  words.push(...sizes.slice(1));
  for (const [key, values] of /** @type {[string, number[]][]} */ ([
    ["k", spec.kernel_size],
    ["s", spec.stride],
    ["d", spec.dilation],
  ])) {
    words.push(...letters.map((a, i) => `${key}${a}${values[i]}`));
  }
  const { padding } = spec;
  if (typeof padding === "string") words.push(padding);
  else letters.forEach((a, i) => words.push(...PADS[a].map((key, end) => `${key}${padding[i][end]}`)));
  if (spec.output_padding.some((extra) => extra)) {
    words.push(...letters.map((a, i) => `a${a}${spec.output_padding[i]}`));
  }
  words.push(`g${spec.groups}`);
  if (spec.flip) words.push("flip");
  if (spec.padding_mode !== "zeros") words.push(spec.padding_mode);
  return words.join(" ");
}

/** @param {Step} step */
export function formatStep(step) {
  switch (step.type) {
    case "conv":
      return formatConv(step);
    case "split":
      return `split ${step.branches.map((branch) => formatConv(branch)).join(" + ")}`;
    case "shuffle":
      return `shuffle g${step.groups}`;
    case "pixel_shuffle":
      return `pixel_shuffle f${step.factor}`;
    case "resize":
      return `resize f${step.factor} ${step.mode}`;
    case "activation":
      return [step.name, ...step.parameters.map(([key, value]) => `${key}=${formatFloat(value)}`)].join(" ");
  }
}

/** @param {Step[]} steps */
function rankOf(steps) {
  for (const step of steps) {
    if (step.type === "conv") return step.kernel_size.length;
    if (step.type === "split") return step.branches[0].kernel_size.length;
  }
  return 0;
}

/** @param {Spec} spec @param {number[]} [shape] */
export function formatSpec(spec, shape) {
  if (spec.type === "conv") return formatConv(spec, shape);
  const head = ["chain", ...(shape ? formatShape(shape, axisLetters(rankOf(spec.steps))) : [])].join(" ");
  return [head, ...spec.steps.map(formatStep)].join(" > ");
}
