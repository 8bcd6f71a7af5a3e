/** Steps of a layer in a few words. */
import { formatNumber } from "./dom.js";
import { axisLetters, formatConv } from "./format.js";

/** @import {Step} from "./chain.js" */
/** @import {AxisField} from "./field.js" */
/** @import {Conv} from "./spec.js" */

/** What a step does, in a few words. @param {Step} step @returns {string} */
export function nameStep(step) {
  switch (step.type) {
    case "conv": {
      const kernel = step.kernel_size.join("×");
      const word = formatConv(step).split(" ")[0].replace(/_/g, " ");
      const stride = step.stride.some((s) => s > 1) ? `, stride ${[...new Set(step.stride)].join("×")}` : "";
      const gaps = step.dilation.some((d, a) => d > 1 && step.kernel_size[a] > 1);
      return `${kernel} ${word}${stride}${gaps ? `, dilation ${[...new Set(step.dilation)].join("×")}` : ""}`;
    }
    case "split":
      return `split: ${step.branches.map((branch) => branch.kernel_size.join("×")).join(", ")}`;
    case "shuffle":
      return `channel shuffle, ${step.groups} groups`;
    case "pixel_shuffle":
      return `pixel shuffle ×${step.factor}`;
    case "resize":
      return `${step.mode} resize ×${step.factor}`;
    case "activation":
      return step.name;
  }
}

/** How far the taps of a dilated convolution stand apart. @param {Conv} conv */
export function dilationWords({ dilation, kernel_size: sizes, transposed }) {
  const letters = axisLetters(sizes.length);
  const wide = letters.map((letter, a) => ({ letter, by: sizes[a] > 1 ? dilation[a] : 1 })).filter(({ by }) => by > 1);
  const steps = [...new Set(wide.map(({ by }) => by))];
  const words = steps.map((by) => `${by} apart on ${joinWords(wide.filter((each) => each.by === by).map(({ letter }) => letter))}`);
  return words.length ? `Dilation: taps stand ${words.join(", ")}${transposed ? " of the output" : ""}.` : "";
}

/**
 * The numbers of a receptive field in plain words, once for axes that are alike.
 * @param {AxisField[]} axes
 * @param {string[]} letters
 */
export function fieldWords(axes, letters) {
  /** @type {Map<string, string[]>} */
  const alike = new Map();
  axes.forEach((axis, a) => {
    const words = axisWords(axis);
    alike.set(words, [...(alike.get(words) ?? []), letters[a]]);
  });
  return [...alike].map(([words, names]) => `On ${joinWords(names)}: ${words}`);
}

/** @param {AxisField} axis */
function axisWords({ size, stride: [up, down], offset, padding, phases }) {
  if (!size) return "no output sees any input.";
  const seen = size === 1 ? "one output sees one position of the input" : `one output sees a stretch of ${size} positions of the input`;
  const begins = padding ? `begins ${padding} before it, where there is padding or nothing` : "begins inside the input";
  const below = offset < 0 ? ", negative because that is before the first input" : "";
  const kinds = phases.filter((phase) => phase.size).length;
  const mean = kinds > 1 ? `, the mean over ${kinds} kinds of outputs, which see different stretches` : "";
  const holes = kinds < phases.length ? " Some outputs are holes, which see nothing." : "";
  const steps = down > 1 ? `${up}/${down}` : String(up);
  return `${seen}. Count positions from the first input, which is 0: the stretch of output 0 ${begins}. Its centre is its middle, ${formatNumber(offset)}${below}${mean}. With each further output it moves by ${steps}, the stride.${holes}`;
}

/** @param {string[]} words */
function joinWords(words) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}` : words.join("");
}
