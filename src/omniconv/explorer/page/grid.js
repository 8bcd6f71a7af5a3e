/** Tensors as grids of cells: where each value is drawn, and which value is at a point. */
import { range } from "./integers.js";
import { formatNumber } from "./dom.js";
import { mixRgb, packRgb, readRgb, valueColour, valueRgb } from "./scene.js";

/** @import {Shape, Theme} from "./scene.js" */

/**
 * One channel, and of three axes one slice of it.
 * @typedef {{channel: number, slice: number, x: number, y: number}} Block
 */

/**
 * @typedef {object} Grid
 * @property {number} channels
 * @property {number[]} sizes depth, height, width
 * @property {[number, number][]} frame padding drawn around height and width
 * @property {number} cell
 * @property {Block[]} blocks
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

/** Blocks of one tensor that are drawn at once. */
export const MOST_BLOCKS = 12;
export const BLOCK_HEAD = 18;
const BLOCK_GAP = 10;
/** The smallest font that is read. */
const SMALLEST = 7;

/**
 * A grid with its blocks in `columns` columns.
 * @param {object} wanted
 * @param {number} wanted.channels
 * @param {number[]} wanted.sizes
 * @param {[number, number][]} wanted.frame
 * @param {number} wanted.cell
 * @param {number} wanted.columns
 * @param {number} wanted.first the first channel that is shown
 * @returns {Grid}
 */
export function layGrid({ channels, sizes, frame, cell, columns, first }) {
  const slices = sizes[0];
  const shown = Math.min(channels - first, Math.max(1, Math.floor(MOST_BLOCKS / slices)));
  const wide = (sizes[2] + frame[1][0] + frame[1][1]) * cell;
  const high = (sizes[1] + frame[0][0] + frame[0][1]) * cell + BLOCK_HEAD;
  const perRow = slices > 1 ? Math.min(slices, Math.max(1, columns)) : Math.min(columns, shown);
  /** @type {Block[]} */
  const blocks = [];
  for (let c = 0; c < shown; c++) {
    for (let s = 0; s < slices; s++) {
      const n = c * slices + s;
      const [column, row] = slices > 1 ? [s % perRow, c * Math.ceil(slices / perRow) + Math.floor(s / perRow)] : [n % perRow, Math.floor(n / perRow)];
      blocks.push({ channel: first + c, slice: s, x: column * (wide + BLOCK_GAP), y: row * (high + BLOCK_GAP) });
    }
  }
  const width = Math.max(...blocks.map((block) => block.x)) + wide;
  const height = Math.max(...blocks.map((block) => block.y)) + high;
  return { channels, sizes, frame, cell, blocks, x: 0, y: 0, width, height };
}

/** The place at a point, or null. @param {Grid} grid @param {number} x @param {number} y */
export function hitGrid(grid, x, y) {
  for (const block of grid.blocks) {
    const w = Math.floor((x - grid.x - block.x) / grid.cell) - grid.frame[1][0];
    const h = Math.floor((y - grid.y - block.y - BLOCK_HEAD) / grid.cell) - grid.frame[0][0];
    if (w >= 0 && h >= 0 && h < grid.sizes[1] && w < grid.sizes[2]) {
      return { channel: block.channel, place: [block.slice, h, w] };
    }
  }
  return null;
}

/**
 * @typedef {object} Look
 * @property {Theme} theme
 * @property {(index: number) => number} value
 * @property {number} scale the largest size of a value
 * @property {(index: number) => number} mark 0 none, 1 read, 2 fed, 3 chosen, 4 read by the weight in focus
 * @property {boolean} dim whether cells without a mark step back
 * @property {(channel: number) => string} name of a channel
 * @property {(channel: number, place: number[]) => {value: number, mark: number} | null} padding
 */

/** The shapes of a grid. @param {Grid} grid @param {Look} look @returns {Shape[]} */
export function drawGrid(grid, look) {
  /** @type {Shape[]} */
  const shapes = [];
  const rings = new Map();
  const { cell } = grid;
  const longest = cell * 0.5 < SMALLEST ? 1 : longestText(grid, look);
  const size = Math.min(16, cell * 0.5, (cell - 3) / (0.72 * longest));
  for (const block of grid.blocks) {
    const [left, top] = [grid.x + block.x, grid.y + block.y];
    shapes.push({ kind: "text", x: left, y: top + 8, text: blockName(grid, block, look), size: 11, fill: look.theme.soft });
    shapes.push(...drawFrame(grid, block, look));
    shapes.push(...(size >= SMALLEST ? drawNumbers(grid, block, look, size) : drawColours(grid, block, look)));
    eachCell(grid, block, (x, y, index) => {
      const mark = look.mark(index);
      if (!mark) return;
      if (!rings.has(mark)) rings.set(mark, []);
      rings.get(mark).push(x, y);
    });
  }
  for (const [mark, corners] of rings) shapes.push(...drawMarks(corners, cell, mark, look.theme));
  return shapes;
}

/** @param {Grid} grid @param {Block} block @param {(x: number, y: number, index: number) => void} visit corner and number of each value */
function eachCell({ x, y, cell, sizes, frame }, block, visit) {
  const [left, top] = [x + block.x + frame[1][0] * cell, y + block.y + BLOCK_HEAD + frame[0][0] * cell];
  const first = (block.channel * sizes[0] + block.slice) * sizes[1] * sizes[2];
  for (let h = 0; h < sizes[1]; h++) {
    for (let w = 0; w < sizes[2]; w++) visit(left + w * cell, top + h * cell, first + h * sizes[2] + w);
  }
}

/** The padding around a block. @param {Grid} grid @param {Block} block @param {Look} look */
function drawFrame({ x, y, cell, sizes, frame }, block, look) {
  /** @type {Shape[]} */
  const shapes = [];
  const sides = range(frame[1][0] + sizes[2] + frame[1][1]).map((i) => i - frame[1][0]);
  const outside = sides.filter((w) => w < 0 || w >= sizes[2]);
  for (let h = -frame[0][0]; h < sizes[1] + frame[0][1]; h++) {
    for (const w of h >= 0 && h < sizes[1] ? outside : sides) {
      const pad = look.padding(block.channel, [block.slice, h, w]);
      const [left, top] = [x + block.x + (w + frame[1][0]) * cell, y + block.y + BLOCK_HEAD + (h + frame[0][0]) * cell];
      if (pad) shapes.push(...drawPadding(left, top, cell, pad, look));
    }
  }
  return shapes;
}

/** Cells with their numbers. @param {Grid} grid @param {Block} block @param {Look} look @param {number} size of the font */
function drawNumbers(grid, block, look, size) {
  /** @type {Shape[]} */
  const shapes = [];
  const { cell } = grid;
  const { theme, scale } = look;
  eachCell(grid, block, (x, y, index) => {
    const value = look.value(index);
    const mark = look.mark(index);
    const { fill, ink } = valueColour(scale ? value / scale : 0, theme);
    const back = look.dim && !mark;
    shapes.push({ kind: "rect", x: x + 0.5, y: y + 0.5, w: cell - 1, h: cell - 1, fill, alpha: back ? 0.3 : 1 });
    shapes.push({ kind: "text", x: x + cell / 2, y: y + cell / 2, text: formatNumber(value), size, anchor: "middle", fill: back ? theme.soft : ink, bold: mark > 0 });
  });
  return shapes;
}

/** Shades of one sign; so many cells tell no more apart. */
const SHADES = 64;

/** The shades of the theme that was asked for last. @type {{theme: Theme | null, shades: ReturnType<typeof makeShades> | null}} */
const heldShades = { theme: null, shades: null };

/** @param {Theme} theme */
function shadesOf(theme) {
  if (heldShades.theme !== theme || !heldShades.shades) Object.assign(heldShades, { theme, shades: makeShades(theme) });
  return /** @type {ReturnType<typeof makeShades>} */ (heldShades.shades);
}

/**
 * Colour and ink of every shade, from -SHADES to SHADES: first of cells that step back, then of others.
 * @param {Theme} theme
 */
function makeShades(theme) {
  const paper = readRgb(theme.paper);
  const soft = packRgb(readRgb(theme.soft));
  const shades = range(2 * SHADES + 1).map((n) => (n - SHADES) / SHADES);
  const colours = shades.map((t) => valueRgb(t, theme));
  return {
    colours: [colours.map((colour) => packRgb(mixRgb(paper, colour, 0.3))), colours.map(packRgb)],
    inks: [shades.map(() => soft), shades.map((t) => packRgb(readRgb(valueColour(t, theme).ink)))],
  };
}

/** Cells too small for numbers, as one raster: a large layer is painted in one go. */
/** @param {Grid} grid @param {Block} block @param {Look} look @returns {Shape[]} */
function drawColours(grid, block, look) {
  const { cell, sizes, frame } = grid;
  const { theme, scale } = look;
  const count = sizes[1] * sizes[2];
  const [colours, inks] = [new Uint32Array(count), new Uint32Array(count)];
  if (theme.forced) return drawSigns(grid, block, look);
  const shades = shadesOf(theme);
  const first = (block.channel * sizes[0] + block.slice) * count;
  for (let i = 0; i < count; i++) {
    const value = look.value(first + i);
    const row = look.dim && !look.mark(first + i) ? 0 : 1;
    const shade = SHADES + Math.round(scale ? (SHADES * value) / scale : 0);
    colours[i] = shades.colours[row][shade];
    if (value < 0 && cell >= 7) inks[i] = shades.inks[row][shade]; // the sign is not told by colour alone
  }
  const [x, y] = [grid.x + block.x + frame[1][0] * cell, grid.y + block.y + BLOCK_HEAD + frame[0][0] * cell];
  return [{ kind: "cells", x, y, w: cell, across: sizes[2], colours, inks, fill: theme.paper }];
}

/** Where colours are forced, a plus in each cell above zero, a dash in each below, nothing in others. @param {Grid} grid @param {Block} block @param {Look} look @returns {Shape[]} */
function drawSigns(grid, block, look) {
  const { cell } = grid;
  /** @type {[number[], number[]]} */
  const [across, down] = [[], []];
  eachCell(grid, block, (x, y, index) => {
    const value = look.value(index);
    if (value) across.push(x + cell * 0.25, y + cell / 2);
    if (value > 0) down.push(x + cell / 2, y + cell * 0.25);
  });
  const { ink } = look.theme;
  return [
    { kind: "boxes", corners: across, w: cell / 2, h: 0, stroke: ink, line: 1 },
    { kind: "boxes", corners: down, w: 0, h: cell / 2, stroke: ink, line: 1 },
  ];
}

/** Characters of the longest number that is drawn. @param {Grid} grid @param {Look} look */
function longestText(grid, look) {
  const { sizes } = grid;
  const places = sizes[1] * sizes[2];
  let most = 1;
  for (const block of grid.blocks) {
    const first = (block.channel * sizes[0] + block.slice) * places;
    for (let i = first; i < first + places; i++) most = Math.max(most, formatNumber(look.value(i)).length);
  }
  return most;
}

/** @param {Grid} grid @param {Block} block @param {Look} look */
function blockName(grid, block, look) {
  const name = look.name(block.channel);
  return grid.sizes[0] > 1 ? `${block.slice ? "" : `${name}, `}depth ${block.slice}` : name;
}

/** @param {number} x @param {number} y @param {number} cell @param {{value: number, mark: number}} pad @param {Look} look */
function drawPadding(x, y, cell, pad, look) {
  const { theme } = look;
  const alpha = look.dim && !pad.mark ? 0.45 : 1;
  const dash = cell >= 14 ? [2, 2] : [];
  /** @type {Shape[]} */
  const shapes = [{ kind: "rect", x: x + 1.5, y: y + 1.5, w: cell - 3, h: cell - 3, stroke: theme.soft, line: 1, dash, alpha }];
  if (cell >= 18) {
    const text = formatNumber(pad.value);
    shapes.push({ kind: "text", x: x + cell / 2, y: y + cell / 2, text, size: Math.min(11, cell / 2), anchor: "middle", fill: theme.soft, alpha });
  }
  if (pad.mark) shapes.push(...drawMarks([x, y], cell, pad.mark, theme));
  return shapes;
}

/** Frames around cells with the same mark. @param {number[]} corners of the cells @param {number} cell @param {number} mark @param {Theme} theme @returns {Shape[]} */
function drawMarks(corners, cell, mark, theme) {
  /** @param {number} inset @param {string} stroke @param {number} line @param {number[]} [dash] @returns {Shape} */
  const boxes = (inset, stroke, line, dash) => ({
    kind: "boxes", corners: corners.map((at) => at + inset), w: cell - 2 * inset, h: cell - 2 * inset, stroke, line, dash,
  });
  if (mark === 1) return [boxes(1, theme.ink, 2)];
  if (mark === 2) return [boxes(1, theme.ink, 2, [3, 3])];
  if (mark === 4) return [boxes(1, theme.ink, 5), boxes(4.5, theme.accent, 2)];
  return [boxes(-1, theme.paper, 2), boxes(1, theme.accent, 4)];
}
