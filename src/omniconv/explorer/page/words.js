/** Steps of a layer in a few words. */
import { axisLetters, formatConv } from "./format.js";

/** @import {Step} from "./chain.js" */
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

/** @param {string[]} words */
function joinWords(words) {
  return words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}` : words.join("");
}
