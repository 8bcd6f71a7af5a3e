/** The layer that is shown: from a setting to spec, plans, values; the setting in the address of the page. */
import { OmniError, product, shapeError } from "./integers.js";
import { convsOf, dimsOf, inChannels, shapesOf, stepsOf } from "./chain.js";
import { axesOf, countMacs, weightShape } from "./spec.js";
import { formatSpec } from "./format.js";
import { parseSpec } from "./text.js";
import { DEFAULTS, buildKind } from "./kinds.js";
import { planSpec } from "./plan.js";
import { drawWeights, randomNumbers, rerunPlans, runPlans } from "./evaluate.js";

/** @import {Spec} from "./chain.js" */
/** @import {Plan} from "./plan.js" */
/** @import {Weights} from "./evaluate.js" */

/**
 * @typedef {object} Setting
 * @property {string} kind of the 19, or "text": a line of its own
 * @property {Record<string, unknown>} given arguments of the kind
 * @property {string} text the line
 * @property {number[]} sizes of the input: depth, height, width
 * @property {number} seed of values and weights
 * @property {number[] | null} x numbers of the input, null: drawn from the seed
 * @property {number[] | null} w all weights in a row, null: drawn from the seed
 */

/**
 * @typedef {object} Layer
 * @property {Setting} setting
 * @property {Spec} spec
 * @property {number[]} shape
 * @property {number[][]} shapes before the first step and after each
 * @property {Plan[]} plans
 * @property {Float64Array} x
 * @property {Weights[]} weights
 * @property {Float64Array[]} values before the first step and after each
 */

export const MOST_VALUES = 2 ** 14;
export const MOST_CHANNELS = 1024;
export const MOST_MACS = 2 ** 25;
/** Numbers of the input, and of all weights, that an address holds. */
export const MOST_KEPT = 256;

/** Small layers that show what is special about each kind. @type {Record<string, [Record<string, unknown>, number[]]>} */
export const STARTS = {
  convolution: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [5, 7, 7]],
  cross_correlation: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [5, 7, 7]],
  dilated: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], dilation: [2, 2], padding: [[2, 2], [2, 2]] }, [5, 9, 9]],
  transposed: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], stride: [2, 2], padding: [[0, 0], [0, 0]] }, [3, 4, 4]],
  causal: [{ in_channels: 1, out_channels: 1, kernel_size: [3], dilation: [2], dims: 1 }, [5, 7, 12]],
  grouped: [{ in_channels: 4, out_channels: 4, kernel_size: [3, 3], groups: 2, padding: [[1, 1], [1, 1]] }, [4, 5, 5]],
  depthwise: [{ in_channels: 3, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 5, 5]],
  depthwise_separable: [{ in_channels: 3, out_channels: 4, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 5, 5]],
  blueprint_separable: [{ in_channels: 3, out_channels: 4, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 5, 5]],
  pointwise: [{ in_channels: 3, out_channels: 4, stride: [1, 1] }, [4, 5, 5]],
  pointwise_grouped: [{ in_channels: 4, out_channels: 4, groups: 2, stride: [1, 1] }, [4, 5, 5]],
  shuffled_grouped: [
    { in_channels: 4, out_channels: 4, kernel_size: [3, 3], groups: 2, form: "layers", padding: [[1, 1], [1, 1]] }, [4, 4, 4],
  ],
  mixed: [{ in_channels: 3, kernel_sizes: [1, 3, 5], padding: "same" }, [4, 6, 6]],
  spatially_separable: [{ in_channels: 1, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 7, 7]],
  asymmetric: [{ in_channels: 1, out_channels: 2, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 6, 6]],
  flattened: [{ in_channels: 2, out_channels: 2, kernel_size: [3, 3], padding: [[1, 1], [1, 1]] }, [4, 5, 5]],
  factorised: [
    { in_channels: 1, out_channels: 1, kernel_size: [3, 3, 3], mid_channels: 2, padding: [[1, 1], [1, 1], [1, 1]], dims: 3 },
    [3, 4, 4],
  ],
  resize_conv: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], factor: 2, padding: [[1, 1], [1, 1]] }, [3, 4, 4]],
  sub_pixel: [{ in_channels: 1, out_channels: 1, kernel_size: [3, 3], factor: 2, padding: [[1, 1], [1, 1]] }, [3, 4, 4]],
};

/** @param {string} kind @returns {Setting} */
export function startSetting(kind) {
  const [given, sizes] = STARTS[kind];
  /** @type {Record<string, unknown>} */
  const full = { ...DEFAULTS[kind], dims: 2, ...given };
  for (const name of ["kernel_size", "stride", "dilation", "output_padding"]) {
    if (typeof full[name] === "number") full[name] = new Array(Number(full.dims)).fill(full[name]);
  }
  return { kind, given: full, text: "", sizes: [...sizes], seed: 1, x: null, w: null };
}

/** @param {string} text @param {number[]} [fallback] sizes, where the line gives none @returns {Setting} */
export function textSetting(text, fallback = [4, 7, 7]) {
  const { spec, shape } = parseSpec(text);
  const given = shape ? shape.slice(2) : fallback.slice(-dimsOf(spec));
  return { kind: "text", given: {}, text: formatSpec(spec), sizes: [...fallback.slice(0, 3 - given.length), ...given], seed: 1, x: null, w: null };
}

/** @param {Setting} setting @returns {Spec} */
function specOf(setting) {
  return setting.kind === "text" ? parseSpec(setting.text).spec : buildKind(setting.kind, setting.given);
}

/** A spec with its shapes, where this page takes it. @param {Setting} setting */
function readSetting(setting) {
  const spec = specOf(setting);
  const shape = [1, inChannels(spec), ...setting.sizes.slice(-dimsOf(spec))];
  const shapes = shapesOf(spec, shape);
  checkSize(spec, shapes);
  return { spec, shape, shapes };
}

/**
 * The layer of a setting; weights are kept where they fit. Its own setting holds the numbers that were not drawn.
 * @param {Setting} setting
 * @param {Weights[] | null} kept
 * @returns {Layer}
 */
export function makeLayer(setting, kept) {
  const { spec, shape, shapes } = readSetting(setting);
  const plans = planSpec(spec, shape);
  const counts = countWeights(spec);
  const fits = kept?.length === counts.length && counts.every((count, i) => kept[i].w.length === count);
  const given = !kept && setting.w?.length === sumOfCounts(counts) ? cutWeights(setting.w, counts) : drawWeights(spec, setting.seed);
  const weights = kept && fits ? kept : given;
  const own = setting.x?.length === product(shape) ? setting.x : null;
  const next = randomNumbers(setting.seed + 77);
  const x = own ? Float64Array.from(own) : Float64Array.from({ length: product(shape) }, () => Math.floor(next() * 10));
  const held = { ...setting, x: own, w: editedWeights(spec, setting.seed, weights) };
  return { setting: held, spec, shape, shapes, plans, x, weights, values: runPlans(plans, x, weights) };
}

/**
 * The same layer after weights of one channel were edited in place: all else stays as it is.
 * @param {Layer} layer
 * @param {number} number of the convolution
 * @param {number} own its channel
 * @returns {Layer}
 */
export function reweighLayer(layer, number, own) {
  const { setting, spec, plans, values, weights } = layer;
  return { ...layer, setting: { ...setting, w: editedWeights(spec, setting.seed, weights) }, values: rerunPlans(plans, values, weights, number, own) };
}

/** Weights that the address keeps, where they are not those of the seed. @param {Spec} spec @param {number} seed @param {Weights[]} weights */
function editedWeights(spec, seed, weights) {
  if (sumOfCounts(weights.map(({ w }) => w.length)) > MOST_KEPT) return null;
  const drawn = drawWeights(spec, seed);
  return weights.some(({ w }, i) => w.some((value, k) => value !== drawn[i].w[k])) ? weights.flatMap(({ w }) => [...w]) : null;
}

/** Weights of each convolution. @param {Spec} spec */
function countWeights(spec) {
  return convsOf(spec).map((conv) => product(weightShape(conv)));
}

/** @param {number[]} counts */
function sumOfCounts(counts) {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Whether the address keeps weights that are edited. @param {Layer} layer */
export function keepsWeights({ spec }) {
  return sumOfCounts(countWeights(spec)) <= MOST_KEPT;
}

/** @param {number[]} flat @param {number[]} counts @returns {Weights[]} */
function cutWeights(flat, counts) {
  let start = 0;
  return counts.map((count) => ({ w: Float64Array.from(flat.slice(start, (start += count))), b: null }));
}

/** The setting with the largest input, halved and halved again, that this page takes; null where there is none. */
/** @param {Setting} setting @returns {Setting | null} */
export function shrinkSetting(setting) {
  for (let sizes = setting.sizes; sizes.some((size) => size > 1); ) {
    sizes = sizes.map((size) => Math.ceil(size / 2));
    try {
      const smaller = { ...setting, sizes };
      readSetting(smaller);
      return smaller;
    } catch (error) {
      refusalOf(error);
    }
  }
  return null;
}

/** The line of a setting, as far as it can be written. @param {Setting} setting */
export function lineOf(setting) {
  try {
    const spec = specOf(setting);
    return formatSpec(spec, [1, inChannels(spec), ...setting.sizes.slice(-dimsOf(spec))]);
  } catch (error) {
    refusalOf(error);
    return setting.text;
  }
}

/** Refuse what this page could not draw or compute while somebody waits. @param {Spec} spec @param {number[][]} shapes */
function checkSize(spec, shapes) {
  const at = formatSpec(spec, shapes[0]);
  /** @param {number} value @param {number} most @param {string} what */
  const limit = (value, most, what) => {
    if (value > most) throw shapeError(`${value} ${what}`, { need: `at most ${most} on this page`, at });
  };
  let macs = 0;
  shapes.forEach((shape, index) => {
    limit(shape[1], MOST_CHANNELS, "channels");
    limit(product(shape), MOST_VALUES, "values between two steps");
    const step = stepsOf(spec)[index];
    const layers = step?.type === "conv" ? [step] : step?.type === "split" ? step.branches : [];
    for (const layer of layers) {
      const given = [1, layer.in_channels, ...shape.slice(2)];
      limit(product(layer.stride), MOST_VALUES, "phases of the strides");
      if (!layer.transposed) {
        const padded = axesOf(layer, given).map(({ padding }, a) => given[2 + a] + padding[0] + padding[1]);
        limit(product(padded), MOST_VALUES, "positions with padding");
      }
      macs += countMacs(layer, given);
    }
  });
  limit(macs, MOST_MACS, "MAC");
}

/** @param {Setting} setting */
export function writeHash(setting) {
  const { kind, given, text, sizes, seed, x, w } = setting;
  /** @type {Record<string, string>} */
  const held = kind === "text" ? { text } : { kind, given: JSON.stringify(given) };
  for (const [name, numbers] of /** @type {const} */ ([["x", x], ["w", w]])) {
    if (numbers && numbers.length <= MOST_KEPT) held[name] = numbers.join(",");
  }
  return `#${new URLSearchParams({ ...held, sizes: sizes.join("x"), seed: String(seed) })}`;
}

/** Numbers apart by commas: null where there are none, not finite ones or too many. @param {string} text */
function readNumbers(text) {
  const parts = text.split(",", MOST_KEPT + 1);
  const numbers = parts.map((part) => (part.trim() ? Number(part) : NaN));
  return numbers.length <= MOST_KEPT && numbers.every(Number.isFinite) ? numbers : null;
}

/** The setting that an address holds, or null where it holds none. @param {string} hash @returns {Setting | null} */
export function readHash(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const setting = readWords(found);
  if (!setting) return null;
  for (const name of /** @type {const} */ (["x", "w"])) {
    const text = found.get(name);
    if (text === null) continue;
    setting[name] = readNumbers(text);
    if (!setting[name]) return null;
  }
  return fitsNumbers(setting) ? setting : null;
}

/** Whether an input and weights that are given are as many as the layer has. @param {Setting} setting */
function fitsNumbers(setting) {
  if (!setting.x && !setting.w) return true;
  try {
    const { spec, shape } = readSetting(setting);
    const counts = { x: product(shape), w: sumOfCounts(countWeights(spec)) };
    return (setting.x ?? { length: counts.x }).length === counts.x && (setting.w ?? { length: counts.w }).length === counts.w;
  } catch (error) {
    refusalOf(error);
    return true; // no layer, which is refused in its own words
  }
}

/** A setting without numbers of its own; a kind alone, as links have it, is its first layer. @param {URLSearchParams} found @returns {Setting | null} */
function readWords(found) {
  const [only, ...rest] = found.keys();
  if (only === "kind" && !rest.length) return Object.hasOwn(STARTS, found.get("kind") ?? "") ? startSetting(found.get("kind") ?? "") : null;
  const sizes = (found.get("sizes") ?? "").split("x").map(Number);
  const seed = Number(found.get("seed") ?? 1);
  const kind = found.get("kind") ?? (found.has("text") ? "text" : "");
  if (sizes.length !== 3 || !sizes.every(Number.isInteger) || !Number.isInteger(seed)) return null;
  if (kind === "text") return { kind, given: {}, text: found.get("text") ?? "", sizes, seed, x: null, w: null };
  if (!Object.hasOwn(STARTS, kind)) return null;
  try {
    const given = JSON.parse(found.get("given") ?? "{}");
    const known = Object.keys(DEFAULTS[kind]);
    if (given === null || typeof given !== "object" || !Object.keys(given).every((key) => known.includes(key))) return null;
    return { ...startSetting(kind), given: { ...startSetting(kind).given, ...given }, sizes, seed };
  } catch {
    return null;
  }
}

/** The words of a refusal; anything else is a fault of the page and goes on. @param {unknown} error */
export function refusalOf(error) {
  if (error instanceof OmniError) return `${error.name}: ${error.message}`;
  throw error;
}
