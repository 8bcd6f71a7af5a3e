/** What the reader takes along: the picture, and the layer as text for Omniconv, PyTorch, Keras and ONNX. */
import { formatSpec } from "./format.js";
import { MOST_KEPT, keepsWeights } from "./layer.js";
import { button, fill, make, segmented } from "./dom.js";
import { readTheme, writeSvg } from "./scene.js";
import { omniconvText, torchText } from "./torchtext.js";
import { convsOf } from "./chain.js";
import { weightShape } from "./spec.js";
import { animateLayer } from "./animate.js";
import { kerasText } from "./kerastext.js";
import { onnxText } from "./onnxtext.js";

/** @import {Layer} from "./layer.js" */
/** @import {Stage} from "./stage.js" */

/** @param {Blob} blob @param {string} name */
function saveBlob(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = /** @type {HTMLAnchorElement} */ (make("a", { href: address, download: name }));
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/**
 * All numbers of a layer as CSV: name, shape, then the values, row by row.
 * @param {Layer} layer
 */
export function csvText({ spec, shapes, values, weights }) {
  const last = shapes.length - 1;
  const rows = [["x", shapes[0].join("x"), ...values[0]]];
  convsOf(spec).forEach((conv, i) => {
    rows.push([`w${i}`, weightShape(conv).join("x"), ...weights[i].w]);
  });
  rows.push(["y", shapes[last].join("x"), ...values[last]]);
  return rows.map((row) => `${row.join(",")}\n`).join("");
}

export class Take {
  /** @param {Stage} stage */
  constructor(stage) {
    this.language = "omniconv";
    this.code = make("pre.code", { tabindex: 0, "aria-label": "The layer as code" });
    this.address = make("p");
    this.told = make("span.note", { role: "status" });
    this.copied = make("span.note", { role: "status" });
    /** Whether an animation is being drawn. */
    this.busy = false;
    /** @type {Layer | null} */
    this.layer = null;
    const words = segmented("Code", [["omniconv", "Omniconv"], ["pytorch", "PyTorch"], ["keras", "Keras"], ["onnx", "ONNX"]], this.language, (word) => {
      this.language = word;
      if (this.layer) this.show(this.layer);
    });
    this.element = make(
      "div",
      null,
      make(
        "div.bar",
        null,
        button("Save the picture as PNG", () => stage.canvas.toBlob((blob) => blob && saveBlob(blob, `${this.fileName()}.png`))),
        button("Save it as SVG", () => {
          const text = writeSvg(stage.scene, readTheme());
          saveBlob(new Blob([text], { type: "image/svg+xml" }), `${this.fileName()}.svg`);
        }),
        button("Save the sliding kernel as GIF", () => this.animate(stage)),
        button("Save the numbers as CSV", () => {
          if (this.layer) saveBlob(new Blob([csvText(this.layer)], { type: "text/csv" }), `${this.fileName()}.csv`);
        }),
        this.told,
      ),
      this.address,
      words,
      this.code,
      button("Copy the code", () => this.copy()),
      this.copied,
    );
  }

  /** @param {Stage} stage */
  async animate(stage) {
    if (!this.layer || this.busy) return;
    this.busy = true;
    try {
      const { bytes, shown, count } = await animateLayer(this.layer, stage.space(), (share) => {
        this.told.textContent = ` Drawing: ${Math.round(100 * share)} %.`;
      });
      saveBlob(new Blob([bytes], { type: "image/gif" }), `${this.fileName()}.gif`);
      this.told.textContent = shown < count ? ` The animation shows the first ${shown} of ${count} outputs.` : ` The animation shows all ${count} outputs.`;
    } finally {
      this.busy = false;
    }
  }

  fileName() {
    return `omniconv-${(this.layer?.setting.kind ?? "layer").replace(/\W+/g, "-")}`;
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.code.textContent ?? "");
      fill(this.copied, " Copied.");
    } catch {
      getSelection()?.selectAllChildren(this.code);
      fill(this.copied, " The code is selected: copy it with the keyboard.");
    }
  }

  /** @param {Layer} layer */
  show(layer) {
    this.layer = layer;
    const { spec, shape } = layer;
    this.address.textContent = keepsWeights(layer)
      ? "The address of this page holds the whole setting, edited weights too: a bookmark or a link brings it back."
      : `The address of this page holds the setting, and a bookmark or a link brings it back, but not weights that were edited: it keeps up to ${MOST_KEPT}.`;
    const texts = {
      omniconv: () => omniconvText(formatSpec(spec, shape)),
      pytorch: () => torchText(spec, shape),
      keras: () => kerasText(spec, shape),
      onnx: () => onnxText(spec, shape),
    };
    this.code.textContent = texts[/** @type {"omniconv" | "pytorch" | "keras" | "onnx"} */ (this.language)]();
    fill(this.told);
    fill(this.copied);
  }
}
