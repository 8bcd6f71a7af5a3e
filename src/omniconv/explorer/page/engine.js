/** The page's WebAssembly: one kernel for every setting, compiled by Omniconv. */
import { product } from "./integers.js";
import { runStep } from "./evaluate.js";
import { fillFrame, planTapCalls } from "./tapplan.js";

/** @import {Conv} from "./spec.js" */
/** @import {Plan} from "./plan.js" */
/** @import {TapPlan} from "./tapplan.js" */
/** @import {Weights} from "./evaluate.js" */
/** @import {ModuleData, TapData} from "./data.js" */

/** @param {string} text base64 @returns {Uint8Array<ArrayBuffer>} */
function decodeBytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/**
 * The better of two forms that this browser takes, as an instance, or null where it takes neither.
 * @param {{relaxed: string, simd: string}} forms
 * @returns {Promise<{instance: WebAssembly.Instance, name: string} | null>}
 */
async function instantiate({ relaxed, simd }) {
  for (const [text, name] of [[relaxed, "relaxed vectors"], [simd, "vectors"]]) {
    const bytes = decodeBytes(text);
    if (!WebAssembly.validate(bytes)) continue;
    return { instance: (await WebAssembly.instantiate(bytes, {})).instance, name };
  }
  return null;
}

/** A module that was compiled for one layer and one shape. */
class Preset {
  /** @param {ModuleData} data @param {WebAssembly.Instance} instance */
  constructor(data, instance) {
    this.data = data;
    this.index = new Int32Array(decodeBytes(data.weights.index).buffer);
    this.memory = /** @type {WebAssembly.Memory} */ (instance.exports.memory);
    this.start = /** @type {() => void} */ (instance.exports.run);
  }

  /**
   * The result, and how long the module alone took [ms].
   * @param {ArrayLike<number>} x
   * @param {Weights[]} own
   * @param {Conv[]} convs of the layer
   */
  run(x, own, convs) {
    const { input, output, weights: place } = this.data;
    const { buffer } = this.memory;
    const flat = new Float64Array(place.count);
    let next = 0;
    own.forEach(({ w, b }, i) => {
      flat.set(w, next);
      if (b) flat.set(b, next + w.length);
      next += w.length + convs[i].out_channels;
    });
    const packed = new Float32Array(buffer, place.offset, this.index.length);
    this.index.forEach((from, k) => {
      if (from >= 0) packed[k] = flat[from];
    });
    new Float32Array(buffer, input.offset, product(input.shape)).set(x);
    const begin = performance.now();
    this.start();
    const time = performance.now() - begin;
    return { y: new Float32Array(buffer, output.offset, product(output.shape)).slice(), time };
  }
}

export class Engine {
  /** @param {TapData} data @param {WebAssembly.Instance} instance @param {string} name */
  constructor(data, instance, name) {
    this.data = data;
    this.name = name;
    this.memory = /** @type {WebAssembly.Memory} */ (instance.exports.memory);
    /** @type {WeakMap<Conv, {key: string, plan: TapPlan}>} */
    this.plans = new WeakMap();
    /** @type {Map<string, Preset>} */
    this.presets = new Map();
    this.taps = /** @type {(record: number) => void} */ (instance.exports.taps);
  }

  /** With relaxed vector instructions where the browser has them, else with plain ones; null where it has neither. */
  /** @param {TapData | undefined} data @returns {Promise<Engine | null>} */
  static async start(data) {
    if (!data || typeof WebAssembly === "undefined") return null;
    const found = await instantiate(data);
    return found && new Engine(data, found.instance, found.name);
  }

  /** Modules for single layers, by the text of the layer with its shape. @param {{module: ModuleData}[]} list */
  async load(list) {
    for (const { module } of list) {
      const found = await instantiate(module);
      if (found) this.presets.set(module.text, new Preset(module, found.instance));
    }
  }

  /** The calls of a convolution, kept as long as it is. @param {Conv} conv @param {number[]} shape */
  planOf(conv, shape) {
    const key = shape.join();
    const held = this.plans.get(conv);
    if (held?.key === key) return held.plan;
    const plan = planTapCalls(conv, shape);
    this.plans.set(conv, { key, plan });
    return plan;
  }

  /**
   * One convolution of one image.
   * @param {Conv} conv
   * @param {number[]} shape
   * @param {ArrayLike<number>} x
   * @param {Weights} weights
   * @returns {Float32Array} a view that lasts until the next call
   */
  convolve(conv, shape, x, { w, b }) {
    const plan = this.planOf(conv, shape);
    const count = product(plan.output.slice(1));
    const most = Math.max(...plan.calls.map((call) => call.index.length));
    const offsets = Math.max(...plan.calls.map((call) => call.offsets.length));
    let next = this.data.heap;
    /** @param {number} words */
    const take = (words) => {
      const at = next;
      next = (at + 4 * words + 63) & ~63;
      return at;
    };
    const at = {
      x: take(product(plan.frame)), y: take(count), offsets: take(offsets), weights: take(most), bias: take(conv.out_channels),
    };
    const record = take(this.data.words.length);
    const missing = next + 64 - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536));
    const { buffer } = this.memory;
    fillFrame(plan, x, new Float32Array(buffer, at.x, product(plan.frame)));
    const bias = new Float32Array(buffer, at.bias, conv.out_channels);
    if (b) bias.set(b);
    else bias.fill(0);
    for (const call of plan.calls) {
      new Int32Array(buffer, at.offsets, call.offsets.length).set(call.offsets);
      const packed = new Float32Array(buffer, at.weights, call.index.length);
      call.index.forEach((from, i) => (packed[i] = w[from]));
      /** @type {Record<string, number>} */
      const words = { ...at, y: at.y + 4 * call.start, ...call.words };
      new Int32Array(buffer, record, this.data.words.length).set(this.data.words.map((name) => words[name]));
      this.taps(record);
    }
    return new Float32Array(buffer, at.y, count);
  }

  /**
   * Values before the first step and after each: convolutions here, other steps in JavaScript.
   * @param {Plan[]} plans
   * @param {Float64Array} x
   * @param {Weights[]} weights
   */
  runPlans(plans, x, weights) {
    const found = [x];
    let used = 0;
    for (const plan of plans) {
      const before = found[found.length - 1];
      if (!plan.parts.some((part) => part.conv)) {
        found.push(runStep(plan, before, []));
        continue;
      }
      const y = new Float64Array(plan.channelsOut * product(plan.sizesOut));
      for (const { conv, firstIn, firstOut } of plan.parts) {
        if (!conv) continue;
        const places = product(plan.sizesIn);
        const shape = [1, conv.in_channels, ...plan.sizesIn.slice(3 - conv.kernel_size.length)];
        const taken = before.subarray(firstIn * places, (firstIn + conv.in_channels) * places);
        y.set(this.convolve(conv, shape, taken, weights[used]), firstOut * product(plan.sizesOut));
        used += 1;
      }
      found.push(y);
    }
    return found;
  }
}
