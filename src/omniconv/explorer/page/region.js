/** The numbers of a region of the picture and of its result, as tables: what the two canvases show, for those who do not see them. */
import { range } from "./integers.js";
import { fill, formatNumber, make, table } from "./dom.js";
import { numberBox } from "./controls.js";

/** Rows and columns of a region. */
const REGION = 10;

/** @typedef {{name: string, width: number, height: number, values: ArrayLike<number>}} Plane */

export class RegionTables {
  constructor() {
    this.corner = [0, 0];
    /** @type {Plane[]} */
    this.planes = [];
    this.tables = make("div.tables");
    this.boxes = ["row", "column"].map((word, a) =>
      numberBox(`first ${word} of the region`, 0, (value) => {
        this.corner[a] = typeof value === "number" ? Math.max(0, Math.floor(value)) : 0;
        this.tabulate();
      }, { min: 0 }),
    );
    this.details = /** @type {HTMLDetailsElement} */ (
      make(
        "details",
        { toggle: () => this.tabulate() },
        make("summary", null, "A region of both as tables"),
        make("div.region", null, make("label", null, "from row ", this.boxes[0]), make("label", null, "and column ", this.boxes[1]), make("span.small", null, "A click on the picture or the result chooses it, too.")),
        this.tables,
      )
    );
  }

  /** The region around a place. @param {number} row @param {number} column */
  choose(row, column) {
    this.corner = [row, column].map((place) => Math.max(0, Math.floor(place - REGION / 2)));
    this.boxes.forEach((box, a) => (box.value = String(this.corner[a])));
    this.tabulate();
  }

  /** @param {Plane[]} planes */
  show(planes) {
    this.planes = planes;
    this.tabulate();
  }

  tabulate() {
    if (!this.details.open) return;
    fill(this.tables, this.planes.map(({ name, width, height, values }) => {
      const [top, left] = [Math.min(this.corner[0], Math.max(0, height - REGION)), Math.min(this.corner[1], Math.max(0, width - REGION))];
      const columns = range(Math.min(REGION, width)).map((i) => left + i);
      const rows = range(Math.min(REGION, height)).map((i) => [String(top + i), ...columns.map((w) => formatNumber(values[(top + i) * width + w]))]);
      const caption = `${name}, ${height} × ${width}, from row ${top} and column ${left}`;
      return make("div.scroll", { tabindex: 0, role: "region", "aria-label": name }, table(["row", ...columns.map((w) => `column ${w}`)], rows, caption));
    }));
  }
}
