/** Lessons on the page: first a prediction, then the reveal. */
import { button, fill, make, segmented } from "./dom.js";
import { LESSONS } from "./lessons.js";
import { linkModule, linkPapers, originOf } from "./origin.js";

/** @import {Lesson} from "./lessons.js" */
/** @import {PageData} from "./data.js" */

export class Learn {
  /** @param {(lesson: Lesson, line: string) => void} open shows a layer of a lesson @param {PageData} data */
  constructor(open, data) {
    this.open = open;
    this.data = data;
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
        make(
          "div.bar",
          null,
          button("Show this layer above", () => this.open(lesson, lesson.open)),
          lesson.cure ? button("Show its cure above", () => this.open(lesson, lesson.cure ?? "")) : null,
        ),
      );
    }, { class: "primary", disabled: true });
    let chosen = "";
    const heading = make("h3", { tabindex: -1 }, `${this.number + 1} of ${LESSONS.length}: ${lesson.title}`);
    fill(
      this.element,
      heading,
      lesson.before ? make("p", null, lesson.before) : null,
      make("p.question", null, lesson.question),
      segmented("Your prediction", lesson.options.map((option) => [option, option]), "", (option) => {
        chosen = option;
        reveal.removeAttribute("disabled");
        fill(answer);
      }),
      reveal,
      answer,
      sourcesOf(this.data, lesson),
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

/** Formula and sources of the kind of a lesson, and the code that computes the same. @param {PageData} data @param {Lesson} lesson */
function sourcesOf(data, { kind, module }) {
  const words = data.kinds.find(({ name }) => name === kind);
  if (!words) return null;
  return make(
    "details",
    null,
    make("summary", null, `Formula, sources and code: ${words.title}`),
    make("pre", null, words.doc.Formula ?? ""),
    make("p", null, linkPapers(words.doc.Sources ?? "")),
    make("p", null, "Python computes the answer in ", linkModule(data, module), "."),
    originOf(data, words),
  );
}
