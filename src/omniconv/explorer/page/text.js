/** One line of text for every problem, read: the grammar of the Python package. */
import { LIMIT, OmniError, repr, specError } from "./integers.js";
import { AXIS_LETTERS, PADS, axisLetters, labelOf } from "./format.js";
import { ACTIVATIONS, activation } from "./activation.js";
import { PADDING_MODES, conv } from "./spec.js";
import { RESIZE_MODES, chain, dimsOf, inChannels, pixelShuffle, resize, shuffle, split } from "./chain.js";

/** @import {Conv} from "./spec.js" */
/** @import {Chain, Spec, Step} from "./chain.js" */

const SAME_WORDS = ["same_upper", "same_lower"];
const LABELS = [
  "convolution", "depthwise", "depthwise_transposed", "dilated", "grouped", "pointwise", "pointwise_grouped",
  "transposed",
];

/** @param {string[]} words @param {string} line @returns {Record<string, number>} */
function parseKeys(words, line) {
  /** @type {Record<string, number>} */
  const values = {};
  for (const word of words) {
    const token = /^([a-z]+)(-?[0-9]{1,18})$/.exec(word);
    if (!token) {
      const need = "key and integer, e.g. kh3";
      throw specError(`word ${repr(word)} is not part of the grammar`, { need, at: line });
    }
    if (Object.hasOwn(values, token[1])) {
      throw specError(`key ${repr(token[1])} is given twice`, { need: "each key once", at: line });
    }
    values[token[1]] = Number(token[2]);
  }
  return values;
}

/** @param {Record<string, number>} values @param {string[]} known @param {string} line */
function checkKeys(values, known, line) {
  const unknown = Object.keys(values).filter((key) => !known.includes(key));
  if (unknown.length) {
    const need = `keys of ${[...new Set(known)].sort().join(" ")}`;
    throw specError(`unknown keys ${unknown.sort().join(", ")}`, { need, at: line });
  }
}

/** @param {string} text @param {string} line @returns {{spec: Conv, values: Record<string, number>}} */
function parseConv(text, line) {
  const words = text.split(/\s+/).filter(Boolean);
  if (!words.length || !LABELS.includes(words[0])) {
    const problem = `problem line begins with ${repr(words.length ? words[0] : "nothing")}`;
    throw specError(problem, { need: `one of ${LABELS.join(", ")}`, at: line });
  }
  const flags = new Set(words.slice(1).filter((w) => w === "flip" || SAME_WORDS.includes(w) || PADDING_MODES.includes(w)));
  const values = parseKeys(words.slice(1).filter((word) => !flags.has(word)), line);
  const axes = [...AXIS_LETTERS].filter((a) => Object.hasOwn(values, `k${a}`));
  if (!["w", "hw", "dhw"].includes(axes.join(""))) {
    throw specError("kernel sizes are missing", { need: "kw, or kh kw, or kd kh kw", at: line });
  }
  const missing = ["ic", "oc"].filter((key) => !Object.hasOwn(values, key));
  if (missing.length) throw specError(`${missing.join(" and ")} missing`, { need: "ic and oc", at: line });
  const known = ["n", "ic", "oc", "g", ...[..."iksda"].flatMap((k) => axes.map((a) => k + a))];
  checkKeys(values, [...known, ...axes.flatMap((a) => PADS[a])], line);
  const same = SAME_WORDS.filter((word) => flags.has(word));
  const modes = PADDING_MODES.filter((word) => flags.has(word));
  if (same.length > 1 || modes.length > 1) {
    const problem = `contradicting words ${[...same, ...modes].sort().join(" and ")}`;
    throw specError(problem, { need: "one of them", at: line });
  }
  /** @param {string} key @param {number} fallback */
  const each = (key, fallback) => axes.map((a) => values[key + a] ?? fallback);
  /** @type {Conv} */
  let spec;
  try {
    spec = conv(values.ic, values.oc, each("k", 1), {
      dims: axes.length,
      stride: each("s", 1),
      dilation: each("d", 1),
      padding: same.length ? same[0] : axes.map((a) => PADS[a].map((key) => values[key] ?? 0)),
      groups: values.g ?? 1,
      transposed: words[0] === "transposed" || words[0] === "depthwise_transposed",
      output_padding: each("a", 0),
      flip: flags.has("flip"),
      padding_mode: modes.length ? modes[0] : "zeros",
    });
  } catch (error) {
    throw moveError(error, line);
  }
  if (labelOf(spec) !== words[0]) {
    const problem = `label ${repr(words[0])} does not describe the layer`;
    throw specError(problem, { need: repr(labelOf(spec)), at: line });
  }
  return { spec, values };
}

/** The same error, found at another place. @param {unknown} error @param {string} at */
function moveError(error, at) {
  if (!(error instanceof OmniError) || error.name !== "SpecError") return error;
  return specError(error.problem, { need: error.need, fix: error.fix, at });
}

/** A convolution inside a chain, whose sizes stand in the head of the line. @param {string} text @param {string} line */
function parseLayer(text, line) {
  const { spec, values } = parseConv(text, line);
  const keys = ["n", ...axisLetters(spec.kernel_size.length).map((a) => `i${a}`)];
  const sizes = keys.filter((key) => Object.hasOwn(values, key));
  if (sizes.length) {
    throw specError(`${sizes.join(" ")} inside a chain`, { need: "sizes after the word chain", at: line });
  }
  return spec;
}

/** @param {string} text @param {string} line @returns {Step} */
function parseStep(text, line) {
  const words = text.split(/\s+/).filter(Boolean);
  const [name, ...rest] = words;
  const number = /^([gf])(\d+)$/.exec(rest[0] ?? "");
  if (name === "split") {
    return split(rest.join(" ").split(" + ").map((branch) => parseLayer(branch, line)));
  }
  if (name === "shuffle" && rest.length === 1 && number?.[1] === "g") return shuffle(Number(number[2]));
  if (name === "pixel_shuffle" && rest.length === 1 && number?.[1] === "f") return pixelShuffle(Number(number[2]));
  if (name === "resize" && rest.length === 2 && number?.[1] === "f" && RESIZE_MODES.includes(rest[1])) {
    return resize(Number(number[2]), rest[1]);
  }
  if (name !== undefined && Object.hasOwn(ACTIVATIONS, name)) return parseActivation(text, name, rest, line);
  return parseLayer(text, line);
}

/** @param {string} text @param {string} name @param {string[]} given @param {string} line */
function parseActivation(text, name, given, line) {
  /** @type {Record<string, number>} */
  const pairs = {};
  for (const item of given) {
    const found = /^([^=]*)=(.+)$/.exec(item);
    const value = found ? readFloat(found[2]) : NaN;
    if (!found || Number.isNaN(value)) {
      throw specError(`step ${repr(text)} is not readable`, { need: "name key=number ...", at: line });
    }
    pairs[found[1]] = value;
  }
  const known = Object.keys(ACTIVATIONS[name]);
  if (Object.keys(pairs).length < given.length || !Object.keys(pairs).every((key) => known.includes(key))) {
    const need = known.length ? `some of ${repr(known)}, each once` : "no parameters";
    throw specError(`step ${repr(text)} is not readable`, { need, at: line });
  }
  return activation(name, pairs);
}

/** @param {string} text */
function readFloat(text) {
  if (/^[+-]?inf(inity)?$/i.test(text)) return text.startsWith("-") ? -Infinity : Infinity;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
}

/** @param {Record<string, number>} values @param {number} channels @param {number} dims @param {string} line */
function readShape(values, channels, dims, line) {
  const keys = ["n", ...axisLetters(dims).map((a) => `i${a}`)];
  const given = keys.slice(1).filter((key) => Object.hasOwn(values, key));
  if (!given.length) return null;
  if (given.length < dims) {
    const need = `${keys.slice(1).join(" ")}, or none of them`;
    throw specError(`only ${given.join(" ")} given`, { need, at: line });
  }
  for (const key of keys) {
    const value = values[key] ?? 1;
    if (!(value >= 1 && value <= LIMIT)) {
      throw specError(`${key}=${value} is out of range`, { need: `integers from 1 to ${LIMIT}`, at: line });
    }
  }
  return [values.n ?? 1, channels, ...keys.slice(1).map((key) => values[key])];
}

/** Read one problem line. @param {string} text @returns {{spec: Spec, shape: number[] | null}} */
export function parseSpec(text) {
  const line = text.split("#")[0].trim();
  if (line.split(/\s+/)[0] !== "chain") {
    const { spec, values } = parseConv(line, line);
    return { spec, shape: readShape(values, spec.in_channels, spec.kernel_size.length, line) };
  }
  const [head, ...steps] = line.split(">").map((part) => part.trim());
  const values = parseKeys(head.split(/\s+/).slice(1), line);
  /** @type {Chain} */
  let spec;
  try {
    spec = chain(steps.map((step) => parseStep(step, line)));
  } catch (error) {
    throw moveError(error, line);
  }
  const dims = dimsOf(spec);
  checkKeys(values, ["n", ...axisLetters(dims).map((a) => `i${a}`)], line);
  return { spec, shape: readShape(values, inChannels(spec), dims, line) };
}
