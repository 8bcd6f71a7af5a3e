/** Pictures to run a layer on: three that are computed here, or the reader's own, which never leaves the machine. */

/** @typedef {{width: number, height: number, rgb: Float64Array[]}} Picture planes of values from 0 to 1 */

const MOST_FILE = 64 * 2 ** 20;
const MOST_PIXELS = 2 ** 27;

/** @type {Record<string, (x: number, y: number) => number[]>} colours of a place from -1 to 1 */
const SCENES = {
  rings(x, y) {
    const wave = 0.5 + 0.5 * Math.cos(38 * (x * x + y * y));
    return [wave, wave, wave];
  },
  shapes(x, y) {
    if (Math.hypot(x + 0.42, y + 0.38) < 0.34) return [0.88, 0.32, 0.24];
    if (Math.abs(x - 0.42) < 0.32 && Math.abs(y + 0.4) < 0.28) return [0.2, 0.45, 0.75];
    if (y > 0.12 && y < 0.8 && Math.abs(x + 0.45) < (y - 0.12) * 0.55) return [0.95, 0.75, 0.2];
    if (Math.abs(y - 0.45) < 0.36 && Math.abs(x - 0.42) < 0.36) return Math.floor(x * 12 + 20) % 2 ? [0.1, 0.1, 0.12] : [0.95, 0.95, 0.92];
    const sky = 0.75 - 0.2 * y;
    return [sky * 0.9, sky * 0.95, sky];
  },
  hills(x, y) {
    let height = 0;
    for (let octave = 1; octave <= 5; octave++) {
      const f = 2 ** octave;
      height += Math.sin(f * x * 1.7 + octave * 1.3 + 2 * Math.sin(f * y * 0.9)) * Math.cos(f * y * 1.3 + octave) / f;
    }
    const light = 0.5 + 0.45 * height;
    return [light * 0.75, light, light * 0.6];
  },
};

export const PICTURES = Object.keys(SCENES);

/** @param {string} name @param {number} size @returns {Picture} */
export function drawPicture(name, size) {
  const rgb = [0, 1, 2].map(() => new Float64Array(size * size));
  for (let i = 0; i < size * size; i++) {
    const colour = SCENES[name](((i % size) / size) * 2 - 1, (Math.floor(i / size) / size) * 2 - 1);
    rgb.forEach((plane, c) => (plane[i] = Math.max(0, Math.min(1, colour[c]))));
  }
  return { width: size, height: size, rgb };
}

/**
 * A picture from a file, upright, on white, no larger than `size` on either axis.
 * @param {Blob} file
 * @param {number} size
 * @returns {Promise<Picture>}
 */
export async function readPicture(file, size) {
  if (file.size > MOST_FILE) throw new Error(`This file has ${Math.round(file.size / 2 ** 20)} MiB; at most 64 MiB are opened.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("This file is no picture that the browser can read.");
  }
  try {
    if (bitmap.width * bitmap.height > MOST_PIXELS) throw new Error("This picture has more than 134 million pixels.");
    return grabPicture(bitmap, bitmap.width, bitmap.height, size, document.createElement("canvas"));
  } finally {
    bitmap.close();
  }
}

/**
 * What is drawn of a source, on white, no larger than `size` on either axis.
 * @param {CanvasImageSource} source
 * @param {number} fullWidth
 * @param {number} fullHeight
 * @param {number} size
 * @param {HTMLCanvasElement} canvas to draw on
 * @returns {Picture}
 */
export function grabPicture(source, fullWidth, fullHeight, size, canvas) {
  const scale = Math.min(1, size / Math.max(fullWidth, fullHeight));
  const [width, height] = [fullWidth, fullHeight].map((side) => Math.max(1, Math.round(side * scale)));
  [canvas.width, canvas.height] = [width, height];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = [0, 1, 2].map((c) => {
    const plane = new Float64Array(width * height);
    for (let i = 0; i < plane.length; i++) plane[i] = data[4 * i + c] / 255;
    return plane;
  });
  return { width, height, rgb };
}

/** The channels of a layer's input: grey for one, else red, green and blue in turn. @param {Picture} picture @param {number} channels */
export function asInput({ width, height, rgb }, channels) {
  const x = new Float64Array(channels * width * height);
  for (let c = 0; c < channels; c++) {
    const plane = channels === 1 ? rgb[0].map((red, i) => 0.299 * red + 0.587 * rgb[1][i] + 0.114 * rgb[2][i]) : rgb[c % 3];
    x.set(plane, c * width * height);
  }
  return x;
}

/**
 * Paint planes: three as colours, one as grey; `low` is black and `high` white, grey all where they are equal.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {ArrayLike<number>[]} planes
 * @param {number} low
 * @param {number} high
 */
export function paintPlanes(canvas, width, height, planes, low, high) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(width, height);
  const { data } = image;
  const scale = high > low ? 255 / (high - low) : 0;
  if (planes.length === 1) {
    const [plane] = planes;
    const pixels = new Uint32Array(data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      const grey = scale ? Math.max(0, Math.min(255, ((plane[i] - low) * scale + 0.5) | 0)) : 128;
      pixels[i] = 0xff000000 + 0x10101 * grey;
    }
  } else {
    const [red, green, blue] = planes;
    for (let i = 0, at = 0; i < width * height; i++, at += 4) {
      data[at] = (red[i] - low) * scale;
      data[at + 1] = (green[i] - low) * scale;
      data[at + 2] = (blue[i] - low) * scale;
      data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}
