/**
 * Integers as they are given, and refusals in the words of the Python package.
 *
 * A message always reads "problem; need rule, e.g. fix | problem line".
 */

export const LIMIT = 2 ** 31 - 1;

const LONGEST = 80;

/** Any error that the model raises on purpose; `name` is the class of the Python error. */
export class OmniError extends Error {
  /**
   * @param {"SpecError" | "ShapeError"} name
   * @param {string} problem
   * @param {{need?: string, fix?: string, at?: string}} [parts]
   */
  constructor(name, problem, { need = "", fix = "", at = "" } = {}) {
    let message = problem;
    if (need) message += `; need ${need}`;
    if (fix) message += need ? `, e.g. ${fix}` : `; ${fix}`;
    if (at) message += ` | ${at}`;
    super(message);
    this.name = name;
    this.problem = problem;
    this.need = need;
    this.fix = fix;
    this.at = at;
  }
}

/**
 * @param {string} problem
 * @param {{need?: string, fix?: string, at?: string}} [parts]
 */
export function specError(problem, parts) {
  return new OmniError("SpecError", problem, parts);
}

/**
 * @param {string} problem
 * @param {{need?: string, fix?: string, at?: string}} [parts]
 */
export function shapeError(problem, parts) {
  return new OmniError("ShapeError", problem, parts);
}

/** @param {number} a @param {number} b */
export function floorDiv(a, b) {
  return Math.floor(a / b);
}

/** @param {number} a @param {number} b */
export function ceilDiv(a, b) {
  return Math.ceil(a / b) + 0;
}

/** The remainder with the sign of `b`. @param {number} a @param {number} b */
export function modulo(a, b) {
  return ((a % b) + b) % b;
}

/** @param {number} a @param {number} b @returns {number} */
export function gcd(a, b) {
  return b ? gcd(b, a % b) : Math.abs(a);
}

/** @param {number} a @param {number} b */
export function lcm(a, b) {
  return (a / gcd(a, b)) * b;
}

/** @param {Iterable<number>} values */
export function product(values) {
  let found = 1;
  for (const value of values) found *= value;
  return found;
}

/** @param {number} count @returns {number[]} */
export function range(count) {
  return Array.from({ length: Math.max(0, count) }, (_, index) => index);
}

/** A value as Python writes it; arrays are tuples. @param {unknown} value @returns {string} */
export function repr(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : formatFloat(value);
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `(${value.map(repr).join(", ")}${value.length === 1 ? "," : ""})`;
  return String(value);
}

/** @param {string} text */
function quote(text) {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = text
    .replace(/\\/g, "\\\\")
    .replace(/\n/g, "\\n")
    .replace(/\r/g, "\\r")
    .replace(/\t/g, "\\t")
    .replace(/[\x00-\x1f\x7f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return mark + (mark === "'" ? body.replace(/'/g, "\\'") : body) + mark;
}

/** A float as Python writes it. @param {number} value */
export function formatFloat(value) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent] = value.toExponential().split("e");
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** @param {string} name @param {unknown} value @param {string} problem */
export function state(name, value, problem) {
  const text = repr(value);
  return `${name}=${text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 3)}...`} ${problem}`;
}

/** @param {string} what @param {number | null} low @param {number | null} high */
function rule(what, low, high) {
  if (low === null || high === null) return low === null ? what : `${what} of at least ${low}`;
  return `${what} from ${low} to ${high}`;
}

/** @param {number} number @param {number | null} low @param {number | null} high */
function within(number, low, high) {
  return (low === null || low <= number) && (high === null || number <= high);
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number | null} [low]
 * @param {number | null} [high]
 * @param {string} [at]
 * @returns {number}
 */
export function asInteger(name, value, low = 1, high = LIMIT, at = "") {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw specError(state(name, value, "is not an integer"), { need: rule("an integer", low, high), at });
  }
  if (!within(value, low, high)) {
    throw specError(`${name}=${value} is out of range`, { need: rule("an integer", low, high), at });
  }
  return value;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number | null} [low]
 * @param {number | null} [high]
 * @param {{need?: string, fix?: string, error?: "SpecError" | "ShapeError"}} [words]
 * @returns {number[]}
 */
export function asIntegers(name, value, low = 1, high = LIMIT, words = {}) {
  const { need = "a sequence of integers", fix = "", error = "SpecError" } = words;
  if (!Array.isArray(value)) {
    throw new OmniError(error, state(name, value, "is not a sequence of integers"), { need, fix });
  }
  if (!value.every((item) => typeof item === "number" && Number.isInteger(item))) {
    throw new OmniError(error, state(name, value, "is not made of integers"), { need, fix });
  }
  if (!value.every((item) => within(item, low, high))) {
    throw new OmniError(error, state(name, value, "is out of range"), { need: rule("integers", low, high), fix });
  }
  return [...value];
}

/** @param {unknown} value @param {{name?: string, fix?: string, at?: string}} [words] @returns {number[]} */
export function asShape(value, { name = "shape", fix = "", at = "" } = {}) {
  const need = "(N, C, *spatial)";
  if (!Array.isArray(value)) {
    throw shapeError(state(name, value, "is not a sequence of integers"), { need, fix, at });
  }
  if (!value.every(Number.isInteger)) {
    throw shapeError(state(name, value, "is not made of integers"), { need, fix, at });
  }
  if (!value.every((size) => size >= 1 && size <= LIMIT)) {
    const problem = state(name, value, "has an empty, negative or absurd axis");
    throw shapeError(problem, { need: `sizes from 1 to ${LIMIT}`, at });
  }
  return [...value];
}

/** @param {string} name @param {unknown} value @returns {boolean} */
export function asFlag(name, value) {
  if (typeof value === "boolean") return value;
  throw specError(state(name, value, "is not a truth value"), { need: "True or False" });
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {readonly string[]} choices
 * @returns {string}
 */
export function asChoice(name, value, choices) {
  if (typeof value === "string" && choices.includes(value)) return value;
  throw specError(state(name, value, "is unknown"), { need: `one of ${choices.join(", ")}` });
}
