/** Specs of several steps, and the steps that hold no weights: shuffle, pixel shuffle, resize. */
import { asChoice, asInteger, asShape, range, repr, shapeError, specError, OmniError } from "./integers.js";
import { convOutputShape, takeShape } from "./spec.js";
import { formatSpec } from "./format.js";

/** @import {Conv} from "./spec.js" */
/** @import {Activation} from "./activation.js" */
/** @typedef {{type: "split", branches: Conv[]}} Split */
/** @typedef {{type: "shuffle", groups: number}} Shuffle */
/** @typedef {{type: "pixel_shuffle", factor: number}} PixelShuffle */
/** @typedef {{type: "resize", factor: number, mode: string}} Resize */
/** @typedef {Conv | Split | Shuffle | PixelShuffle | Resize | Activation} Step */
/** @typedef {{type: "chain", steps: Step[]}} Chain */
/** @typedef {Conv | Chain} Spec */

export const RESIZE_MODES = ["nearest", "linear"];

/** @param {unknown} groups @returns {Shuffle} */
export function shuffle(groups) {
  return { type: "shuffle", groups: asInteger("groups", groups, 1, undefined, "shuffle") };
}

/** @param {unknown} factor @returns {PixelShuffle} */
export function pixelShuffle(factor) {
  return { type: "pixel_shuffle", factor: asInteger("factor", factor, 1, undefined, "pixel_shuffle") };
}

/** @param {unknown} factor @param {unknown} [mode] @returns {Resize} */
export function resize(factor, mode = "nearest") {
  const taken = asInteger("factor", factor, 1, undefined, "resize");
  return { type: "resize", factor: taken, mode: asChoice("resize mode", mode, RESIZE_MODES) };
}

/** @param {Conv[]} branches @returns {Split} */
export function split(branches) {
  if (!branches.length) throw specError("a split without branches", { need: "at least one branch" });
  if (new Set(branches.map((branch) => branch.kernel_size.length)).size > 1) {
    throw specError("branches of a split differ in their number of axes", { need: "equal numbers of axes" });
  }
  return { type: "split", branches };
}

/** For each output channel of a shuffle, the channel it copies. @param {Shuffle} step @param {number} channels */
export function shuffleSource(step, channels) {
  if (channels % step.groups) {
    const problem = `shuffle groups=${step.groups} does not divide channels=${channels}`;
    throw specError(problem, { need: "channels % groups == 0" });
  }
  const width = channels / step.groups;
  return range(channels).map((c) => (c % step.groups) * width + Math.floor(c / step.groups));
}

/** @param {Step} step @returns {step is Conv | Split} */
function hasChannels(step) {
  return step.type === "conv" || step.type === "split";
}

/** @param {Conv | Split} step @param {"in_channels" | "out_channels"} name */
function channelsOf(step, name) {
  return step.type === "conv" ? step[name] : step.branches.reduce((sum, branch) => sum + branch[name], 0);
}

/** All convolutions in order, those of splits included. @param {Spec} spec @returns {Conv[]} */
export function convsOf(spec) {
  if (spec.type === "conv") return [spec];
  return spec.steps.flatMap((step) => (step.type === "conv" ? [step] : step.type === "split" ? step.branches : []));
}

/** @param {Spec} spec @returns {Step[]} */
export function stepsOf(spec) {
  return spec.type === "conv" ? [spec] : spec.steps;
}

/** @param {Spec} spec */
export function dimsOf(spec) {
  return convsOf(spec)[0].kernel_size.length;
}

/** @param {Spec} spec @returns {number} */
export function inChannels(spec) {
  if (spec.type === "conv") return spec.in_channels;
  let needed = 1;
  for (const step of spec.steps) {
    if (hasChannels(step)) return channelsOf(step, "in_channels") * needed;
    if (step.type === "pixel_shuffle") needed *= step.factor ** dimsOf(spec);
  }
  return needed;
}

/** @param {Step[]} steps @returns {Chain} */
export function chain(steps) {
  /** @type {Chain} */
  const spec = { type: "chain", steps };
  const convs = convsOf(spec);
  if (!convs.length) {
    throw specError("a chain without a convolution", { need: "at least one Conv or Split among the steps" });
  }
  if (new Set(convs.map((item) => item.kernel_size.length)).size > 1) {
    throw specError("steps of a chain differ in their number of axes", { need: "equal numbers of axes" });
  }
  let channels = inChannels(spec);
  steps.forEach((step, index) => {
    if (hasChannels(step)) {
      const taken = channelsOf(step, "in_channels");
      if (taken !== channels) {
        const problem = `step ${index} takes ${taken} channels and receives ${channels}`;
        throw specError(problem, { need: `in_channels=${channels}`, at: formatSpec(spec) });
      }
      channels = channelsOf(step, "out_channels");
    } else if (step.type === "shuffle") {
      shuffleSource(step, channels);
    } else if (step.type === "pixel_shuffle") {
      try {
        channels = stepOutputShape(step, [1, channels, ...new Array(dimsOf(spec)).fill(1)])[1];
      } catch (error) {
        if (!(error instanceof OmniError)) throw error;
        throw specError(error.problem, { need: error.need, at: formatSpec(spec) });
      }
    }
  });
  return spec;
}

/** Each branch with where its slices of the channels begin. @param {Split} step */
export function slicesOf(step) {
  let [firstIn, firstOut] = [0, 0];
  return step.branches.map((branch) => {
    const found = { branch, firstIn, firstOut };
    firstIn += branch.in_channels;
    firstOut += branch.out_channels;
    return found;
  });
}

/** @param {Split} step @param {unknown} given @returns {number[]} */
function splitOutputShape(step, given) {
  const total = channelsOf(step, "in_channels");
  const shape = takeShape(given, total, step.branches[0].kernel_size.length, () => "split");
  if (shape[1] !== total) {
    throw shapeError(`input has ${shape[1]} channels`, { need: `${total}, the sum over the branches` });
  }
  const shapes = step.branches.map((b) => convOutputShape(b, [shape[0], b.in_channels, ...shape.slice(2)]));
  const sizes = shapes.map((item) => item.slice(2));
  if (new Set(sizes.map(repr)).size > 1) {
    const problem = `branches produce different sizes [${sizes.map(repr).join(", ")}]`;
    throw shapeError(problem, { need: "equal spatial sizes" });
  }
  return [shape[0], channelsOf(step, "out_channels"), ...sizes[0]];
}

/** @param {Step} step @param {number[]} shape @returns {number[]} */
export function stepOutputShape(step, shape) {
  switch (step.type) {
    case "conv":
      return convOutputShape(step, shape);
    case "split":
      return splitOutputShape(step, shape);
    case "activation":
      return shape;
    case "shuffle":
      shuffleSource(step, shape[1]);
      return shape;
    case "resize":
      return enlarge(step.factor, asShape(shape, { at: "resize" }), shape[1]);
    case "pixel_shuffle": {
      const block = step.factor ** (shape.length - 2);
      if (shape[1] % block) {
        const problem = `pixel shuffle factor=${step.factor} does not divide channels=${shape[1]}`;
        throw shapeError(problem, { need: `channels % ${block} == 0` });
      }
      return enlarge(step.factor, asShape(shape, { at: "pixel_shuffle" }), shape[1] / block);
    }
  }
}

/** @param {number} factor @param {number[]} shape @param {number} channels */
function enlarge(factor, shape, channels) {
  return [shape[0], channels, ...shape.slice(2).map((size) => size * factor)];
}

/** The shape before the first step and after each step. @param {Spec} spec @param {unknown} given @returns {number[][]} */
export function shapesOf(spec, given) {
  if (spec.type === "conv") {
    const shape = convOutputShape(spec, given);
    return [/** @type {number[]} */ (given), shape];
  }
  const channels = inChannels(spec);
  const shape = takeShape(given, channels, dimsOf(spec), () => formatSpec(spec));
  if (shape[1] !== channels) {
    throw shapeError(`input of shape ${repr(shape)} has ${shape[1]} channels`, {
      need: `in_channels=${channels} on axis 1 (channels first)`,
      at: formatSpec(spec),
    });
  }
  const found = [shape];
  for (const step of spec.steps) found.push(stepOutputShape(step, found[found.length - 1]));
  return found;
}

/** @param {Spec} spec @param {unknown} shape @returns {number[]} */
export function outputShape(spec, shape) {
  const shapes = shapesOf(spec, shape);
  return shapes[shapes.length - 1];
}
