/** Tensors as tables, for those who do not see the picture. */
import { range } from "./integers.js";
import { formatNumber, make, table } from "./dom.js";

/** @import {View} from "./view.js" */

/** What a table holds at most. */
const MOST_ROWS = 60;
const MOST_COLUMNS = 40;

/** The input, the tensor with the chosen value, and the output, each as a table. @param {View} view */
export function listTables(view) {
  const { values, plans, shapes } = view.layer;
  return [...new Set([0, view.choice.tensor, plans.length])].map((n) => {
    const { channels, sizes } = view.extent(n);
    const [deep, high, wide] = sizes;
    const rows = range(Math.min(MOST_ROWS, channels * deep * high)).map((row) => {
      const cells = range(Math.min(MOST_COLUMNS, wide)).map((w) => formatNumber(values[n][row * wide + w]));
      return [String(Math.floor(row / (deep * high))), String(row % (deep * high)), ...cells];
    });
    const heads = ["channel", "row", ...range(Math.min(MOST_COLUMNS, wide)).map((w) => `column ${w}`)];
    const name = n === 0 ? "Input" : n === plans.length ? "Output" : `After step ${n}`;
    return make("div.scroll", { tabindex: 0, role: "region", "aria-label": name }, table(heads, rows, `${name} of shape ${shapes[n].join("×")}`));
  });
}
