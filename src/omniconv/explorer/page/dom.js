/** Elements, made in one line each; text is always text. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * `make("p.note", {title: "words"}, "text", child)`: an element with classes, attributes (functions are listeners) and
 * children.
 * @param {string} name tag and classes
 * @param {Record<string, unknown> | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function make(name, attributes = null, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, /** @type {EventListener} */ (value));
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false).map(asNode));
  return element;
}

/** @param {Child} child @returns {Node | string} */
function asNode(child) {
  return child instanceof Node ? child : String(child);
}

/** @param {Element} element @param {...(Child | Child[])} children */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((c) => c !== null && c !== undefined && c !== false).map(asNode));
}

/** @param {string} label @param {() => void} act @param {Record<string, unknown>} [attributes] */
export function button(label, act, attributes = {}) {
  return make("button", { type: "button", click: act, ...attributes }, label);
}

/**
 * A choice of a few words as radio buttons in a row.
 * @param {string} legend
 * @param {[string, string][]} options value and label
 * @param {string} chosen
 * @param {(value: string) => void} choose
 */
export function segmented(legend, options, chosen, choose) {
  const name = `choice-${legend.replace(/\W+/g, "-")}-${(segmentedCount += 1)}`;
  return make(
    "fieldset.segmented",
    null,
    make("legend", null, legend),
    options.map(([value, label]) =>
      make(
        "label",
        null,
        make("input", { type: "radio", name, value, checked: value === chosen, change: () => choose(value) }),
        make("span", null, label),
      ),
    ),
  );
}

let segmentedCount = 0;

/** @param {string[]} heads @param {(Child | Child[])[][]} rows @param {string} caption */
export function table(heads, rows, caption) {
  return make(
    "table",
    null,
    make("caption", null, caption),
    make("thead", null, make("tr", null, heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", null, rows.map((row) => make("tr", null, row.map((cell) => make("td", null, cell))))),
  );
}

/** A number for people: whole where it is, three digits else, a true minus sign. @param {number} value */
export function formatNumber(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "?";
  const size = Math.abs(value);
  const text =
    Number.isInteger(value) && size < 10000
      ? String(size)
      : size >= 10000
        ? `${(size / 1000).toPrecision(3)}k`
        : size < 0.01
          ? size === 0 ? "0" : size.toExponential(0)
          : String(Number(size.toPrecision(2)));
  return value < 0 ? `−${text}` : text;
}

/** A count for people: 1 234 567. @param {number} value */
export function formatCount(value) {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}
