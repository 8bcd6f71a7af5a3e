/** Other kinds for the same task: the same channels, the same kernel, the same change of size. */
import { OmniError, gcd, range } from "./integers.js";
import { convsOf, dimsOf } from "./chain.js";
import { upsamples } from "./overlap.js";
import { buildKind } from "./kinds.js";

/** @import {Spec} from "./chain.js" */

/**
 * Layers that could stand in the place of a spec, each with a name.
 * @param {Spec} spec
 * @param {number[]} shape
 * @param {number[]} result
 * @returns {{name: string, spec: Spec}[]}
 */
export function listAlternatives(spec, shape, result) {
  const dims = dimsOf(spec);
  const [ic, oc] = [shape[1], result[1]];
  const kernel = range(dims).map((a) => Math.max(...convsOf(spec).map((conv) => conv.kernel_size[a])));
  const common = gcd(ic, oc);
  const groups = range(common + 1).find((g) => g > 1 && common % g === 0) ?? 1;
  const base = { in_channels: ic, out_channels: oc, kernel_size: kernel, padding: "same", dims };
  /** @type {[string, string, Record<string, unknown>][]} */
  let wanted;
  if (upsamples(spec)) {
    const factor = Math.max(1, Math.round(result[2] / shape[2]));
    const odd = kernel.map((k) => k | 1);
    wanted = [
      ["transposed", "transposed", { ...base, stride: factor }],
      ["resize, then convolve", "resize_conv", { ...base, kernel_size: odd, factor }],
      ["sub-pixel", "sub_pixel", { ...base, kernel_size: odd, factor }],
    ];
  } else {
    const stride = range(dims).map((a) => Math.max(1, Math.round(shape[2 + a] / result[2 + a])));
    const strided = { ...base, stride };
    wanted = [
      ["dense", "cross_correlation", strided],
      ["dilated by 2", "dilated", strided],
      ...(groups > 1 ? /** @type {[string, string, Record<string, unknown>][]} */ ([[`grouped, ${groups} groups`, "grouped", { ...strided, groups }]]) : []),
      ["depthwise separable", "depthwise_separable", strided],
      ["blueprint separable", "blueprint_separable", strided],
      ["asymmetric", "asymmetric", strided],
      ["flattened", "flattened", strided],
      ["pointwise", "pointwise", { in_channels: ic, out_channels: oc, stride, dims }],
    ];
  }
  return wanted.flatMap(([name, kind, given]) => {
    try {
      return [{ name, spec: buildKind(kind, given) }];
    } catch (error) {
      if (error instanceof OmniError) return []; // a kind that has no such layer
      throw error;
    }
  });
}
