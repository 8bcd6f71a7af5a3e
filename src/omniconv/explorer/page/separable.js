/** How nearly a kernel is a column times a row: its singular values, by Jacobi rotations of its columns. */
import { range } from "./integers.js";

/**
 * @param {ArrayLike<number>} values row by row
 * @param {number} high
 * @param {number} wide
 * @returns {{rank: number, energy: number, singular: number[], column: number[], row: number[]}}
 *   `energy` is the share of the squared values that the best column times row holds; the best one is `column` times `row`
 */
export function splitKernel(values, high, wide) {
  const a = range(wide).map((x) => range(high).map((y) => values[y * wide + x]));
  const v = range(wide).map((x) => range(wide).map((y) => (x === y ? 1 : 0)));
  for (let sweep = 0; sweep < 40; sweep++) {
    let turned = false;
    for (let p = 0; p < wide - 1; p++) {
      for (let q = p + 1; q < wide; q++) {
        const [pp, qq, pq] = [dotOf(a[p], a[p]), dotOf(a[q], a[q]), dotOf(a[p], a[q])];
        if (Math.abs(pq) <= 1e-14 * Math.sqrt(pp * qq)) continue;
        turned = true;
        const zeta = (qq - pp) / (2 * pq);
        const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const c = 1 / Math.hypot(1, t);
        rotate(a[p], a[q], c, c * t);
        rotate(v[p], v[q], c, c * t);
      }
    }
    if (!turned) break;
  }
  const order = range(wide).map((x) => ({ x, size: Math.sqrt(dotOf(a[x], a[x])) })).sort((m, n) => n.size - m.size);
  const singular = order.map(({ size }) => size);
  const total = singular.reduce((sum, size) => sum + size * size, 0);
  const rank = singular.filter((size) => size > singular[0] * 1e-9 && size > 0).length;
  return {
    rank,
    energy: total ? singular[0] ** 2 / total : 1,
    singular,
    column: a[order[0].x],
    row: v[order[0].x],
  };
}

/** @param {number[]} a @param {number[]} b */
function dotOf(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

/** @param {number[]} a @param {number[]} b @param {number} c @param {number} s */
function rotate(a, b, c, s) {
  a.forEach((value, i) => {
    [a[i], b[i]] = [c * value - s * b[i], s * value + c * b[i]];
  });
}
