/** The chosen value as a sum of products, each of which may be framed. */
import { fill, formatNumber, make } from "./dom.js";
import { dilationWords, nameStep } from "./words.js";

/** @import {View} from "./view.js" */

/** Products that are written out. */
const MOST_TERMS = 27;

export class Products {
  /** @param {(weight: number) => Record<string, unknown>} listeners of what stands for a weight */
  constructor(listeners) {
    this.listeners = listeners;
    this.element = make("div.terms", { tabindex: 0, role: "region", "aria-label": "Products of the chosen value" });
  }

  /** Whether a product has the pointer or the focus. */
  holds() {
    return this.element.querySelector(".met:hover, .met:focus") !== null;
  }

  /** Frame the product of a weight. @param {number | null} weight */
  mark(weight) {
    for (const term of this.element.querySelectorAll("[data-weight]")) {
      term.classList.toggle("met", Number(/** @type {HTMLElement} */ (term).dataset.weight) === weight);
    }
  }

  /** @param {View} view */
  show(view) {
    const { plans, values, weights } = view.layer;
    const { tensor, channel } = view.choice;
    const source = view.source();
    if (!source) {
      fill(this.element, make("p", null, tensor ? `This step (${nameStep(plans[tensor - 1].step)}) has no weights.` : "An input: everything it feeds is marked."));
      return;
    }
    const terms = view.terms();
    const { w, b } = weights[source.number];
    const own = channel - source.part.firstOut;
    const shown = terms.slice(0, MOST_TERMS).map((term) => {
      const x = term.input < 0 ? 0 : values[tensor - 1][term.input];
      return make(
        "span.term",
        { tabindex: 0, "data-weight": term.weight, ...this.listeners(term.weight) },
        make("span.x", { title: `channel ${term.channel}, ${view.placeWords(term.taps.map((tap) => tap.place))}` }, term.input < 0 ? "0 (padding)" : inBrackets(x)),
        " · ",
        make("span.w", null, inBrackets(w[term.weight])),
      );
    });
    const sum = values[tensor][view.index(view.choice)];
    const parts = shown.flatMap((term, i) => (i ? [" + ", term] : [term]));
    const more = terms.length > shown.length ? ` + ${terms.length - shown.length} more` : "";
    const bias = b ? ` + ${formatNumber(b[own])} (bias)` : "";
    const apart = dilationWords(source.conv);
    fill(
      this.element,
      terms.length
        ? make("p.sum", null, make("b", null, formatNumber(sum)), " = ", ...parts, more + bias)
        : make("p.sum", null, make("b", null, formatNumber(sum)), " : no tap of the kernel lands here (a hole)."),
      apart ? make("p.small", null, apart) : null,
    );
    this.mark(view.spot);
  }
}

/** A factor of a product. @param {number} value */
function inBrackets(value) {
  return value < 0 ? `(${formatNumber(value)})` : formatNumber(value);
}
