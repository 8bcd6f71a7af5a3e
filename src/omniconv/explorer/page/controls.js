/** The controls of a layer: one for every argument of its kind, and the sizes of the input. */
import { OmniError, range } from "./integers.js";
import { ACTIVATIONS } from "./activation.js";
import { axisLetters } from "./format.js";
import { PADDING_MODES } from "./spec.js";
import { RESIZE_MODES, dimsOf } from "./chain.js";
import { DEFAULTS } from "./kinds.js";
import { parseSpec } from "./text.js";
import { make, segmented } from "./dom.js";

/** @import {Setting} from "./layer.js" */
/** @import {KindWords} from "./data.js" */

const NAMED_PADDINGS = ["same", "same_lower", "causal", "valid"];
const PER_AXIS = ["kernel_size", "stride", "dilation", "output_padding"];
const LISTS = ["kernel_sizes", "splits", "axes"];

/** @type {Record<string, string[]>} */
const CHOICES = {
  padding_mode: PADDING_MODES,
  mode: RESIZE_MODES,
  activation: ["", ...Object.keys(ACTIVATIONS)],
};

/** @param {string} name */
function humanName(name) {
  return name.replace(/_/g, " ");
}

/** A number, null where nothing is written, the text itself where it is none. @param {string} text */
function readNumber(text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : trimmed;
}

/**
 * @param {string} label
 * @param {unknown} value
 * @param {(value: number | string | null) => void} change
 * @param {Record<string, unknown>} [attributes]
 */
export function numberBox(label, value, change, attributes = {}) {
  const input = /** @type {HTMLInputElement} */ (
    make("input", { type: "number", step: 1, "aria-label": label, value: value ?? "", ...attributes })
  );
  input.addEventListener("input", () => change(readNumber(input.value)));
  return input;
}

/**
 * @param {string} label
 * @param {string[]} options
 * @param {string} chosen
 * @param {(value: string) => void} change
 */
export function selectBox(label, options, chosen, change) {
  const select = /** @type {HTMLSelectElement} */ (
    make(
      "select",
      { "aria-label": label },
      options.map((option) => make("option", { value: option, selected: option === chosen }, option ? humanName(option) : "none")),
    )
  );
  select.addEventListener("change", () => change(select.value));
  return select;
}

/** @param {unknown} value @param {number} dims @returns {unknown[]} */
function spread(value, dims) {
  const given = Array.isArray(value) ? value : [value];
  return range(dims).map((a) => given[Math.max(0, given.length - dims + a)] ?? given[given.length - 1]);
}

/**
 * The form of a setting.
 * @param {Setting} setting
 * @param {KindWords | undefined} words
 * @param {(setting: Setting, redraw: boolean) => void} change
 * @returns {HTMLElement}
 */
export function makeControls(setting, words, change) {
  const { kind, given } = setting;
  const dims = kind === "text" ? dimsOfText(setting.text) : [1, 2, 3].includes(Number(given.dims)) ? Number(given.dims) : 2;
  /** @param {string} name @param {unknown} value @param {boolean} [redraw] */
  const set = (name, value, redraw = false) => {
    setting = { ...setting, given: { ...setting.given, [name]: value } };
    change(setting, redraw);
  };
  /** @param {string} name */
  const helpOf = (name) => words?.parameters.find((parameter) => parameter.name === name)?.help ?? "";
  const rows = [];
  if (kind !== "text") {
    rows.push(
      segmented("Axes", [["1", "1-D"], ["2", "2-D"], ["3", "3-D"]], String(dims), (value) => {
        /** @type {Record<string, unknown>} */
        const next = { ...setting.given, dims: Number(value) };
        for (const name of PER_AXIS) if (name in next) next[name] = spread(next[name], Number(value));
        if (Array.isArray(next.padding)) next.padding = spread(next.padding, Number(value));
        change({ ...setting, given: next }, true);
      }),
    );
    for (const name of Object.keys(DEFAULTS[kind])) {
      if (name === "dims") continue;
      rows.push(makeRow(name, controlOf(name, kind, given, dims, set), helpOf(name)));
    }
  }
  const letters = axisLetters(3);
  const boxes = letters.map((letter, a) => {
    if (a < 3 - dims) return null;
    return labelled(letter, numberBox(`input size, ${AXIS_WORDS[letter]}`, setting.sizes[a], (value) => {
      const sizes = [...setting.sizes];
      sizes[a] = /** @type {number} */ (value ?? NaN);
      setting = { ...setting, sizes };
      change(setting, false);
    }));
  });
  rows.push(makeRow("input size", make("span.boxes", null, boxes), "positions of the input on each axis"));
  const told = (words?.parameters ?? []).filter(({ help }) => help);
  if (told.length) {
    rows.push(make("details.help", null, make("summary", null, "What these mean"), make("dl", null, told.flatMap(({ name, help }) => [make("dt", null, humanName(name)), make("dd", null, help)]))));
  }
  return make("form.controls", { submit: (/** @type {Event} */ event) => event.preventDefault() }, rows);
}

/** Axes of a line; three where it is none. @param {string} text */
function dimsOfText(text) {
  try {
    return dimsOf(parseSpec(text).spec);
  } catch (error) {
    if (error instanceof OmniError) return 3;
    throw error;
  }
}

/** @type {Record<string, string>} */
export const AXIS_WORDS = { d: "depth", h: "height", w: "width" };

/** Pixels that a drag goes for a step of one. */
const DRAG_STEP = 14;

/** A box with its letter, which dragged to the side raises and lowers the number. @param {string} letter @param {HTMLInputElement} box */
function labelled(letter, box) {
  let [from, held] = [0, 0];
  const handle = make("span.letter.dragged", {
    "aria-hidden": "true",
    title: "drag to the side to change the number",
    pointerdown: (/** @type {PointerEvent} */ event) => {
      event.preventDefault();
      [from, held] = [event.clientX, Number(box.value)];
      handle.setPointerCapture(event.pointerId);
    },
    pointermove: (/** @type {PointerEvent} */ event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const value = String(Math.max(0, held + Math.round((event.clientX - from) / DRAG_STEP)));
      if (value === box.value) return;
      box.value = value;
      box.dispatchEvent(new Event("input"));
    },
  }, letter);
  return make("span.box", null, handle, box);
}

/** @param {string} name @param {HTMLElement} control @param {string} help */
function makeRow(name, control, help) {
  return make("div.row", { title: help || null }, make("span.name", null, humanName(name)), control);
}

/**
 * @param {string} name
 * @param {string} kind
 * @param {Record<string, unknown>} given
 * @param {number} dims
 * @param {(name: string, value: unknown, redraw?: boolean) => void} set
 * @returns {HTMLElement}
 */
function controlOf(name, kind, given, dims, set) {
  const value = given[name];
  const letters = axisLetters(dims);
  if (PER_AXIS.includes(name)) {
    const held = spread(value, dims);
    return make(
      "span.boxes",
      null,
      letters.map((letter, a) =>
        labelled(letter, numberBox(`${humanName(name)}, ${AXIS_WORDS[letter]}`, held[a], (number) => {
          held[a] = number;
          set(name, [...held]);
        })),
      ),
    );
  }
  if (name === "padding") return paddingControl(kind, value, dims, set);
  if (LISTS.includes(name)) {
    const text = Array.isArray(value) ? value.join(", ") : "";
    const input = /** @type {HTMLInputElement} */ (make("input", { type: "text", "aria-label": humanName(name), value: text }));
    input.addEventListener("input", () => set(name, readList(input.value, name !== "kernel_sizes")));
    return input;
  }
  if (name === "flip") {
    const box = /** @type {HTMLInputElement} */ (make("input", { type: "checkbox", "aria-label": "flip", checked: value === true }));
    box.addEventListener("change", () => set(name, box.checked));
    return box;
  }
  if (name === "form") {
    const forms = kind === "shuffled_grouped" ? ["unit", "layers"] : ["per_channel", "dense"];
    return selectBox(name, forms, String(value), (word) => set(name, word));
  }
  if (Object.hasOwn(CHOICES, name)) {
    return selectBox(humanName(name), CHOICES[name], String(value ?? ""), (word) => set(name, word || null));
  }
  return numberBox(humanName(name), value, (number) => set(name, number), { placeholder: "default" });
}

/** Numbers apart by commas. @param {string} text @param {boolean} optional */
function readList(text, optional) {
  if (!text.trim() && optional) return null;
  return text.split(",").map((part) => part.trim()).filter(Boolean).map(readNumber);
}

/**
 * @param {string} kind
 * @param {unknown} value
 * @param {number} dims
 * @param {(name: string, value: unknown, redraw?: boolean) => void} set
 */
function paddingControl(kind, value, dims, set) {
  const named = typeof value === "string";
  const options = kind === "mixed" ? NAMED_PADDINGS.slice(0, 3) : ["pairs", ...NAMED_PADDINGS];
  const select = selectBox("padding", options, named ? value : "pairs", (word) => {
    set("padding", word === "pairs" ? range(dims).map(() => [0, 0]) : word, true);
  });
  if (named) return select;
  const pairs = spread(Array.isArray(value) ? value : [[0, 0]], dims).map((pair) => [.../** @type {unknown[]} */ (Array.isArray(pair) ? pair : [pair, pair])]);
  return make(
    "span.stacked",
    null,
    select,
    axisLetters(dims).map((letter, a) =>
      make(
        "span.boxes",
        null,
        ["before", "after"].map((end, side) =>
          labelled(side ? "→" : letter, numberBox(`padding ${end}, ${AXIS_WORDS[letter]}`, pairs[a][side], (number) => {
            pairs[a][side] = number;
            set("padding", pairs.map((pair) => [...pair]));
          })),
        ),
      ),
    ),
  );
}
