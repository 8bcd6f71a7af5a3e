/** What a layer costs and how long it takes, beside other layers for the same task. */
import { OmniError, product } from "./integers.js";
import { formatSpec } from "./format.js";
import { button, fill, formatCount, formatNumber, make, table } from "./dom.js";
import { shapesOf } from "./chain.js";
import { timeRuns } from "./clock.js";
import { listAlternatives } from "./alternatives.js";
import { sumCost } from "./cost.js";
import { drawWeights, randomNumbers, runPlans } from "./evaluate.js";
import { planSpec } from "./plan.js";

/** @import {Spec} from "./chain.js" */
/** @import {Engine} from "./engine.js" */
/** @import {Layer} from "./layer.js" */

/** Positions on each axis that times are taken at, by the number of axes. */
const TIMED_SIZES = [4096, 64, 16];
const MOST_TIMED_MACS = 2 ** 26;

/** @typedef {{name: string, spec: Spec, text: string, parameters: number, macs: number, executed: number}} Row */

export class CostTable {
  /** @param {(text: string, sizes: number[]) => void} open shows another layer */
  constructor(open) {
    this.open = open;
    /** @type {Engine | null} */
    this.engine = null;
    /** Times that were taken, by line. @type {Map<string, string>} */
    this.times = new Map();
    this.rows = /** @type {Row[]} */ ([]);
    /** @type {Layer | null} */
    this.layer = null;
    this.scroll = make("div.scroll", { tabindex: 0, role: "region", "aria-label": "Cost table" });
    this.told = make("span.note", { role: "status" });
    this.element = make(
      "section.figure.wide",
      { "aria-label": "Cost" },
      make("h3", null, "What it costs, beside its alternatives"),
      this.scroll,
      make("p", null, button("Measure the times", () => this.measure()), this.told),
      make("p.note", null, "Fewer MAC need not be faster, since reading and writing memory may be the limit. A name opens that layer."),
    );
  }

  /** @param {Layer} layer */
  show(layer) {
    const { spec, shape, shapes } = layer;
    this.layer = layer;
    this.rows = [{ name: "this layer", spec }, ...listAlternatives(spec, shape, shapes[shapes.length - 1])].map((each) => ({ ...each, text: formatSpec(each.spec, shape), ...sumCost(each.spec, shape) }));
    this.told.textContent = "";
    this.tabulate();
  }

  tabulate() {
    const [own] = this.rows;
    const most = Math.max(...this.rows.map((each) => each.macs));
    const sizes = this.layer ? [...new Array(5 - this.layer.shape.length).fill(4), ...this.layer.shape.slice(2)] : [];
    const timed = this.rows.some(({ text }) => this.times.has(text));
    const rows = this.rows.map((each, i) => [
      i ? button(each.name, () => this.open(each.text, sizes)) : make("b", null, each.name),
      formatCount(each.parameters), formatCount(each.macs), formatCount(each.executed),
      `${formatNumber(Math.round((each.macs / own.macs) * 100) / 100)}×`,
      costBar(each.macs / most),
      ...(timed ? [this.times.get(each.text) ?? ""] : []),
    ]);
    const heads = ["layer", "parameters", "MAC", "MAC inside the input", "of this layer", "share", ...(timed ? ["time"] : [])];
    fill(this.scroll, table(heads, rows, "For this input; parameters with biases, 1 MAC = one multiplication and addition"));
  }

  /** Take the times, one layer after the other, while the page goes on. */
  async measure() {
    const { layer, rows } = this;
    if (!layer) return;
    this.times.clear();
    const { engine } = this;
    const shape = timedShape(layer);
    for (const row of rows) {
      await new Promise((resolve) => setTimeout(resolve));
      if (this.rows !== rows) return; // another layer is shown
      this.told.textContent = ` Measuring ${row.name}.`;
      this.times.set(row.text, timeLayer(row.spec, shape, engine));
    }
    this.tabulate();
    const how = engine ? `Omniconv's WebAssembly with ${engine.name}` : "a plain JavaScript loop in float64";
    const marked = rows.some(({ text }) => this.times.get(text)?.endsWith("*")) ? " *: steps that are no convolutions run in JavaScript." : "";
    this.told.textContent = ` Time at ${shape.slice(1).join(" × ")} by ${how}, one thread, the shortest of several runs.${marked}`;
  }
}

/** An input that is large enough for a clock. @param {Layer} layer */
function timedShape({ shape }) {
  const size = TIMED_SIZES[shape.length - 3];
  return [1, shape[1], ...shape.slice(2).map((own) => Math.max(own, size))];
}

/** The shortest run in words, or why there is none. @param {Spec} spec @param {number[]} shape @param {Engine | null} engine */
function timeLayer(spec, shape, engine) {
  try {
    if (Math.max(...shapesOf(spec, shape).map(product), sumCost(spec, shape).macs) > MOST_TIMED_MACS) return "too large";
    const plans = planSpec(spec, shape);
    const next = randomNumbers(3);
    const x = Float64Array.from({ length: product(shape) }, next);
    const weights = drawWeights(spec, 1);
    const run = () => (engine ? engine.runPlans(plans, x, weights) : runPlans(plans, x, weights));
    run(); // memory and machine code are made
    const best = timeRuns(run, 3);
    const slow = engine && plans.some((plan) => !plan.parts.some((part) => part.conv));
    return `${formatNumber(best)}\u202fms${slow ? "\u202f*" : ""}`;
  } catch (error) {
    if (error instanceof OmniError) return "none at this size";
    throw error;
  }
}

/** @param {number} share */
function costBar(share) {
  const bar = make("span.cost-bar", { "aria-hidden": "true" });
  bar.style.width = `${Math.max(2, share * 140)}px`;
  return bar;
}
