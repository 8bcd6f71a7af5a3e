/** The page: which layer is shown, and what is told about it. */
import { readData } from "./data.js";
import { button, fill, make } from "./dom.js";
import { formatSpec } from "./format.js";
import { linkPapers, originOf } from "./origin.js";
import { afterPaint, once } from "./later.js";
import { STARTS, lineOf, makeLayer, readHash, refusalOf, reweighLayer, shrinkSetting, startSetting, textSetting, writeHash } from "./layer.js";
import { fullLine } from "./lessons.js";
import { parseSpec } from "./text.js";
import { makeControls } from "./controls.js";
import { KernelCard } from "./kernel.js";
import { Engine } from "./engine.js";
import { Stage } from "./stage.js";
import { Know } from "./know.js";
import { Run } from "./run.js";
import { Checkerboard } from "./checkerboard.js";
import { Learn } from "./learn.js";
import { Take } from "./take.js";
import { Tabs } from "./tabs.js";

/** @import {Layer, Setting} from "./layer.js" */
/** @import {Lesson} from "./lessons.js" */

const ONE_IMAGE = "One image of the batch is shown.";

class App {
  constructor() {
    this.data = readData();
    // A page that embeds this one asks for the picture, the kernel and the settings alone: explorer.html?embed#kind=...
    this.embedded = new URLSearchParams(location.search).has("embed");
    document.body.classList.toggle("embedded", this.embedded);
    /** @type {Layer | null} */
    this.layer = null;
    this.live = make("p.visually-hidden", { role: "status" });
    this.stage = new Stage({ announce: (text) => (this.live.textContent = text) });
    this.kernel = new KernelCard(this.stage, (number, own) => this.weightsChanged(number, own));
    this.stage.chosen = () => {
      const { view } = this.stage;
      if (!view) return;
      this.kernel.show(view.layer);
      if (this.tabs.current === "Know" && this.know().knows(view.layer)) this.know().follow(view);
    };
    /** WebAssembly, as soon as it is ready. @type {Engine | null} */
    this.engine = null;
    this.know = once(() => new Know((text, sizes, w) => this.enterText(text, sizes, w)));
    this.run = once(() => new Run());
    this.checkerboard = once(() => new Checkerboard());
    this.learn = once(() => new Learn((lesson, line) => this.openLesson(lesson, line), this.data));
    this.take = once(() => new Take(this.stage));
    /** @type {[string, () => HTMLElement][]} */
    const panels = [
      ["Know", () => this.know().element],
      ["Run on a picture", () => this.run().element],
      ["Checkerboard", () => this.checkerboard().element],
      ["Learn", () => this.learn().element],
      ["Take along", () => this.take().element],
    ];
    this.tabs = new Tabs(panels, (name) => this.showPanel(name));
    this.see = make("div.see", null, this.stage.element, this.kernel.element);
    this.refusal = make("div.refusal", { role: "alert" });
    this.note = make("p.note.told", { role: "status" });
    this.controls = make("div");
    this.words = make("div.words");
    this.line = /** @type {HTMLInputElement} */ (
      make("input.line", { type: "text", spellcheck: "false", "aria-label": "The layer as one line of text" })
    );
    this.line.addEventListener("change", () => this.enterLine());
    this.picker = /** @type {HTMLSelectElement} */ (
      make("select.picker", { id: "kind" }, this.data.kinds.map(({ name, title }) => make("option", { value: name }, title)), make("option", { value: "text" }, "A line of text"))
    );
    this.picker.addEventListener("change", () => this.pick(this.picker.value));
    const { setting, note } = this.firstSetting();
    this.setting = setting;
    this.build();
    /** Whether the first picture is on the screen, which nothing below it delays. */
    this.begun = false;
    this.begin(setting, note);
    if (!this.embedded) this.goOn();
    window.addEventListener("hashchange", () => {
      const found = readHash(location.hash);
      if (!found) {
        this.writeAddress();
        this.note.textContent = "This address holds no layer; the last one is shown.";
      } else if (writeHash(found) !== writeHash(this.setting)) this.enter(found, true);
    });
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.enter(this.setting, false));
    }
  }

  /** What the address holds, else what Python was asked for, and what is to be said of it. */
  /** @returns {{setting: Setting, note: string}} */
  firstSetting() {
    const found = readHash(location.hash);
    if (found) return { setting: found, note: "" };
    const lost = location.hash.length > 1 ? "This address holds no layer; the first one is shown. " : "";
    const { kind, text, shape } = this.data.start;
    const sample = this.data.kinds.find(({ name }) => name === kind)?.samples[0];
    if (kind && Object.hasOwn(STARTS, kind) && String(sample?.shape) === String(shape)) return { setting: startSetting(kind), note: lost };
    return { setting: textSetting(text), note: lost + (shape[0] > 1 ? ONE_IMAGE : "") };
  }

  /** Show the first layer; where this page does not take it, with a smaller input, else another. */
  /** @param {Setting} setting @param {string} note */
  begin(setting, note) {
    this.enter(setting, true);
    const refused = this.refusal.textContent;
    if (!this.layer) {
      const smaller = shrinkSetting(setting);
      this.enter(smaller ?? startSetting("cross_correlation"), true);
      note += smaller ? `The layer is shown with a smaller input, ${this.inputSize()}. ` : "Another layer is shown. ";
      note += refused;
    }
    this.note.textContent = note;
  }

  inputSize() {
    return this.layer?.shape.slice(2).join("×") ?? "";
  }

  /** When the layer has been drawn: what is told about it, and WebAssembly, which takes over when it is ready. */
  async goOn() {
    await afterPaint();
    this.begun = true;
    this.tabs.open();
    const engine = await Engine.start(this.data.taps);
    if (!engine) return;
    await engine.load(this.data.presets ?? []);
    this.engine = engine;
    this.showPanel(this.tabs.current);
  }

  build() {
    const app = /** @type {HTMLElement} */ (document.getElementById("app"));
    fill(
      app,
      make("header.top", null, make("h1", null, "Omniconv explorer"), make("label", { for: "kind" }, "Kind"), this.picker, this.words),
      make(
        "div.layout",
        null,
        make(
          "aside.card",
          { "aria-label": "Settings" },
          this.controls,
          button("New numbers", () => this.enter({ ...this.setting, seed: this.setting.seed + 1, x: null, w: null }, false, true)),
        ),
        make("div.main", null, make("label.line-row", null, make("span", null, "As text"), this.line), this.refusal, this.note, this.see, this.tabs.element),
      ),
      this.live,
    );
  }

  /** @param {string} kind */
  pick(kind) {
    if (kind !== "text") this.enter(startSetting(kind), true);
    else if (this.layer) {
      const { seed, x, w } = this.layer.setting;
      this.enter({ ...textSetting(formatSpec(this.layer.spec, this.layer.shape), this.setting.sizes), seed, x, w }, true);
    }
  }

  /** Show a layer that is given as a line. @param {string} text @param {number[]} [sizes] @param {number[] | null} [w] its weights */
  enterText(text, sizes, w = null) {
    this.enter({ ...textSetting(text, sizes), w }, true);
    if ((parseSpec(text).shape?.[0] ?? 1) > 1 && !this.refusal.textContent) this.note.textContent = ONE_IMAGE;
  }

  /** Show a layer of a lesson, where the eye and the keyboard find it. @param {Lesson} lesson @param {string} line */
  openLesson(lesson, line) {
    this.enter({ ...textSetting(fullLine(line)), x: lesson.x ?? null, w: line === lesson.open ? lesson.w ?? null : null }, true);
    this.stage.element.scrollIntoView();
    this.stage.canvas.focus({ preventScroll: true });
  }

  enterLine() {
    try {
      this.enterText(this.line.value, this.setting.sizes);
      if (this.layer && !this.refusal.textContent) this.line.value = formatSpec(this.layer.spec, this.layer.shape);
    } catch (error) {
      this.note.textContent = "";
      this.refusal.textContent = refusalOf(error);
      document.body.classList.add("refused");
    }
  }

  /** Only what is seen is worked out. @param {string} name */
  showPanel(name) {
    if (!this.layer || this.embedded) return;
    const { view } = this.stage;
    if (name === "Know" && view) this.know().show(view, this.engine);
    if (name === "Run on a picture") this.run().show(this.layer, this.engine, this.data.mode === "served");
    if (name === "Checkerboard") this.checkerboard().show();
    if (name === "Take along") this.take().show(this.layer);
  }

  /** Show a setting, or say why it is none and keep what is shown. @param {Setting} setting @param {boolean} redraw @param {boolean} [fresh] */
  enter(setting, redraw, fresh = false) {
    this.setting = setting;
    this.note.textContent = "";
    if (redraw) this.describeKind();
    try {
      this.layer = makeLayer(setting, fresh || redraw ? null : this.layer?.weights ?? null);
      this.setting = this.layer.setting;
      this.refusal.textContent = "";
      this.show();
      this.writeAddress();
    } catch (error) {
      this.refusal.textContent = refusalOf(error);
      if (setting.kind === "text" && document.activeElement !== this.line) this.line.value = lineOf(setting);
    }
    document.body.classList.toggle("refused", this.refusal.textContent !== "");
  }

  writeAddress() {
    try {
      history.replaceState(null, "", writeHash(this.setting));
    } catch {
      // A page in a frame without an origin has no address to write to.
    }
  }

  describeKind() {
    const words = this.data.kinds.find(({ name }) => name === this.setting.kind);
    this.picker.value = this.setting.kind;
    fill(this.controls, makeControls(this.setting, words, (setting, redraw) => this.change(setting, redraw)));
    fill(
      this.words,
      words ? make("p.summary", null, words.summary) : null,
      words
        ? make(
            "details",
            null,
            make("summary", null, "Formula, use, legality, cost, sources, code"),
            ["Formula", "Use", "Legality", "Cost", "Sources"].map((part) => (words.doc[part] ? [make("h2", null, part), part === "Formula" ? make("pre", null, words.doc[part]) : make("p", null, linkPapers(words.doc[part]))] : [])).flat(),
            make("h2", null, "Code"),
            originOf(this.data, words),
          )
        : null,
    );
  }

  /** Another setting from the controls, which know nothing of numbers. @param {Setting} given @param {boolean} redraw */
  change(given, redraw) {
    const { seed, x, w } = this.setting;
    const setting = { ...given, seed, x, w };
    this.setting = setting;
    if (redraw) this.describeKind();
    this.enter(setting, false);
  }

  /** @param {number} number of the convolution @param {number} own its channel */
  weightsChanged(number, own) {
    if (!this.layer) return;
    this.layer = reweighLayer(this.layer, number, own);
    if (!this.refusal.textContent) {
      this.setting = this.layer.setting;
      this.writeAddress();
    }
    this.show();
  }

  show() {
    if (!this.layer) return;
    this.see.classList.toggle("wide", this.layer.plans.length > 1);
    this.stage.show(this.layer);
    if (this.begun) this.tabs.open();
    if (document.activeElement !== this.line) this.line.value = formatSpec(this.layer.spec, this.layer.shape);
  }
}

new App();
