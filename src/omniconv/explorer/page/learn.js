/** Lessons on the page: first a prediction, then the reveal. */
import { button, fill, make, segmented } from "./dom.js";
import { LESSONS } from "./lessons.js";

/** @import {Lesson} from "./lessons.js" */
/** @import {KindWords} from "./data.js" */

export class Learn {
  /** @param {(lesson: Lesson) => void} open shows the layer of a lesson @param {KindWords[]} kinds */
  constructor(open, kinds) {
    this.open = open;
    this.kinds = kinds;
    this.number = 0;
    this.element = make("div.lesson");
    this.show();
  }

  show() {
    const lesson = LESSONS[this.number];
    const answer = make("div.answer", { role: "status" });
    const reveal = button("Reveal", () => {
      const { right, words } = lesson.compute();
      const hit = lesson.options[right] === chosen;
      fill(
        answer,
        make("p", null, make("b", null, hit ? "✓ As you predicted: " : "✗ Not your prediction. It is: "), lesson.options[right]),
        make("p", null, words),
        button("Show this layer above", () => this.open(lesson)),
      );
    }, { class: "primary", disabled: true });
    let chosen = "";
    const heading = make("h3", { tabindex: -1 }, `${this.number + 1} of ${LESSONS.length}: ${lesson.title}`);
    fill(
      this.element,
      heading,
      make("p.question", null, lesson.question),
      segmented("Your prediction", lesson.options.map((option) => [option, option]), "", (option) => {
        chosen = option;
        reveal.removeAttribute("disabled");
        fill(answer);
      }),
      reveal,
      answer,
      sourcesOf(this.kinds.find(({ name }) => name === lesson.kind)),
      make(
        "div.bar",
        null,
        button("Previous lesson", () => this.turn(-1), { disabled: this.number === 0 }),
        button("Next lesson", () => this.turn(1), { disabled: this.number === LESSONS.length - 1 }),
      ),
    );
    return heading;
  }

  /** @param {number} by */
  turn(by) {
    this.number += by;
    this.show().focus();
  }
}

/** Formula and sources of a kind; papers on arXiv as links. @param {KindWords | undefined} words */
export function sourcesOf(words) {
  if (!words) return null;
  return make(
    "details",
    null,
    make("summary", null, `Formula and sources: ${words.title}`),
    make("pre", null, words.doc.Formula ?? ""),
    make("p", null, linkPapers(words.doc.Sources ?? "")),
  );
}

/** Text with a link for each paper that it names by its number. @param {string} text */
export function linkPapers(text) {
  return text.split(/(arXiv:\d{4}\.\d{4,5})/).map((part, i) =>
    i % 2 ? make("a", { href: `https://arxiv.org/abs/${part.slice(6)}`, target: "_blank", rel: "noopener noreferrer" }, part) : part,
  );
}
