/** The kernel that slides, as an animated GIF: the picture of the page once for each value of the result. */
import { product } from "./integers.js";
import { encodeGif } from "./gif.js";
import { drawView } from "./picture.js";
import { paintScene, readTheme } from "./scene.js";
import { View } from "./view.js";

/** @import {Layer} from "./layer.js" */

/** Frames that one file has, at most; of a larger result the first. */
export const MOST_FRAMES = 150;
/** Pixels of all frames together, at most. */
const MOST_FRAME_PIXELS = 2 ** 25;
/** Of one frame [ms]. */
const FRAME_DELAY = 400;

/**
 * The file, and how many of the values of the result it shows. Between frames the page goes on.
 * @param {Layer} layer
 * @param {number} space width of the picture
 * @param {(share: number) => void} told
 * @returns {Promise<{bytes: Uint8Array<ArrayBuffer>, shown: number, count: number}>}
 */
export async function animateLayer(layer, space, told) {
  const theme = readTheme();
  const tensor = layer.plans.length;
  const canvas = document.createElement("canvas");
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  let view = new View(layer, { tensor, channel: 0, place: [0, 0, 0] });
  const { scene } = drawView(view, space, theme);
  const [width, height] = [Math.ceil(scene.width), Math.ceil(scene.height)];
  const count = product(layer.shapes[tensor].slice(1));
  const shown = Math.max(1, Math.min(count, MOST_FRAMES, Math.floor(MOST_FRAME_PIXELS / (width * height))));
  /** @type {Uint32Array[]} */
  const frames = [];
  for (let n = 0; n < shown; n++) {
    const { scene: next } = drawView(view, space, theme);
    paintScene(canvas, { ...next, width, height }, theme, 1);
    frames.push(new Uint32Array(context.getImageData(0, 0, width, height).data.buffer));
    view = new View(layer, view.next(1));
    told((n + 1) / shown);
    await new Promise((resolve) => setTimeout(resolve));
  }
  return { bytes: encodeGif(frames, width, height, FRAME_DELAY), shown, count };
}
