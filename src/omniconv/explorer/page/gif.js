/**
 * Animated GIF: frames of pixels become one file, by the LZW of the format (GIF89a). A palette of up to 256 colours serves all
 * frames; pictures with more colours than that keep the most frequent, and others take the nearest of them. Of each frame after the first
 * only the box that changed is written.
 */

const MOST_COLOURS = 256;

/** Bytes that are added one after the other. */
class Bytes {
  constructor() {
    this.held = new Uint8Array(1 << 16);
    this.length = 0;
  }

  /** @param {...number} values */
  add(...values) {
    if (this.length + values.length > this.held.length) {
      const wider = new Uint8Array(2 * (this.length + values.length));
      wider.set(this.held.subarray(0, this.length));
      this.held = wider;
    }
    this.held.set(values, this.length);
    this.length += values.length;
  }

  /** Two bytes, the low one first. @param {number} value */
  addShort(value) {
    this.add(value & 255, value >> 8);
  }
}

/**
 * The colours of all frames, the most frequent first, and for each colour its number in the palette.
 * @param {Uint32Array[]} frames pixels as 0xAABBGGRR, of which A is not read
 */
function findPalette(frames) {
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const frame of frames) {
    for (const pixel of frame) {
      const colour = pixel & 0xffffff;
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
  }
  const order = [...counts.keys()].sort((a, b) => /** @type {number} */ (counts.get(b)) - /** @type {number} */ (counts.get(a)));
  const palette = order.slice(0, MOST_COLOURS);
  const numbers = new Map(palette.map((colour, i) => [colour, i]));
  for (const colour of order.slice(MOST_COLOURS)) numbers.set(colour, nearestColour(palette, colour));
  return { palette, numbers };
}

/** @param {number[]} palette @param {number} colour */
function nearestColour(palette, colour) {
  let [best, least] = [0, Infinity];
  palette.forEach((other, i) => {
    let distance = 0;
    for (const shift of [0, 8, 16]) distance += (((colour >> shift) & 255) - ((other >> shift) & 255)) ** 2;
    if (distance < least) [best, least] = [i, distance];
  });
  return best;
}

/** @param {Uint32Array} a @param {Uint32Array | null} b @param {number} width @param {number} height the box where they differ */
function changedBox(a, b, width, height) {
  if (!b) return { left: 0, top: 0, right: width, bottom: height };
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i]) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x + 1), Math.max(bottom, y + 1)];
  }
  return right ? { left, top, right, bottom } : { left: 0, top: 0, right: 1, bottom: 1 };
}

/**
 * A file of all frames, without end.
 * @param {Uint32Array[]} frames pixels as 0xAABBGGRR, row by row
 * @param {number} width
 * @param {number} height
 * @param {number} delay of each frame [ms]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodeGif(frames, width, height, delay) {
  const out = new Bytes();
  const { palette, numbers } = findPalette(frames);
  const bits = Math.max(2, Math.ceil(Math.log2(Math.max(2, palette.length))));
  out.add(...[..."GIF89a"].map((c) => c.charCodeAt(0)));
  out.addShort(width);
  out.addShort(height);
  out.add(0xf0 | (bits - 1), 0, 0);
  for (let i = 0; i < 1 << bits; i++) {
    const colour = palette[i] ?? 0;
    out.add(colour & 255, (colour >> 8) & 255, (colour >> 16) & 255);
  }
  out.add(0x21, 0xff, 11, ...[..."NETSCAPE2.0"].map((c) => c.charCodeAt(0)), 3, 1, 0, 0, 0); // play again for ever
  frames.forEach((frame, n) => {
    const { left, top, right, bottom } = changedBox(frame, n ? frames[n - 1] : null, width, height);
    out.add(0x21, 0xf9, 4, 1 << 2); // the frame stays where the next one does not cover it
    out.addShort(Math.round(delay / 10));
    out.add(0, 0, 0x2c);
    [left, top, right - left, bottom - top].forEach((value) => out.addShort(value));
    out.add(0);
    const pixels = new Uint8Array((right - left) * (bottom - top));
    let at = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) pixels[at++] = numbers.get(frame[y * width + x] & 0xffffff) ?? 0;
    }
    addLzw(out, pixels, bits);
  });
  out.add(0x3b);
  return out.held.slice(0, out.length);
}

/** Pixels as codes of growing width, in blocks of up to 255 bytes. @param {Bytes} out @param {Uint8Array} pixels @param {number} bits */
function addLzw(out, pixels, bits) {
  const clear = 1 << bits;
  /** @type {number[]} */
  let block = [];
  let [held, used] = [0, 0];
  let width = bits + 1;
  /** @param {number} code */
  const put = (code) => {
    held |= code << used;
    used += width;
    while (used >= 8) {
      block.push(held & 255);
      held >>>= 8;
      used -= 8;
      if (block.length === 255) flush();
    }
  };
  const flush = () => {
    if (block.length) out.add(block.length, ...block);
    block = [];
  };
  out.add(bits);
  put(clear);
  /** Codes of a known run and one more pixel. @type {Map<number, number>} */
  let table = new Map();
  let next = clear + 2;
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = prefix * 256 + pixels[i];
    const found = table.get(key);
    if (found !== undefined) {
      prefix = found;
      continue;
    }
    put(prefix);
    if (next === 4096) {
      put(clear);
      table = new Map();
      next = clear + 2;
      width = bits + 1;
    } else {
      if (next === 1 << width) width += 1;
      table.set(key, next++);
    }
    prefix = pixels[i];
  }
  put(prefix);
  put(clear + 1);
  if (used) block.push(held & 255);
  flush();
  out.add(0);
}
