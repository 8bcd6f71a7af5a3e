/** What to use instead of an uneven transposed convolution: what the Python analysis proposes, by the same rules. */
import { ceilDiv, floorDiv, gcd, product } from "./integers.js";
import { countExtent } from "./geometry.js";
import { axesOf } from "./spec.js";
import { chain, convsOf, dimsOf, inChannels, outputShape, stepsOf } from "./chain.js";
import { buildKind } from "./kinds.js";
import { sumCost } from "./cost.js";
import { drawWeights } from "./evaluate.js";

/** @import {Conv} from "./spec.js" */
/** @import {Spec} from "./chain.js" */
/** @import {Weights} from "./evaluate.js" */

/**
 * The transposed layer with the next larger kernel that the stride divides, and outputs where they were.
 * @param {Conv} conv with explicit padding
 * @returns {Conv}
 */
export function evenKernel(conv) {
  const kernel = conv.kernel_size.map((k, a) => ceilDiv(k, conv.stride[a]) * conv.stride[a]);
  const dilation = conv.dilation.map((d, a) => (gcd(d, conv.stride[a]) === 1 ? d : 1));
  /** @type {[number, number][]} */
  const padding = [];
  let extra = conv.kernel_size.map((k, a) => {
    const old = countExtent(k, conv.dilation[a]);
    const next = countExtent(kernel[a], dilation[a]);
    const [before, after] = /** @type {[number, number][]} */ (conv.padding)[a];
    const surplus = next - (old - before - after + conv.output_padding[a]);
    const room = Math.max(surplus, 0);
    const first = Math.min(Math.max(before + floorDiv(next - old + 1, 2), 0), room);
    padding.push([first, room - first]);
    return Math.max(-surplus, 0);
  });
  if (extra.some((each, a) => each >= Math.max(conv.stride[a], dilation[a]))) extra = extra.map(() => 0);
  return { ...conv, kernel_size: kernel, dilation, padding, output_padding: extra };
}

/**
 * A replacement that meets every output equally often, as Python's `Remedy`.
 * @typedef {{name: "kernel" | "resize" | "sub_pixel" | "smoothing", advice: string, spec: Spec, weights: number, macs: number}} Remedy
 */

/** Every remedy for a transposed convolution, cheapest first. @param {Conv} given @param {number[]} shape @returns {Remedy[]} */
export function listRemedies(given, shape) {
  const layer = { ...given, padding: axesOf(given, shape).map((axis) => axis.padding) };
  const { in_channels, out_channels, kernel_size: kernel, stride, groups } = layer;
  const dims = kernel.length;
  const cure = evenKernel(layer);
  const apart = cure.dilation.join() === layer.dilation.join() ? "" : ` with dilation ${cure.dilation.join("x")}`;
  /** @type {[Remedy["name"], string, Spec][]} */
  const found = [["kernel", `use a ${cure.kernel_size.join("x")} kernel${apart}`, cure]];
  const [factor] = stride;
  const equal = stride.every((s) => s === factor);
  const base = { in_channels, out_channels, factor, padding: "same", dims };
  if (equal) {
    const odd = kernel.map((k) => k | 1);
    found.push(["resize", `resize by ${factor}, then a ${odd.join("x")} convolution`, buildKind("resize_conv", { ...base, kernel_size: odd, groups })]);
  }
  if (equal && groups === 1) {
    const small = kernel.map((k, a) => ceilDiv(k, stride[a]) | 1);
    const words = `${small.join("x")} convolution to ${factor ** dims} times the channels, then a pixel shuffle, with ICNR initialisation`;
    found.push(["sub_pixel", words, buildKind("sub_pixel", { ...base, kernel_size: small })]);
  }
  const box = buildKind("depthwise", { in_channels: out_channels, kernel_size: stride, padding: "same", dims });
  found.push(["smoothing", `keep it, and smooth with a ${stride.join("x")} depthwise mean`, chain([layer, ...stepsOf(box)])]);
  const costed = found.map(([name, advice, spec]) => {
    const { weights, macs } = sumCost(spec, shape);
    return { name, advice, spec, weights, macs };
  });
  return costed.sort((a, b) => a.macs - b.macs);
}

/**
 * Weights with which a remedy is even from the start, all in a row; null where any are: those of a sub-pixel layer are equal for all parts
 * of a pixel (ICNR), smoothing keeps the layer's and takes a mean.
 * @param {Remedy} remedy
 * @param {Weights} own weights of the layer
 * @returns {number[] | null}
 */
export function weightsOf({ name, spec }, own) {
  if (name === "sub_pixel") {
    const [{ w }] = drawWeights(spec, 1);
    const [conv] = convsOf(spec);
    const row = w.length / conv.out_channels;
    const [, channels] = outputShape(spec, [1, inChannels(spec), ...new Array(dimsOf(spec)).fill(1)]);
    const block = conv.out_channels / channels;
    return Array.from(w, (_, i) => w[Math.floor(i / row / block) * row + (i % row)]);
  }
  if (name !== "smoothing") return null;
  const [, box] = convsOf(spec);
  const taps = product(box.kernel_size);
  return [...own.w, ...new Array(box.out_channels * taps).fill(1 / taps)];
}
