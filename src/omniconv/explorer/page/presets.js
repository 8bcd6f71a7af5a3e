/** Kernels by name, for kernels of any size; those of a trained network for the sizes that it has. */
import { product } from "./integers.js";
import { randomNumbers } from "./evaluate.js";
import { LEARNED } from "./learned.js";

/**
 * Positions go from -1 to 1 across the kernel.
 * @type {Record<string, (y: number, x: number, count: number, next: () => number) => number>}
 */
export const PRESETS = {
  blur: (_y, _x, count) => 1 / count,
  edge: (_y, x) => x,
  sharpen: (y, x, count) => (y === 0 && x === 0 ? 2 - 1 / count : -1 / count),
  emboss: (y, x) => (y === 0 && x === 0 ? 1 : y + x),
  "Gabor wave": (y, x) => Math.exp(-2 * (x * x + y * y)) * Math.cos(3.2 * (x + 0.6 * y)),
  random: (_y, _x, _count, next) => Math.round((next() * 2 - 1) * 100) / 100,
};

/** The values of a preset over a kernel. @param {string} name @param {number[]} sizes @param {number} seed */
export function presetValues(name, sizes, seed) {
  const [high, wide] = [sizes.length > 1 ? sizes[sizes.length - 2] : 1, sizes[sizes.length - 1]];
  const count = product(sizes);
  const next = randomNumbers(seed);
  /** @param {number} i @param {number} size */
  const centred = (i, size) => (size > 1 ? (2 * i) / (size - 1) - 1 : 0);
  return Float64Array.from({ length: count }, (_, i) => {
    const value = PRESETS[name](centred(Math.floor(i / wide) % high, high), centred(i % wide, wide), count, next);
    return Math.round(value * 1000) / 1000;
  });
}

/** Filters that a network has learned for kernels of these sizes; of three axes each slice is one. @param {number[]} sizes */
export function learnedFilters(sizes) {
  const [high, wide] = sizes.slice(-2);
  return sizes.length > 1 && high === wide ? LEARNED[String(wide)] ?? [] : [];
}

/** Sides of the kernels that there are learned filters for. */
export function learnedSizes() {
  return Object.keys(LEARNED).map((size) => `${size}×${size}`).join(" and ");
}
