/** The layer at work on a picture, again with every edit of its weights. */
import { OmniError, product, range, specError } from "./integers.js";
import { convsOf, inChannels, shapesOf } from "./chain.js";
import { costOf } from "./cost.js";
import { formatSpec } from "./format.js";
import { runPlans } from "./evaluate.js";
import { once } from "./later.js";
import { planSpec } from "./plan.js";
import { button, fill, formatCount, formatNumber, make, segmented } from "./dom.js";
import { selectBox } from "./controls.js";
import { timeRuns } from "./clock.js";
import { Camera } from "./camera.js";
import { RegionTables } from "./region.js";
import { Served } from "./served.js";
import { PICTURES, asInput, drawPicture, paintPlanes, readPicture } from "./pictures.js";

/** @import {Engine} from "./engine.js" */
/** @import {Layer} from "./layer.js" */
/** @import {Plan} from "./plan.js" */
/** @import {Picture} from "./pictures.js" */

const MOST_PICTURE_MACS = 2 ** 28;

export class Run {
  constructor() {
    this.name = PICTURES[1];
    this.size = 256;
    this.channel = 0;
    /** @type {Blob | null} */
    this.file = null;
    /** @type {Layer | null} */
    this.layer = null;
    /** What depends on the picture alone, kept while weights are edited: its channels, by how many there are. @type {Map<number, Float64Array>} */
    this.inputs = new Map();
    this.picture = drawPicture(this.name, this.size);
    /** The picture that is painted. @type {Picture | null} */
    this.painted = null;
    this.before = /** @type {HTMLCanvasElement} */ (make("canvas.photo", { role: "img", "aria-label": "the picture" }));
    this.after = /** @type {HTMLCanvasElement} */ (make("canvas.photo", { role: "img", "aria-label": "the result" }));
    this.words = make("p.result", { "aria-live": "polite" });
    this.numbers = make("p.note");
    /** @type {Engine | null} */
    this.engine = null;
    /** @type {Served | null} */
    this.served = null;
    this.timed = "";
    /** The plans of a line, made where they are wanted. @type {{text: string, plans: () => Plan[]} | null} */
    this.planned = null;
    this.compareLoops = () => {};
    this.compared = make("span", { role: "status" });
    this.compare = make("p", { hidden: true }, button("Compare with a plain JavaScript loop", () => this.compareLoops()), this.compared);
    this.channelBox = make("span");
    this.region = new RegionTables();
    for (const canvas of [this.before, this.after]) canvas.addEventListener("pointerdown", (event) => this.point(canvas, event));
    this.cameraTold = make("span.small", { role: "status" });
    this.cameraButton = button("Use the camera", () => (this.camera.on ? this.camera.stop("The camera is off.") : this.useCamera()), { "aria-pressed": "false" });
    this.camera = new Camera((picture) => this.takeFrame(picture), (text) => {
      this.cameraTold.textContent = text;
      this.cameraButton.setAttribute("aria-pressed", String(this.camera.on));
      this.cameraButton.textContent = this.camera.on ? "Stop the camera" : "Use the camera";
    });
    this.ownFile = /** @type {HTMLInputElement} */ (make("input", { type: "file", accept: "image/*", "aria-label": "A picture of your own" }));
    this.ownFile.addEventListener("change", () => this.ownFile.files?.[0] && this.take(this.ownFile.files[0]));
    this.pictures = segmented("Picture", PICTURES.map((name) => [name, name]), this.name, (name) => {
      this.file = null;
      this.name = name;
      this.camera.stop("");
      this.renew();
    });
    this.element = make(
      "div",
      {
        dragover: (/** @type {Event} */ event) => event.preventDefault(),
        drop: (/** @type {DragEvent} */ event) => {
          event.preventDefault();
          const file = event.dataTransfer?.files[0];
          if (!file) return;
          this.ownFile.value = "";
          this.take(file);
        },
      },
      make("p", null, "The layer above, with its weights, on a picture. Edit the kernel and watch. A picture of your own, chosen or dropped here, stays on this machine, and so do frames of the camera, which is off until you ask for it."),
      make(
        "div.choices",
        null,
        this.pictures,
        segmented("Size", ["128", "256", "512"].map((size) => [size, size]), "256", (size) => {
          this.size = Number(size);
          if (this.camera.on) this.camera.start(this.size);
          else this.renew();
        }),
        this.ownFile,
        this.cameraButton,
        this.cameraTold,
        this.channelBox,
      ),
      make("div.photos", null, make("figure", null, this.before, make("figcaption", null, "picture")), make("figure", null, this.after, make("figcaption", null, "result"))),
      this.words,
      this.numbers,
      this.compare,
      this.region.details,
    );
  }

  useCamera() {
    this.file = null;
    this.mark("");
    this.camera.start(this.size);
  }

  /** The picture that is chosen, "" for none of those that ship: each of them can be chosen then. @param {string} name */
  mark(name) {
    for (const input of this.pictures.querySelectorAll("input")) input.checked = input.value === name;
    if (!this.file) this.ownFile.value = "";
  }

  /** @param {Picture} picture */
  setPicture(picture) {
    this.picture = picture;
    this.inputs.clear();
  }

  /** A frame of the camera, as long as it is seen. @param {Picture} picture */
  takeFrame(picture) {
    if (!this.element.checkVisibility()) {
      this.camera.stop("The camera is off, since its picture was not shown.");
      return;
    }
    this.setPicture(picture);
    this.renewResult();
  }

  /** The numbers around a point of a canvas. @param {HTMLCanvasElement} canvas @param {PointerEvent} event */
  point(canvas, event) {
    const box = canvas.getBoundingClientRect();
    this.region.choose(((event.clientY - box.top) / box.height) * canvas.height, ((event.clientX - box.left) / box.width) * canvas.width);
  }

  /** @param {Blob} file */
  take(file) {
    this.camera.stop("");
    this.file = file;
    this.renew();
  }

  async renew() {
    const wanted = this.file;
    this.mark(wanted ? "" : this.name);
    try {
      /** @type {Picture} */
      const picture = wanted ? await readPicture(wanted, this.size) : drawPicture(this.name, this.size);
      if (wanted !== this.file) return; // another was chosen meanwhile
      this.setPicture(picture);
    } catch (error) {
      this.words.textContent = /** @type {Error} */ (error).message;
      return;
    }
    this.renewResult();
  }

  /** Run the layer that was shown last. */
  renewResult() {
    if (this.layer) this.run(this.layer);
  }

  /** @param {Layer} layer @param {Engine | null} engine that runs it @param {boolean} served whether a server compiles modules */
  show(layer, engine, served) {
    this.engine = engine;
    if (engine && served) this.served ??= new Served(engine, () => this.element.checkVisibility() && this.renewResult());
    this.compare.hidden = !engine;
    this.run(layer);
  }

  /** @param {Layer} layer */
  run(layer) {
    this.layer = layer;
    const { picture } = this;
    if (this.painted !== picture) paintPlanes(this.before, picture.width, picture.height, picture.rgb, 0, 1);
    this.painted = picture;
    try {
      this.compute(layer, picture);
    } catch (error) {
      if (!(error instanceof OmniError)) throw error;
      this.words.textContent = `${error.name}: ${error.message}`;
      this.numbers.textContent = "";
    }
  }

  /** @param {Layer} layer @param {Picture} picture */
  compute({ spec, shape: small, weights }, { width, height, ...rest }) {
    if (small.length !== 4) throw specError(`a layer of ${small.length - 2} axes on a picture`, { need: "a layer of two axes" });
    const channels = inChannels(spec);
    const shape = [1, channels, height, width];
    const shapes = shapesOf(spec, shape);
    const result = shapes[shapes.length - 1];
    const macs = costOf(spec, shape).reduce((sum, layer) => sum + layer.macs, 0);
    const values = Math.max(...shapes.map(product));
    if (macs > MOST_PICTURE_MACS || values > 2 ** 24) {
      throw specError(`${macs} MAC and ${values} values on this picture`, { need: `at most ${MOST_PICTURE_MACS} MAC and ${2 ** 24} values`, fix: "a smaller size" });
    }
    const { engine } = this;
    const text = formatSpec(spec, shape);
    if (this.planned?.text !== text) this.planned = { text, plans: once(() => planSpec(spec, shape)) };
    const { plans } = this.planned;
    const x = this.inputs.get(channels) ?? asInput({ width, height, ...rest }, channels);
    this.inputs.set(channels, x);
    const module = engine?.presets.get(text);
    const missing = module || !engine ? "" : this.served?.want(text) ?? "";
    const run = () => {
      if (module) return module.run(x, weights, convsOf(spec));
      const start = performance.now();
      const all = engine ? engine.runPlans(plans(), x, weights) : runPlans(plans(), x, weights);
      return { y: all[all.length - 1], time: performance.now() - start };
    };
    const how = module ? "a WebAssembly module that Omniconv compiled for this layer" : engine ? `Omniconv's WebAssembly with ${engine.name}` : "a plain JavaScript loop in float64";
    if (this.timed !== `${how} ${text}`) run(); // the first run of a layer also makes its memory and machine code
    this.timed = `${how} ${text}`;
    const { y, time } = run();
    this.compareLoops = () => {
      runPlans(plans(), x, weights);
      const plain = timeRuns(() => runPlans(plans(), x, weights), 1);
      const own = module ? timeRuns(() => module.start()) : timeRuns(() => void run());
      const ratio = formatNumber(plain / own);
      this.compared.textContent = ` A plain JavaScript loop takes ${formatNumber(plain)} ms and this ${formatNumber(own)} ms: ${ratio} times as long.`;
    };
    this.compared.textContent = "";
    this.channel = Math.min(this.channel, result[1] - 1);
    const places = result[2] * result[3];
    const plane = y.subarray(this.channel * places, (this.channel + 1) * places);
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < plane.length; i++) {
      low = Math.min(low, plane[i]);
      high = Math.max(high, plane[i]);
    }
    const most = Math.max(Math.abs(low), Math.abs(high));
    const signed = low < 0;
    paintPlanes(this.after, result[3], result[2], [plane], signed ? -most : 0, signed ? most : most || 1);
    this.region.show([
      ...["red", "green", "blue"].slice(0, channels === 1 ? 0 : 3).map((name, c) => ({ name: `the picture, ${name}`, width, height, values: rest.rgb[c] })),
      ...(channels === 1 ? [{ name: "the picture, grey", width, height, values: x }] : []),
      { name: `the result, channel ${this.channel}`, width: result[3], height: result[2], values: plane },
    ]);
    const names = range(Math.min(64, result[1])).map((c) => `channel ${c}`);
    fill(this.channelBox, result[1] > 1 ? selectBox("channel of the result", names, `channel ${this.channel}`, (word) => {
      this.channel = names.indexOf(word);
      this.renewResult();
    }) : null);
    this.after.setAttribute("aria-label", `channel ${this.channel} of the result, ${result[3]} by ${result[2]}, values from ${formatNumber(low)} to ${formatNumber(high)}`);
    this.words.textContent = `${time < 0.1 ? "less than 0.1" : formatNumber(Math.round(time * 10) / 10)} ms for ${formatCount(macs)} MAC, by ${how}${missing ? `; ${missing}` : ""}.`;
    const scale = signed ? `grey is 0, black ${formatNumber(-most)}, white ${formatNumber(most)}` : `black is 0, white ${formatNumber(most)}`;
    this.numbers.textContent = `Channel ${this.channel} of ${result[1]}, ${result[3]} × ${result[2]}; values from ${formatNumber(low)} to ${formatNumber(high)}: ${scale}.`;
  }
}
