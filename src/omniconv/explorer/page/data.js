/** What Python put into the page: see omniconv/explorer/data.py. */

/** @typedef {{name: string, required: boolean, default: unknown, typical: unknown, help: string}} Parameter */

/**
 * @typedef {object} KindWords
 * @property {string} name
 * @property {string} title
 * @property {string} summary
 * @property {string} signature
 * @property {Record<string, string>} doc
 * @property {Parameter[]} parameters
 * @property {{shape: number[]}[]} samples
 */

/**
 * @typedef {object} PageData
 * @property {string} version
 * @property {"file" | "served"} mode
 * @property {{kind: string | null, text: string, shape: number[]}} start
 * @property {KindWords[]} kinds
 */

/** @returns {PageData} */
export function readData() {
  return JSON.parse(document.getElementById("omniconv-data")?.textContent ?? "null");
}
