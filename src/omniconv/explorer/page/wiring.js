/** Channels as blocks, one column before the first step and one after each, with a line for every channel that another reads. */
import { range } from "./integers.js";
import { stepLinks } from "./connectivity.js";
import { nameStep } from "./words.js";

/** @import {Layer} from "./layer.js" */
/** @import {Step} from "./chain.js" */
/** @import {Scene, Shape, Theme} from "./scene.js" */

/** Channels that a picture has, at most; of more the first are drawn. */
export const MOST_WIRED = 24;
const BLOCK_WIDE = 34;
const WIRE_ROOM = 92;
const WIRE_HEAD = 40;

/** Groups of channels that a step keeps apart, before and after it. @param {Step} step */
function groupsOf(step) {
  if (step.type === "conv") return step.groups;
  return step.type === "shuffle" ? step.groups : 1;
}

/** How many channels each tensor has. @param {Layer} layer */
function countChannels({ shapes }) {
  return shapes.map((shape) => shape[1]);
}

/** For each step and each channel after it, the channels before it that it reads. @param {Layer} layer */
export function listLinks(layer) {
  const counts = countChannels(layer);
  return layer.plans.map(({ step }, n) => stepLinks(step, counts[n], counts[n + 1]));
}

/**
 * @param {Layer} layer
 * @param {string} title
 * @param {Theme} theme
 * @returns {Scene}
 */
export function wiringScene(layer, title, theme) {
  const counts = countChannels(layer);
  const links = listLinks(layer);
  const high = Math.max(9, Math.min(22, Math.floor(300 / Math.min(MOST_WIRED, Math.max(...counts)))));
  /** @param {number} tensor @param {number} channel */
  const middle = (tensor, channel) => WIRE_HEAD + (channel + 0.5) * high + (tallest - Math.min(MOST_WIRED, counts[tensor])) * high * 0.5;
  const tallest = Math.min(MOST_WIRED, Math.max(...counts));
  /** @param {number} tensor */
  const left = (tensor) => tensor * (BLOCK_WIDE + WIRE_ROOM);
  /** @type {Shape[]} */
  const shapes = [];
  links.forEach((rows, n) => {
    const name = nameStep(layer.plans[n].step);
    const letters = Math.floor((BLOCK_WIDE + WIRE_ROOM) / 6);
    shapes.push({ kind: "text", x: left(n) + BLOCK_WIDE + WIRE_ROOM / 2, y: 10, text: name.length > letters ? `${name.slice(0, letters - 1)}…` : name, size: 11, anchor: "middle", fill: theme.ink });
    const groups = groupsOf(layer.plans[n].step);
    rows.slice(0, MOST_WIRED).forEach((reads, to) => {
      for (const from of reads) {
        if (from >= MOST_WIRED) continue;
        const group = Math.floor((from * groups) / counts[n]);
        const points = /** @type {[number, number][]} */ ([[left(n) + BLOCK_WIDE, middle(n, from)], [left(n + 1), middle(n + 1, to)]]);
        shapes.push({ kind: "path", points, stroke: group % 2 ? theme.accent : theme.ink, line: 1.2, dash: group % 2 ? [5, 3] : [], alpha: 0.75 });
      }
    });
  });
  counts.forEach((count, tensor) => {
    const name = tensor === 0 ? "input" : tensor === counts.length - 1 ? "output" : `after ${tensor}`;
    shapes.push({ kind: "text", x: left(tensor), y: 26, text: name, size: 11, fill: theme.soft });
    for (const channel of range(Math.min(count, MOST_WIRED))) {
      const y = middle(tensor, channel);
      shapes.push({ kind: "rect", x: left(tensor) + 0.5, y: y - high / 2 + 1, w: BLOCK_WIDE - 1, h: high - 2, fill: theme.paper, stroke: theme.ink, line: 1.2 });
      shapes.push({ kind: "text", x: left(tensor) + BLOCK_WIDE / 2, y, text: String(channel), size: Math.min(11, high - 2), anchor: "middle", fill: theme.ink });
    }
    drawGroups(layer, tensor, (channel) => middle(tensor, channel), left(tensor), high, theme, shapes);
  });
  return { width: left(counts.length - 1) + BLOCK_WIDE + 22, height: WIRE_HEAD + tallest * high + 6, shapes, title };
}

/** Thick ends between groups that the next step keeps apart. */
/**
 * @param {Layer} layer
 * @param {number} tensor
 * @param {(channel: number) => number} middle
 * @param {number} left
 * @param {number} high
 * @param {Theme} theme
 * @param {Shape[]} shapes
 */
function drawGroups({ plans, shapes: sizes }, tensor, middle, left, high, theme, shapes) {
  const step = (plans[tensor] ?? plans[tensor - 1]).step;
  const groups = groupsOf(step);
  const count = sizes[tensor][1];
  if (groups < 2 || count / groups < 2) return;
  for (let channel = count / groups; channel < Math.min(count, MOST_WIRED); channel += count / groups) {
    const y = middle(channel) - high / 2;
    shapes.push({ kind: "path", points: [[left - 6, y], [left + BLOCK_WIDE + 6, y]], stroke: theme.accent, line: 2.5 });
  }
}
