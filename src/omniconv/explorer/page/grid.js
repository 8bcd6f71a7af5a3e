/** Tensors as grids of cells: where each value is drawn, and which value is at a point. */
import { formatNumber } from "./dom.js";
import { valueColour } from "./scene.js";

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
  /** @type {Shape[]} */
  const rings = [];
  const { cell, sizes, frame } = grid;
  const { theme } = look;
  const longest = cell * 0.5 < SMALLEST ? 1 : longestText(grid, look);
  const size = Math.min(16, cell * 0.5, (cell - 3) / (0.72 * longest));
  for (const block of grid.blocks) {
    const [left, top] = [grid.x + block.x, grid.y + block.y];
    shapes.push({ kind: "text", x: left, y: top + 8, text: blockName(grid, block, look), size: 11, fill: theme.soft });
    for (let h = -frame[0][0]; h < sizes[1] + frame[0][1]; h++) {
      for (let w = -frame[1][0]; w < sizes[2] + frame[1][1]; w++) {
        const x = left + (w + frame[1][0]) * cell;
        const y = top + BLOCK_HEAD + (h + frame[0][0]) * cell;
        const inside = h >= 0 && w >= 0 && h < sizes[1] && w < sizes[2];
        if (!inside) {
          const pad = look.padding(block.channel, [block.slice, h, w]);
          if (pad) shapes.push(...drawPadding(x, y, cell, pad, look));
          continue;
        }
        const index = ((block.channel * sizes[0] + block.slice) * sizes[1] + h) * sizes[2] + w;
        const value = look.value(index);
        const mark = look.mark(index);
        const colour = valueColour(look.scale ? value / look.scale : 0, theme);
        const back = look.dim && !mark;
        const alpha = back ? 0.3 : 1;
        const ink = back ? theme.soft : colour.ink;
        shapes.push({ kind: "rect", x: x + 0.5, y: y + 0.5, w: cell - 1, h: cell - 1, fill: colour.fill, alpha });
        if (size >= SMALLEST) {
          const text = formatNumber(value);
          shapes.push({ kind: "text", x: x + cell / 2, y: y + cell / 2, text, size, anchor: "middle", fill: ink, bold: mark > 0 });
        } else if (value < 0 && cell >= 7) {
          // The sign is not told by colour alone.
          const points = /** @type {[number, number][]} */ ([[x + cell * 0.25, y + cell / 2], [x + cell * 0.75, y + cell / 2]]);
          shapes.push({ kind: "path", points, stroke: ink, line: 1 });
        }
        if (mark) rings.push(...drawMark(x, y, cell, mark, theme));
      }
    }
  }
  return [...shapes, ...rings];
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
  /** @type {Shape[]} */
  const shapes = [
    { kind: "rect", x: x + 1.5, y: y + 1.5, w: cell - 3, h: cell - 3, stroke: theme.soft, line: 1, dash: [2, 2], alpha },
  ];
  if (cell >= 18) {
    const text = formatNumber(pad.value);
    shapes.push({ kind: "text", x: x + cell / 2, y: y + cell / 2, text, size: Math.min(11, cell / 2), anchor: "middle", fill: theme.soft, alpha });
  }
  if (pad.mark) shapes.push(...drawMark(x, y, cell, pad.mark, theme));
  return shapes;
}

/** @param {number} x @param {number} y @param {number} cell @param {number} mark @param {Theme} theme @returns {Shape[]} */
function drawMark(x, y, cell, mark, theme) {
  const box = { x: x + 1, y: y + 1, w: cell - 2, h: cell - 2 };
  if (mark === 1) return [{ kind: "rect", ...box, stroke: theme.ink, line: 2 }];
  if (mark === 4) {
    return [
      { kind: "rect", ...box, stroke: theme.ink, line: 5 },
      { kind: "rect", x: x + 4.5, y: y + 4.5, w: cell - 9, h: cell - 9, stroke: theme.accent, line: 2 },
    ];
  }
  if (mark === 2) return [{ kind: "rect", ...box, stroke: theme.ink, line: 2, dash: [3, 3] }];
  return [
    { kind: "rect", x: x - 1, y: y - 1, w: cell + 2, h: cell + 2, stroke: theme.paper, line: 2 },
    { kind: "rect", ...box, stroke: theme.accent, line: 4 },
  ];
}
