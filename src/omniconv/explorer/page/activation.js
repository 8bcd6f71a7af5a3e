/** Activation functions: names, parameters with their defaults, and their values in float64. */
import { asChoice, repr, specError } from "./integers.js";

/** @typedef {{type: "activation", name: string, parameters: [string, number][]}} Activation */

/** @type {Record<string, Record<string, number>>} */
export const ACTIVATIONS = {
  relu: {},
  relu6: {},
  clip: { lo: -Infinity, hi: Infinity },
  leaky_relu: { alpha: 0.01 },
  elu: { alpha: 1 },
  sigmoid: {},
  silu: {},
  hard_sigmoid: { alpha: 1 / 6, beta: 0.5 },
  hard_swish: {},
  tanh: {},
  exp: {},
  sqrt: {},
  abs: {},
  neg: {},
  gelu: {},
  gelu_tanh: {},
};

/** @param {string} name @param {Record<string, number>} [given] @returns {Activation} */
export function activation(name, given = {}) {
  asChoice("activation", name, Object.keys(ACTIVATIONS));
  const defaults = ACTIVATIONS[name];
  const unknown = Object.keys(given).filter((key) => !(key in defaults));
  if (unknown.length) {
    const need = `some of ${repr(Object.keys(defaults))}`;
    throw specError(`activation ${name} has no parameter ${unknown.sort().join(", ")}`, { need });
  }
  /** @type {[string, number][]} */
  const parameters = Object.entries(defaults).map(([key, value]) => [key, key in given ? given[key] : value]);
  return { type: "activation", name, parameters };
}

/** @param {number} x */
function sigmoid(x) {
  const small = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : small) / (1 + small);
}

/** @param {number} x @param {number} low @param {number} high */
function clamp(x, low, high) {
  return Math.min(Math.max(x, low), high);
}

/**
 * The complementary error function: its Taylor series near 0, its continued fraction beyond 2.
 * @param {number} x
 * @returns {number}
 */
export function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / ((x + fraction) * Math.sqrt(Math.PI));
}

/** @param {Activation} step @returns {(x: number) => number} */
export function activate(step) {
  const p = Object.fromEntries(step.parameters);
  /** @type {Record<string, (x: number) => number>} */
  const functions = {
    relu: (x) => Math.max(x, 0),
    relu6: (x) => clamp(x, 0, 6),
    clip: (x) => clamp(x, p.lo, p.hi),
    leaky_relu: (x) => (x >= 0 ? x : p.alpha * x),
    elu: (x) => (x >= 0 ? x : p.alpha * Math.expm1(Math.min(x, 0))),
    sigmoid,
    silu: (x) => x * sigmoid(x),
    hard_sigmoid: (x) => clamp(p.alpha * x + p.beta, 0, 1),
    hard_swish: (x) => x * clamp(x / 6 + 0.5, 0, 1),
    tanh: Math.tanh,
    exp: Math.exp,
    sqrt: Math.sqrt,
    abs: Math.abs,
    neg: (x) => -x,
    gelu: (x) => (x / 2) * erfc(-x / Math.SQRT2),
    gelu_tanh: (x) => x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)),
  };
  return functions[step.name];
}
