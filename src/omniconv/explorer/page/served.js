/** Modules that the server which gave this page compiles for the layer at hand: see omniconv/explorer/answers.py. */

/** @import {Engine} from "./engine.js" */

/** Modules that are kept, the newest: each has memory of its own. */
const MOST_MODULES = 8;
/** How long to wait where the server answers others [ms]. */
const PATIENCE = 300;

export class Served {
  /** @param {Engine} engine @param {() => void} arrived called when there is a module, or the reason why there is none */
  constructor(engine, arrived) {
    this.engine = engine;
    this.arrived = arrived;
    /** Layers without a module, and why. @type {Map<string, string>} */
    this.refusals = new Map();
    /** @type {string[]} */
    this.modules = [];
    /** The layer that is asked for next, if any. */
    this.wanted = "";
    this.busy = false;
  }

  /** Ask for the module of a layer; what is to be said as long as there is none. @param {string} text the layer with its shape */
  want(text) {
    const refusal = this.refusals.get(text);
    if (refusal !== undefined) return `no module for this layer: ${refusal}`;
    this.wanted = text;
    if (!this.busy) this.ask();
    return "a module for this layer is being compiled";
  }

  /** One request at a time, always for the layer that was wanted last. */
  async ask() {
    this.busy = true;
    while (this.wanted) {
      const text = this.wanted;
      this.wanted = "";
      const refusal = await this.fetchModule(text);
      if (refusal === null) this.wanted ||= text;
      else {
        if (refusal) this.refusals.set(text, refusal);
        this.arrived();
      }
    }
    this.busy = false;
  }

  /** Nothing, or why there is no module; null where the server has no time. @param {string} text */
  async fetchModule(text) {
    try {
      const answer = await fetch("compile", { method: "POST", body: JSON.stringify({ text, shape: null }) });
      if (answer.status === 503) {
        await new Promise((resolve) => setTimeout(resolve, PATIENCE));
        return null;
      }
      const found = await answer.json();
      if (!answer.ok) return String(found.error);
      await this.engine.load([{ module: found }]);
    } catch (error) {
      return `the server gives none (${/** @type {Error} */ (error).message})`;
    }
    if (!this.engine.presets.has(text)) return "this browser does not take it";
    this.modules.push(text);
    if (this.modules.length > MOST_MODULES) this.engine.presets.delete(/** @type {string} */ (this.modules.shift()));
    return "";
  }
}
