/** Where what the page says comes from: papers, the documentation of a kind, and its code. */
import { make } from "./dom.js";

/** @import {KindWords, PageData} from "./data.js" */

/** @param {string} address @param {string} text */
function linkOut(address, text) {
  return make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}

/** Text with a link for each paper that it names by its number. @param {string} text */
export function linkPapers(text) {
  return text.split(/(arXiv:\d{4}\.\d{4,5})/).map((part, i) => (i % 2 ? linkOut(`https://arxiv.org/abs/${part.slice(6)}`, part) : part));
}

/** The path of a module in the source tree, a link where the project names an address for its code. @param {PageData} data @param {string} module */
export function linkModule({ links }, module) {
  const path = `src/${module.replace(/\./g, "/")}.py`;
  return links.source ? linkOut(`${links.source}/${path}`, path) : make("code", null, path);
}

/** The page of a kind in the documentation, and its code. @param {PageData} data @param {KindWords} words */
export function originOf(data, words) {
  const { documentation } = data.links;
  const page = `docs/kinds/${words.name}.md`;
  return make(
    "div",
    null,
    make(
      "p",
      null,
      "Documentation: ",
      documentation ? linkOut(`${documentation}/kinds/${words.name}.html`, page) : make("code", null, page),
      "; code: ",
      linkModule(data, words.module),
    ),
    make("details", null, make("summary", null, `The code of ${words.name}`), make("pre.code", { tabindex: 0, "aria-label": `The code of ${words.name}` }, words.code)),
  );
}
