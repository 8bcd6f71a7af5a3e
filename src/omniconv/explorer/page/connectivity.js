/** Which channels reach which, and over how many paths: what the Python analysis finds, by the same rules. */
import { range } from "./integers.js";
import { inChannels, shapesOf, slicesOf, stepsOf } from "./chain.js";

/** @import {Spec, Step} from "./chain.js" */

/**
 * Over how many paths of channels each output channel reaches each input channel: outputs x inputs.
 * @param {Spec} spec
 * @param {number[]} shape
 * @returns {number[][]}
 */
export function connectivityPaths(spec, shape) {
  const shapes = shapesOf(spec, shape);
  const count = inChannels(spec);
  /** @type {number[][]} */
  let rows = range(count).map((c) => range(count).map((j) => (j === c ? 1 : 0)));
  stepsOf(spec).forEach((step, index) => {
    rows = throughChannels(step, rows, shapes[index + 1][1]);
  });
  return rows;
}

/** For each channel after a step, the channels before it that it reads. @param {Step} step @param {number} before @param {number} after */
export function stepLinks(step, before, after) {
  const own = range(before).map((c) => range(before).map((j) => (j === c ? 1 : 0)));
  return throughChannels(step, own, after).map((row) => range(before).filter((j) => row[j] > 0));
}

/** @param {Step} step @param {number[][]} rows one for each channel before @param {number} channels after */
function throughChannels(step, rows, channels) {
  if (step.type === "conv" || step.type === "split") {
    const slices = step.type === "conv" ? [{ branch: step, firstIn: 0, firstOut: 0 }] : slicesOf(step);
    return slices.flatMap(({ branch, firstIn }) => {
      const wide = branch.in_channels / branch.groups;
      const narrow = branch.out_channels / branch.groups;
      return range(branch.groups).flatMap((g) => {
        const sum = addRows(rows.slice(firstIn + g * wide, firstIn + (g + 1) * wide));
        return range(narrow).map(() => sum);
      });
    });
  }
  if (step.type === "shuffle") {
    const width = channels / step.groups;
    return range(channels).map((c) => rows[(c % step.groups) * width + Math.floor(c / step.groups)]);
  }
  if (step.type === "pixel_shuffle") {
    const block = rows.length / channels;
    return range(channels).map((c) => addRows(rows.slice(c * block, (c + 1) * block)));
  }
  return rows;
}

/** @param {number[][]} rows @returns {number[]} */
function addRows(rows) {
  return rows.reduce((sum, row) => sum.map((n, i) => n + row[i]));
}

/** Sets of channels that see nothing of one another, as counts of outputs and inputs. @param {number[][]} paths */
export function findBlocks(paths) {
  const left = new Set(range(paths.length));
  /** @type {[number, number][]} */
  const found = [];
  while (left.size) {
    let rows = [Math.min(...left)];
    for (;;) {
      const columns = range(paths[0].length).filter((j) => rows.some((c) => paths[c][j]));
      const wider = range(paths.length).filter((c) => rows.includes(c) || columns.some((j) => paths[c][j]));
      const same = wider.length === rows.length;
      rows = wider;
      if (!same) continue;
      rows.forEach((c) => left.delete(c));
      found.push([rows.length, columns.length]);
      break;
    }
  }
  return found;
}
