/** What Python put into the page: see omniconv/explorer/data.py. */

/** @typedef {{name: string, required: boolean, default: unknown, typical: unknown, help: string}} Parameter */

/**
 * @typedef {object} KindWords
 * @property {string} name
 * @property {string} title
 * @property {string} summary
 * @property {string} signature
 * @property {string} module of Python
 * @property {string} code of its constructor, without the words
 * @property {Record<string, string>} doc
 * @property {Parameter[]} parameters
 * @property {{shape: number[]}[]} samples
 */

/**
 * The kernel for any setting: modules as base64, where memory is free, and the words of a record.
 * @typedef {{simd: string, relaxed: string, heap: number, words: string[]}} TapData
 */

/**
 * A module for one layer and one shape: see omniconv.web.module.
 * @typedef {object} ModuleData
 * @property {string} text
 * @property {string} simd
 * @property {string} relaxed
 * @property {{offset: number, shape: number[]}} input
 * @property {{offset: number, shape: number[]}} output
 * @property {{offset: number, index: string, count: number}} weights
 */

/**
 * @typedef {object} PageData
 * @property {string} version
 * @property {"file" | "served"} mode
 * @property {{kind: string | null, text: string, shape: number[]}} start
 * @property {{documentation: string | null, source: string | null}} links addresses of the documentation and of the source tree, if there are any
 * @property {KindWords[]} kinds
 * @property {TapData} [taps]
 * @property {{module: ModuleData}[]} [presets]
 */

/** @returns {PageData} */
export function readData() {
  return JSON.parse(document.getElementById("omniconv-data")?.textContent ?? "null");
}
