/** What follows from a layer alone: overlap, coverage, connectivity, receptive field and cost, drawn as they change. */
import { range } from "./integers.js";
import { dimsOf } from "./chain.js";
import { axisLetters, formatSpec } from "./format.js";
import { button, formatNumber, make, table } from "./dom.js";
import { BLOCK_HEAD, drawGrid, layGrid } from "./grid.js";
import { Figure } from "./figure.js";
import { connectivityPaths, findBlocks } from "./connectivity.js";
import { sumCost } from "./cost.js";
import { coverageAxes, receptiveAxes, supportOf } from "./field.js";
import { freeOfBorder, judgeCounts, overlapImage, overlapPhases, upsamples } from "./overlap.js";
import { listRemedies, weightsOf } from "./remedies.js";
import { BorderFigures } from "./borderfigures.js";
import { CostTable } from "./costtable.js";
import { View } from "./view.js";
import { MOST_WIRED, listLinks, wiringScene } from "./wiring.js";
import { fieldWords, nameStep } from "./words.js";

/** @import {Spec} from "./chain.js" */
/** @import {Engine} from "./engine.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Scene, Shape, Theme} from "./scene.js" */

const MOST_ACROSS = 48;
const MOST_SLICES = 12;
/** Values of a layer whose figures are drawn at once. */
const MOST_TOGETHER = 4096;

/** The first positions of a large map, so that it can be drawn. @param {ArrayLike<number>} values @param {number[]} sizes */
function cropMap(values, sizes) {
  const kept = [Math.min(sizes[0], MOST_SLICES), Math.min(sizes[1], MOST_ACROSS), Math.min(sizes[2], MOST_ACROSS)];
  const cut = Float64Array.from({ length: kept[0] * kept[1] * kept[2] }, (_, i) => {
    const [d, h, w] = [Math.floor(i / (kept[1] * kept[2])), Math.floor(i / kept[2]) % kept[1], i % kept[2]];
    return values[(d * sizes[1] + h) * sizes[2] + w];
  });
  return { values: cut, sizes: kept, whole: kept.join() === sizes.join() };
}

/**
 * One channel of numbers as a picture; of a large one the first positions.
 * @param {ArrayLike<number>} all
 * @param {number[]} allSizes three of them
 * @param {string} title
 * @param {Theme} theme
 * @param {{room?: number}} [more]
 * @returns {Scene}
 */
export function mapScene(all, allSizes, title, theme, { room = 300 } = {}) {
  const { values, sizes, whole } = cropMap(all, allSizes);
  const cell = Math.max(5, Math.min(30, Math.floor(room / Math.max(sizes[1], sizes[2]))));
  const grid = layGrid({ channels: 1, sizes, frame: [[0, 0], [0, 0]], cell, columns: Math.max(1, Math.floor(room / (sizes[2] * cell))), first: 0 });
  // Blocks without a name need no room for it.
  const head = whole && sizes[0] === 1 ? BLOCK_HEAD : 0;
  grid.y = -head;
  const scale = Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const look = { theme, value: (/** @type {number} */ i) => values[i], scale, mark: () => 0, dim: false, name: () => (whole ? "" : `the first ${sizes.slice(1).join(" × ")} of ${allSizes.slice(1).join(" × ")}`), padding: () => null };
  return { width: grid.width + 3, height: grid.height - head + 3, shapes: drawGrid(grid, look), title };
}

/** @param {ArrayLike<number>} values @param {number[]} sizes @param {string} caption */
function mapTable(values, sizes, caption) {
  const across = Math.min(40, sizes[2]);
  const rows = range(Math.min(80, sizes[0] * sizes[1])).map((row) => [
    String(row), ...range(across).map((w) => formatNumber(values[row * sizes[2] + w])),
  ]);
  return { heads: ["row", ...range(across).map((w) => `column ${w}`)], rows, caption };
}

export class Know {
  /** @param {(text: string, sizes: number[], w?: number[] | null) => void} open shows another layer, with weights where they are given */
  constructor(open) {
    this.open = open;
    this.turn = 0;
    this.timer = 0;
    /** The layer that is shown. @type {Layer | null} */
    this.known = null;
    /** The place of the output that is chosen, if one is. @type {number[] | null} */
    this.place = null;
    this.overlap = new Figure("Overlap");
    this.field = new Figure("Receptive field");
    this.coverage = new Figure("Coverage");
    this.channels = new Figure("Connectivity of channels");
    this.wiring = new Figure("Channels through the steps");
    this.borders = new BorderFigures();
    this.cost = new CostTable((text, sizes) => this.open(text, sizes));
    this.element = make(
      "div.figures",
      null,
      make("div.column", null, this.overlap.element, this.coverage.element, this.borders.same.element),
      make("div.column", null, this.field.element, this.channels.element, this.wiring.element, this.borders.modes.element),
      this.cost.element,
    );
  }

  /** Whether this is the layer that is told of; of its numbers nothing is told. @param {Layer} layer */
  knows({ plans }) {
    return this.known?.plans === plans;
  }

  /** Large layers are told of one figure after the other, so that the page goes on between them. @param {View} view @param {Engine | null} engine */
  show(view, engine) {
    const { layer } = view;
    this.cost.engine = engine;
    if (this.knows(layer)) return;
    const turn = ++this.turn;
    this.known = layer;
    this.place = placeOf(view);
    const figures = [
      () => this.showOverlap(layer), () => this.showField(layer), () => this.showCoverage(layer), () => this.showChannels(layer),
      () => this.showWiring(layer), () => this.borders.show(layer), () => this.cost.show(layer),
    ];
    const together = isLarge(layer) ? 1 : figures.length;
    const next = () => {
      if (turn !== this.turn) return; // another layer is shown
      for (const figure of figures.splice(0, together)) figure();
      if (figures.length) setTimeout(next);
    };
    next();
  }

  /** @param {Layer} layer */
  showOverlap({ spec, shape, plans, setting, weights }) {
    const up = upsamples(spec);
    const { image, sizes } = overlapImage(plans, up ? "output" : "gradient");
    const what = up ? "taps meet in each output" : "outputs use each input";
    const single = spec.type === "conv" && spec.transposed === up;
    const free = up ? freeOfBorder(plans) : [];
    const inner = up ? [...image].filter((_, i) => free[i]) : [];
    const levels = single ? overlapPhases(spec, shape).levels : [...new Set(inner.map((v) => Math.round(v * 1e6) / 1e6))].sort((a, b) => a - b);
    const verdict = single ? overlapPhases(spec, shape).verdict : inner.length ? judgeCounts(inner) : "";
    const words = { even: "even", uneven: "uneven: a checkerboard", holes: "some are never met: holes", "": "" }[verdict];
    /** @type {(Node | string)[]} */
    const text = [make("p", null, `How many ${what}, borders included.`)];
    if (levels.length) text.push(make("p.result", null, "away from the border: ", make("b", null, levels.map(formatNumber).join(" : ")), ` — ${words}`));
    if (single && up && verdict !== "even" && spec.type === "conv") {
      const own = sumCost(spec, shape).macs;
      text.push(
        make("p", null, "Cures, cheapest first:"),
        make("div.cures", null, listRemedies(spec, shape).map((remedy) =>
          button(`Cure it: ${remedy.advice} (${formatNumber(Math.round((100 * remedy.macs) / own) / 100)}× the MAC)`, () =>
            this.open(formatSpec(remedy.spec, shape), setting.sizes, weightsOf(remedy, weights[0]))))),
      );
    }
    this.overlap.show(
      (theme) => mapScene(image, sizes, `${what}: ${levels.map(formatNumber).join(", ")}, ${words}`, theme),
      text,
      () => mapTable(image, sizes, `How many ${what}`),
    );
  }

  /** Of the chosen output, or of the middle one. @param {Layer} layer */
  showField(layer) {
    const { spec, shape, plans } = layer;
    const place = this.place ?? View.middleOf(layer).place;
    const which = this.place ? "chosen" : "middle";
    const support = supportOf(plans, place);
    const letters = axisLetters(dimsOf(spec));
    const axes = receptiveAxes(spec, shape);
    const seen = support.reduce((sum, mark) => sum + mark, 0);
    this.field.show(
      (theme) => mapScene(support, plans[0].sizesIn, `what the ${which} output sees: ${seen} positions`, theme),
      [
        make("p", null, `What the ${which} output depends on: ${seen} of ${support.length} positions.${seen ? "" : " It is a hole: no tap reaches it."}`),
        table(
          ["axis", "size", "stride", "padding", "centre of output 0"],
          axes.map((axis, a) => [
            letters[a], String(axis.size), axis.stride[1] === 1 ? String(axis.stride[0]) : axis.stride.join("/"),
            String(axis.padding), formatNumber(axis.offset),
          ]),
          "The field of one output, as if the input had no end",
        ),
        ...fieldWords(axes, letters).map((words) => make("p.small", null, words)),
      ],
      () => mapTable(support, plans[0].sizesIn, `1: the ${which} output depends on it`),
    );
  }

  /** The field of a value that is chosen in the picture, where it is an output. @param {View} view */
  follow(view) {
    const place = placeOf(view);
    if (place?.join() === this.place?.join()) return;
    this.place = place;
    clearTimeout(this.timer);
    if (!isLarge(view.layer)) this.showField(view.layer);
    else this.timer = window.setTimeout(() => this.knows(view.layer) && this.showField(view.layer));
  }

  /** @param {Layer} layer */
  showWiring(layer) {
    const { shapes, plans } = layer;
    const most = Math.max(...shapes.map((shape) => shape[1]));
    this.wiring.element.hidden = most === 1;
    if (most === 1) return;
    const grouped = plans.some(({ step }) => (step.type === "conv" || step.type === "shuffle") && step.groups > 1);
    const words = `Each line is a channel that a channel after the step reads${most > MOST_WIRED ? `; of ${most} channels the first ${MOST_WIRED}` : ""}.`;
    this.wiring.show(
      (theme) => wiringScene(layer, words, theme),
      [make("p", null, words), grouped ? make("p.small", null, "Groups are drawn in turn as full and as dashed lines, with a bar between their blocks.") : null],
      () => ({
        heads: ["step", "channel after it", "reads channels"],
        rows: listLinks(layer).flatMap((rows, n) => rows.slice(0, 64).map((reads, c) => [`${n + 1}: ${nameStep(plans[n].step)}`, String(c), reads.slice(0, 64).join(", ")])),
        caption: "Channels that each channel reads",
      }),
    );
  }

  /** @param {Layer} layer */
  showCoverage({ spec, shape }) {
    const axes = coverageAxes(spec, shape);
    if (!axes) {
      this.coverage.element.hidden = true;
      return;
    }
    const letters = axisLetters(axes.length);
    const share = axes.reduce((all, axis) => all * axis.fraction, 1);
    const percent = `${formatNumber(Math.round(share * 1000) / 10)} %`;
    this.coverage.show(
      (theme) => coverageScene(axes.map((axis) => axis.paths), letters, `${percent} of the field is read`, theme),
      [
        make("p", null, "Over how many paths each position of the field is read, axis by axis."),
        make("p.result", null, make("b", null, percent), share < 1 ? " of the field is read: dilation leaves holes" : " of the field is read: no holes"),
      ],
      () => ({
        heads: ["axis", ...range(Math.max(...axes.map((axis) => axis.paths.length))).map((i) => `position ${i}`)],
        rows: axes.map((axis, a) => [letters[a], ...axis.paths.map(formatNumber)]),
        caption: "Paths to each position of the field",
      }),
    );
  }

  /** @param {Layer} layer */
  showChannels({ spec, shape }) {
    const paths = connectivityPaths(spec, shape);
    const blocks = findBlocks(paths);
    const count = paths.flat().filter((n) => n > 0).length;
    const total = paths.length * paths[0].length;
    const words = blocks.length === 1 && count === total ? "every output channel sees every input channel" : `${count} of ${total} pairs; ${blocks.length} ${blocks.length === 1 ? "block" : "blocks that see nothing of one another"}`;
    this.channels.show(
      (theme) => mapScene(paths.flat(), [1, paths.length, paths[0].length], words, theme, { room: 220 }),
      [make("p", null, "Rows are output channels, columns input channels, numbers the paths between them."), make("p.result", null, words)],
      () => ({ heads: ["output", ...paths[0].map((_, j) => `input ${j}`)], rows: paths.map((row, c) => [String(c), ...row.map(String)]), caption: "Paths between channels" }),
    );
  }
}

/** @param {Layer} layer */
function isLarge({ values }) {
  return values.reduce((sum, each) => sum + each.length, 0) > MOST_TOGETHER;
}

/** @param {View} view */
function placeOf({ layer, choice }) {
  return choice.tensor === layer.plans.length ? choice.place : null;
}

/** @param {number[][]} axes @param {string[]} letters @param {string} title @param {Theme} theme @returns {Scene} */
function coverageScene(axes, letters, title, theme) {
  const longest = Math.max(...axes.map((paths) => paths.length));
  const wide = Math.max(4, Math.min(26, Math.floor(280 / longest)));
  /** @type {Shape[]} */
  const shapes = [];
  axes.forEach((paths, a) => {
    const top = a * 66;
    const most = Math.max(...paths);
    shapes.push({ kind: "text", x: 0, y: top + 40, text: letters[a], size: 12, fill: theme.soft });
    paths.forEach((n, i) => {
      const x = 18 + i * wide;
      const high = (n / most) * 38;
      if (n) shapes.push({ kind: "rect", x: x + 1, y: top + 54 - high, w: wide - 2, h: high, fill: theme.ink });
      else shapes.push({ kind: "rect", x: x + 2, y: top + 42, w: wide - 4, h: 11, stroke: theme.accent, line: 1.5, dash: [2, 2] });
      if (wide >= 14 && n) shapes.push({ kind: "text", x: x + wide / 2, y: top + 48 - high, text: formatNumber(n), size: 10, anchor: "middle", fill: theme.soft });
    });
  });
  return { width: 24 + longest * wide, height: axes.length * 66, shapes, title };
}
