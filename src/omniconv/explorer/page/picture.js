/** The picture of a layer with a chosen value: its tensors side by side, or below each other where there is little room. */
import { range } from "./integers.js";
import { drawGrid, layGrid } from "./grid.js";
import { isoShapes } from "./iso.js";
import { nameStep } from "./words.js";

/** @import {Grid} from "./grid.js" */
/** @import {Scene, Shape, Theme} from "./scene.js" */
/** @import {View} from "./view.js" */

/** Lines of text above each tensor. */
const TITLE_HEAD = 56;
const GAP = 46;
/** Sides of a cell, at most and at least. */
const LARGEST_CELL = 44;
const SMALLEST_CELL = 7;
/** Height of a picture beside the settings: in one row, and in two. */
const TALLEST = 640;
const TALLEST_ROWS = 740;
/** A cell in which numbers of four characters are read. */
const LEGIBLE_CELL = 24;

/**
 * Where the tensors are drawn in a picture `space` wide: as large as they fit.
 * @param {View} view
 * @param {number} space
 */
function layTensors(view, space) {
  const { plans, shapes } = view.layer;
  const upright = space < 430;
  const stacked = upright || shapes[0].length === 3;
  const tensors = range(plans.length + 1);
  const firsts = tensors.map((tensor) => view.firstChannel(tensor));
  /** @param {number} cell */
  const lay = (cell) =>
    tensors.map((tensor) => {
      const { channels, sizes } = view.extent(tensor);
      const frame = view.frame(tensor);
      const wide = (sizes[2] + frame[1][0] + frame[1][1]) * cell + 10;
      const columns = countColumns(channels, sizes, upright ? Math.floor((space + 10) / wide) : null);
      return layGrid({ channels, sizes, frame, cell, columns, first: firsts[tensor] });
    });
  /** The largest cells with which so many tensors in a row fit. @param {number} across @param {number} tallest */
  const fit = (across, tallest) => {
    let cell = LARGEST_CELL;
    let placed = place(lay(cell), across);
    while (cell > SMALLEST_CELL && (placed.width > space + 4 || placed.height > tallest)) placed = place(lay((cell -= 1)), across);
    return { ...placed, cell };
  };
  if (stacked) return { ...fit(1, Infinity), stacked };
  const row = fit(tensors.length, TALLEST + TITLE_HEAD + 4);
  if (row.cell >= LEGIBLE_CELL || tensors.length < 4) return { ...row, stacked };
  const rows = fit(Math.ceil(tensors.length / 2), TALLEST_ROWS);
  return { ...(rows.cell > row.cell ? rows : row), stacked };
}

/** Tensors in rows of so many, and the size of the picture. @param {Grid[]} grids @param {number} across */
function place(grids, across) {
  const wide = range(across).map((column) => Math.max(...grids.filter((_, i) => i % across === column).map((grid) => grid.width)));
  const high = range(Math.ceil(grids.length / across)).map((row) => Math.max(...grids.slice(row * across, (row + 1) * across).map((grid) => grid.height)));
  /** @param {number[]} sizes @param {number} count @param {number} gap */
  const start = (sizes, count, gap) => sizes.slice(0, count).reduce((sum, size) => sum + size + gap, 0);
  grids.forEach((grid, i) => {
    grid.x = start(wide, i % across, GAP);
    grid.y = TITLE_HEAD + start(high, Math.floor(i / across), TITLE_HEAD + 14);
  });
  const width = Math.max(...grids.map((grid) => grid.x + grid.width)) + 4;
  const height = Math.max(...grids.map((grid) => grid.y + grid.height)) + 4;
  return { grids, width, height };
}

/**
 * Blocks of a tensor that stand side by side.
 * @param {number} channels
 * @param {number[]} sizes
 * @param {number | null} room for so many of them, where tensors stand below each other
 */
function countColumns(channels, sizes, room) {
  const [slices, high] = sizes;
  const flat = high === 1 && slices === 1;
  if (room !== null) return Math.max(!flat && channels * slices > 1 ? 2 : 1, room);
  if (slices > 1 || channels > 4) return 2;
  return !flat && channels > 2 ? 2 : 1;
}

/**
 * The picture, and where its values lie.
 * @param {View} view
 * @param {number} space
 * @param {Theme} theme
 * @returns {{scene: Scene, grids: Grid[]}}
 */
export function drawView(view, space, theme) {
  const { shapes: sizes } = view.layer;
  const { grids, stacked, width, height } = layTensors(view, space);
  /** @type {Shape[]} */
  const shapes = [];
  grids.forEach((grid, tensor) => {
    const room = stacked ? width : grid.width + GAP - 8;
    shapes.push(...drawTitle(view, tensor, grid, room, theme), ...drawTensor(view, tensor, grid, theme));
  });
  const scene = { width, height, shapes, title: view.describe() };
  if (sizes[0].length === 5) {
    const solids = isoShapes(view, theme, height + 24, Math.max(width, space));
    shapes.push(...solids.shapes);
    scene.width = Math.max(width, solids.width);
    scene.height = height + 24 + solids.height;
  }
  return { scene, grids };
}

/** @param {View} view @param {number} tensor @param {Grid} grid @param {number} room @param {Theme} theme @returns {Shape[]} */
function drawTitle(view, tensor, grid, room, theme) {
  const { plans, shapes } = view.layer;
  const letters = Math.floor(room / 6.3);
  const title = tensor === 0 ? "input" : tensor === plans.length ? "output" : `after step ${tensor}`;
  const lines = [title, `${view.extent(tensor).channels} × ${shapes[tensor].slice(2).join("×")}`, tensor ? nameStep(plans[tensor - 1].step) : ""];
  return lines.map((line, i) => {
    const text = line.length > letters ? `${line.slice(0, letters - 1)}…` : line;
    const bold = i === 0;
    return { kind: "text", x: grid.x, y: grid.y - 46 + 17 * i, text, size: bold ? 14 : 12, bold, fill: bold ? theme.ink : theme.soft };
  });
}

/** The largest absolute value. @param {Float64Array} values */
function largestSize(values) {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]));
  return most;
}

/** @param {View} view @param {number} tensor @param {Grid} grid @param {Theme} theme */
function drawTensor(view, tensor, grid, theme) {
  const { choice } = view;
  const met = view.spotTerm();
  const marks = view.marks[tensor];
  const held = view.layer.values[tensor];
  const own = tensor === choice.tensor ? 3 : tensor < choice.tensor ? 1 : 2;
  const narrow = grid.sizes[2] * grid.cell < 110;
  return drawGrid(grid, {
    theme,
    value: (i) => held[i],
    scale: largestSize(held),
    mark: (i) => (met && tensor === choice.tensor - 1 && i === met.input ? 4 : marks[i] ? own : 0),
    dim: true,
    name: (channel) => view.nameChannel(tensor, channel, narrow),
    padding: (channel, place) => view.padding(tensor, channel, place),
  });
}
