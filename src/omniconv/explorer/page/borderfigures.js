/** Paddings side by side: a strip for each, with the windows of its first and last output. */
import { range } from "./integers.js";
import { axisLetters } from "./format.js";
import { make } from "./dom.js";
import { countExtent } from "./geometry.js";
import { Figure } from "./figure.js";
import { firstConv, listModes, listSame, readAlong } from "./borders.js";

/** @import {Border} from "./borders.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Conv} from "./spec.js" */
/** @import {Scene, Shape, Theme} from "./scene.js" */

/** Positions of a strip that are drawn at each of its ends. */
const MOST_END = 9;

/** Words that positions have on an axis. @type {Record<string, string>} */
const PLACES = { d: "depths", h: "rows", w: "columns" };

export class BorderFigures {
  constructor() {
    this.same = new Figure("Same, side by side");
    this.modes = new Figure("Padding modes, side by side");
  }

  /** @param {Layer} layer */
  show({ spec, shapes }) {
    const found = firstConv(spec, shapes);
    this.same.element.hidden = this.modes.element.hidden = !found;
    if (!found) return;
    const { conv, shape, index } = found;
    const letters = axisLetters(shape.length - 2);
    const step = shapes.length > 2 ? ` (step ${index + 1})` : "";
    const same = listSame(conv, shape);
    this.same.show(
      (theme) => stripScene(same, conv, shape, `What "same" pads, along the last axis`, theme),
      [
        make("p", null, `What each pads on the last axis${step}, with the windows of its first and last output.`),
        ...sameWords(same, conv, letters),
      ],
      () => sameTable(same, letters),
    );
    const modes = listModes(conv, shape);
    const padded = modes[0].padding.some((pair) => pair[0] || pair[1]);
    this.modes.show(
      (theme) => stripScene(modes, conv, shape, "Which positions each padding mode reads, along the last axis", theme),
      [
        make("p", null, padded ? `Numbers are positions of the input that are read${step}; padding repeats some, or is 0.` : `This layer${step} has no padding: all modes are the same.`),
        padded ? make("p.result", null, `Only these outputs depend on the mode: ${edgeWords(modes[0], letters)}.`) : null,
      ],
      () => modeTable(modes, shape, letters),
    );
  }
}

/** @param {Border} border @param {string[]} letters */
function edgeWords({ edges }, letters) {
  const words = letters.map((letter, a) => (edges[a]?.length ? `${PLACES[letter]} ${shorten(edges[a])}` : "")).filter(Boolean);
  return words.join(" and ") || "none";
}

/** @param {number[]} places */
function shorten(places) {
  return places.length > 8 ? `${places.slice(0, 4).join(", ")}, … ${places.slice(-3).join(", ")}` : places.join(", ");
}

/** Where the layers of two frameworks differ. @param {Border[]} borders @param {Conv} conv @param {string[]} letters */
function sameWords(borders, conv, letters) {
  const [, tensorflow, , , torch] = borders;
  const words = letters.flatMap((letter, a) => {
    if (torch.refusal) return [];
    if (torch.sizes[a] !== tensorflow.sizes[a]) return [`on ${letter} PyTorch's has ${torch.sizes[a]} outputs and TensorFlow's ${tensorflow.sizes[a]}`];
    const by = torch.shift[a];
    return by ? [`on ${letter} every window of PyTorch's begins ${Math.abs(by)} ${by < 0 ? "earlier" : "later"} than TensorFlow's, so that every output may differ`] : [];
  });
  return [
    make("p.result", null, words.length ? `${words.join("; ")}.` : "Here padding = d (k − 1) / 2 and TensorFlow's same are one."),
    borders[3].refusal ? make("p.small", null, `${borders[3].refusal}.`) : null,
  ];
}

/** @param {Border[]} borders @param {string[]} letters */
function sameTable(borders, letters) {
  return {
    heads: ["padding", ...letters.map((letter) => `before and after, ${letter}`), "output", "windows begin later than TensorFlow's by", "outputs that read padding"],
    rows: borders.map((border) => [
      border.name, ...border.padding.map((pair) => pair.join(" and ")), border.sizes.join("×") || border.refusal, border.shift.join(", "), border.sizes.length ? edgeWords(border, letters) : "",
    ]),
    caption: "Padding by the rules of each framework",
  };
}

/** @param {Border[]} borders @param {number[]} shape @param {string[]} letters */
function modeTable(borders, shape, letters) {
  return {
    heads: ["mode", ...letters.map((letter) => `reads along ${letter}`), "output"],
    rows: borders.map((border) => [
      border.mode,
      ...letters.map((_, a) => (border.refusal ? "" : readAlong(border, a, shape[2 + a]).slice(0, 40).map((place) => (place < 0 ? "zero" : String(place))).join(" "))),
      border.sizes.join("×") || border.refusal,
    ]),
    caption: "Positions that are read, padding included",
  };
}

/**
 * A strip for each padding along the last axis.
 * @param {Border[]} borders
 * @param {Conv} conv
 * @param {number[]} shape
 * @param {string} title
 * @param {Theme} theme
 * @returns {Scene}
 */
function stripScene(borders, conv, shape, title, theme) {
  const a = shape.length - 3;
  const size = shape[shape.length - 1];
  const before = Math.min(MOST_END, Math.max(...borders.map(({ padding }) => padding[a][0])));
  const after = Math.min(MOST_END, Math.max(...borders.map(({ padding }) => padding[a][1])));
  const places = size > 2 * MOST_END ? [...range(MOST_END), ...range(MOST_END).map((i) => size - MOST_END + i)] : range(size);
  const all = [...range(before).map((i) => i - before), ...places, ...range(after).map((i) => size + i)];
  const cell = Math.max(13, Math.min(26, Math.floor(330 / all.length)));
  const extent = countExtent(conv.kernel_size[a], conv.dilation[a]);
  /** @type {Shape[]} */
  const shapes = [];
  borders.forEach((border, n) => {
    const top = n * (cell + 44);
    shapes.push({ kind: "text", x: 0, y: top + 9, text: stripName(border, a), size: 12, fill: theme.ink });
    const line = top + 20;
    const reads = readAlong(border, a, size);
    all.forEach((place, i) => {
      const inside = place >= 0 && place < size;
      if (!inside && (border.refusal || place < -border.padding[a][0] || place >= size + border.padding[a][1])) return;
      const read = inside ? place : reads[place + border.padding[a][0]];
      const box = { x: i * cell + 1, y: line + 1, w: cell - 2, h: cell - 2 };
      shapes.push({ kind: "rect", ...box, stroke: inside ? theme.soft : theme.ink, line: inside ? 1 : 1.5, dash: inside ? [] : [2, 2] });
      const text = read < 0 ? "0" : String(read);
      const small = inside ? theme.soft : theme.ink;
      if (read >= 0 || border.mode === "zeros") shapes.push({ kind: "text", x: (i + 0.5) * cell, y: line + cell / 2, text, size: Math.min(11, (cell - 2) / (0.62 * text.length)), anchor: "middle", fill: read < 0 ? theme.accent : small, bold: !inside });
    });
    if (border.refusal) return;
    for (const [o, level] of [[0, 0], [border.sizes[a] - 1, 1]]) {
      const first = o * conv.stride[a] - border.padding[a][0];
      const ends = [first, first + extent - 1].map((place) => all.indexOf(place));
      if (ends.some((end) => end < 0)) continue;
      const y = line + cell + 4 + 5 * level;
      shapes.push({ kind: "path", points: [[ends[0] * cell + 2, y - 3], [ends[0] * cell + 2, y], [(ends[1] + 1) * cell - 2, y], [(ends[1] + 1) * cell - 2, y - 3]], stroke: theme.accent, line: 2 });
    }
  });
  const letters = Math.max(...borders.map((border) => stripName(border, a).length));
  return { width: Math.max(all.length * cell + 2, letters * 6.4), height: borders.length * (cell + 44), shapes, title };
}

/** @param {Border} border @param {number} a */
function stripName({ name, padding, sizes, refusal }, a) {
  const words = refusal ? "refused" : `${padding[a].join(" and ")} → ${sizes[a]} outputs`;
  return `${name}: ${words}`;
}
