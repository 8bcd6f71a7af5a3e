/** Volumes in an isometric view: cubes for what is chosen, read and fed, the outline for the rest. */

/** @import {Shape, Theme} from "./scene.js" */
/** @import {View} from "./view.js" */

/** @typedef {[number, number]} Point */

/**
 * The volumes of all tensors of a layer side by side, below `top`.
 * @param {View} view
 * @param {Theme} theme
 * @param {number} top
 * @param {number} room
 */
export function isoShapes(view, theme, top, room) {
  /** @type {Shape[]} */
  const shapes = [];
  const solids = view.marks.map((marks, tensor) => ({ marks, tensor, sizes: view.extent(tensor).sizes }));
  const units = solids.reduce((sum, { sizes }) => sum + sizes[2] + sizes[0] * 0.6 + 2, 0);
  const unit = Math.max(5, Math.min(22, room / units));
  let left = 0;
  let height = 0;
  for (const { marks, tensor, sizes } of solids) {
    const [D, H, W] = sizes;
    const deep = D * unit * 0.5;
    /** @type {(d: number, h: number, w: number) => Point} */
    const at = (d, h, w) => [left + w * unit + (D - d) * unit * 0.5, top + 20 + h * unit * 0.9 + d * unit * 0.35];
    const name = tensor ? (tensor === solids.length - 1 ? "output" : `after step ${tensor}`) : "input";
    shapes.push({ kind: "text", x: left, y: top + 6, text: `${name} as a volume`, size: 11, fill: theme.soft });
    const dash = [2, 3];
    for (const [a, b] of EDGES) {
      const points = [a, b].map(([d, h, w]) => at(d * D, h * H, w * W));
      shapes.push({ kind: "path", points, stroke: theme.soft, line: 1, dash, alpha: 0.7 });
    }
    const places = D * H * W;
    for (let p = 0; p < places; p++) {
      let marked = false;
      for (let i = p; i < marks.length; i += places) marked ||= marks[i] === 1;
      if (!marked) continue;
      const [d, h, w] = [Math.floor(p / (H * W)), Math.floor(p / W) % H, p % W];
      const chosen = tensor === view.choice.tensor;
      shapes.push(...drawCube((x, y, z) => at(d + x, h + y, w + z), chosen ? theme.accent : theme.ink, theme, tensor > view.choice.tensor));
    }
    height = Math.max(height, 30 + H * unit * 0.9 + D * unit * 0.35);
    left += W * unit + deep + unit * 2;
  }
  return { shapes, width: left, height };
}

/** @type {[number[], number[]][]} */
const EDGES = [
  [[0, 0, 0], [0, 0, 1]], [[0, 0, 1], [0, 1, 1]], [[0, 1, 1], [0, 1, 0]], [[0, 1, 0], [0, 0, 0]],
  [[1, 0, 0], [1, 0, 1]], [[1, 0, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 0]], [[1, 1, 0], [1, 0, 0]],
  [[0, 0, 0], [1, 0, 0]], [[0, 0, 1], [1, 0, 1]], [[0, 1, 1], [1, 1, 1]], [[0, 1, 0], [1, 1, 0]],
];

/**
 * @param {(d: number, h: number, w: number) => Point} at
 * @param {string} colour
 * @param {Theme} theme
 * @param {boolean} fed
 * @returns {Shape[]}
 */
function drawCube(at, colour, theme, fed) {
  const faces = [
    { points: [at(1, 0, 0), at(1, 0, 1), at(1, 1, 1), at(1, 1, 0)], alpha: 0.75 },
    { points: [at(0, 0, 0), at(0, 0, 1), at(1, 0, 1), at(1, 0, 0)], alpha: 0.45 },
    { points: [at(0, 0, 1), at(1, 0, 1), at(1, 1, 1), at(0, 1, 1)], alpha: 0.6 },
  ];
  return faces.map(({ points, alpha }) => ({
    kind: /** @type {const} */ ("path"), points, closed: true, fill: colour, stroke: theme.paper, line: 1,
    alpha: fed ? alpha * 0.6 : alpha,
  }));
}
