/** Pictures as lists of shapes, painted on a canvas or written as SVG: what is saved is what is seen. */
import { range } from "./integers.js";

/**
 * @typedef {object} Shape
 * @property {"rect" | "text" | "path" | "boxes" | "cells"} kind
 * @property {number} [x]
 * @property {number} [y]
 * @property {number} [w]
 * @property {number} [h]
 * @property {string} [fill]
 * @property {string} [stroke]
 * @property {number} [line] width of the stroke
 * @property {number[]} [dash]
 * @property {number} [alpha]
 * @property {string} [text]
 * @property {number} [size] of the font
 * @property {boolean} [bold]
 * @property {"start" | "middle" | "end"} [anchor]
 * @property {[number, number][]} [points]
 * @property {boolean} [closed]
 * @property {number[]} [corners] of boxes that are w by h: x, y, x, y, ...
 * @property {Uint32Array} [colours] of square cells that are w by w, row by row, `across` in a row, as 0xAABBGGRR
 * @property {Uint32Array} [inks] of a dash in each cell, 0 where there is none
 * @property {number} [across]
 */

/** @typedef {{width: number, height: number, shapes: Shape[], title: string}} Scene */

/**
 * @typedef {object} Theme
 * @property {string} ink
 * @property {string} soft
 * @property {string} paper
 * @property {string} accent
 * @property {boolean} dark
 * @property {boolean} forced
 */

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/** The colours of the page as it is shown now. @returns {Theme} */
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    ink: value("--ink"),
    soft: value("--soft"),
    paper: value("--paper"),
    accent: value("--accent"),
    dark: value("--dark") === "1",
    forced: matchMedia("(forced-colors: active)").matches,
  };
}

/** @typedef {[number, number, number]} Rgb */

/** @param {Rgb} a @param {Rgb} b @param {number} t @returns {Rgb} */
export function mixRgb(a, b, t) {
  return /** @type {Rgb} */ (a.map((value, i) => Math.round(value + (b[i] - value) * t)));
}

/**
 * Blue for values above 0 and orange below (told apart with every common colour blindness), and the ink to write on it.
 * @param {number} t from -1 to 1
 * @param {Theme} theme
 * @returns {{fill: string, ink: string}}
 */
export function valueColour(t, theme) {
  if (theme.forced) return { fill: "Canvas", ink: "CanvasText" };
  const colour = valueRgb(t, theme);
  // Black or white, whichever stands out more: at least 4.58 to 1 on any colour.
  return { fill: `rgb(${colour.join(",")})`, ink: lightOf(colour) > 0.179 ? "#000000" : "#ffffff" };
}

/** Relative luminance of a colour, 0 to 1. @param {Rgb} colour */
function lightOf(colour) {
  const [r, g, b] = colour.map((value) => (value > 10 ? ((value / 255 + 0.055) / 1.055) ** 2.4 : value / 3294.6));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The same as numbers, where colours are not forced. @param {number} t @param {Theme} theme */
export function valueRgb(t, theme) {
  /** @type {Rgb} */
  const zero = theme.dark ? [44, 48, 56] : [246, 246, 243];
  /** @type {Rgb} */
  const above = theme.dark ? [96, 165, 235] : [42, 105, 172];
  /** @type {Rgb} */
  const below = theme.dark ? [240, 150, 70] : [196, 88, 16];
  return mixRgb(zero, t < 0 ? below : above, Math.min(1, Math.abs(t)) ** 0.8);
}

/** As a pixel, 0xAABBGGRR. @param {Rgb} colour */
export function packRgb([r, g, b]) {
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

/** A colour of the style sheet, `#rrggbb`, as numbers. @param {string} text @returns {Rgb} */
export function readRgb(text) {
  const found = Number.parseInt(text.slice(1), 16);
  return [(found >> 16) & 255, (found >> 8) & 255, found & 255];
}

/** Cells and other shapes that are painted at once; of more, some at a time. */
const MOST_AT_ONCE = 4000;
/** How long one slice of painting goes on [ms]. */
const SLICE = 8;

/** Pixels of the screen to lengths. */
function screenRatio() {
  return Math.min(3, window.devicePixelRatio || 1);
}

/** An empty canvas of the size of a scene. @param {HTMLCanvasElement} canvas @param {Scene} scene @param {number} ratio */
function sizeCanvas(canvas, scene, ratio) {
  canvas.width = Math.max(1, Math.round(scene.width * ratio));
  canvas.height = Math.max(1, Math.round(scene.height * ratio));
  canvas.style.width = `${scene.width}px`;
  canvas.style.height = `${scene.height}px`;
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** @param {CanvasRenderingContext2D} context @param {Scene} scene @param {Theme} theme @param {number} ratio */
function paintPaper(context, scene, theme, ratio) {
  context.scale(ratio, ratio);
  context.fillStyle = theme.paper;
  context.fillRect(0, 0, scene.width, scene.height);
}

/**
 * Paint on a canvas, sharp on every screen.
 * @param {HTMLCanvasElement} canvas
 * @param {Scene} scene
 * @param {Theme} theme
 * @param {number} [ratio] of pixels to lengths
 */
export function paintScene(canvas, scene, theme, ratio = screenRatio()) {
  const context = sizeCanvas(canvas, scene, ratio);
  paintPaper(context, scene, theme, ratio);
  for (const shape of scene.shapes) paintShape(context, shape);
}

/**
 * Paint a large scene some shapes at a time, so that the page goes on between them, and show it when all are there.
 * @param {HTMLCanvasElement} canvas
 * @param {Scene} scene
 * @param {Theme} theme
 * @param {() => void} done
 */
export function paintSlices(canvas, scene, theme, done) {
  const count = scene.shapes.reduce((sum, shape) => sum + (shape.colours?.length ?? 1), 0);
  if (count <= MOST_AT_ONCE) {
    paintScene(canvas, scene, theme);
    done();
    return;
  }
  const ratio = screenRatio();
  const hidden = document.createElement("canvas");
  const context = sizeCanvas(hidden, scene, ratio);
  paintPaper(context, scene, theme, ratio);
  let next = 0;
  const paint = () => {
    const begin = performance.now();
    while (next < scene.shapes.length && performance.now() - begin < SLICE) paintShape(context, scene.shapes[next++]);
    if (next < scene.shapes.length) {
      setTimeout(paint);
      return;
    }
    sizeCanvas(canvas, scene, ratio).drawImage(hidden, 0, 0);
    done();
  };
  setTimeout(paint);
}

/** Cells as one raster, on whole pixels: thousands cost no more than one. @param {CanvasRenderingContext2D} context @param {Shape} shape */
function paintCells(context, { x = 0, y = 0, w = 1, colours = new Uint32Array(), inks = colours, across = 1, fill = "#ffffff" }) {
  const ratio = context.getTransform().a;
  const rows = colours.length / across;
  /** @param {number} at @param {number} count where cells begin and end, and their dashes */
  const edges = (at, count) => Int32Array.from({ length: count * 4 }, (_, i) => Math.round((at + Math.floor(i / 4) * w + [0, 0.25 * w, 0.75 * w, w - 1][i % 4]) * ratio));
  const [columns, lines] = [edges(x, across), edges(y, rows)];
  const [left, top] = [columns[0], lines[0]];
  const wide = columns[columns.length - 1] - left;
  const image = context.createImageData(wide, lines[lines.length - 1] - top);
  const pixels = new Uint32Array(image.data.buffer).fill(packRgb(readRgb(fill)));
  for (let row = 0; row < rows; row++) {
    const middle = Math.round((y + (row + 0.5) * w) * ratio) - 1;
    for (let line = lines[4 * row]; line < lines[4 * row + 3]; line++) {
      const dashed = line >= middle && line < middle + ratio;
      for (let column = 0; column < across; column++) {
        const colour = colours[row * across + column];
        const ink = dashed && inks[row * across + column];
        const at = (line - top) * wide - left;
        const [start, end] = [columns[4 * column], columns[4 * column + 3]];
        for (let k = start; k < end; k++) pixels[at + k] = colour;
        if (ink) pixels.fill(ink, at + columns[4 * column + 1], at + columns[4 * column + 2]);
      }
    }
  }
  context.putImageData(image, left, top);
}

/** @param {CanvasRenderingContext2D} context @param {Shape} shape */
function paintShape(context, shape) {
  const { x = 0, y = 0, w = 0, h = 0, line = 1 } = shape;
  context.globalAlpha = shape.alpha ?? 1;
  if (shape.fill) context.fillStyle = shape.fill;
  if (shape.stroke) {
    context.setLineDash(shape.dash ?? []);
    context.lineWidth = line;
    context.strokeStyle = shape.stroke;
  }
  if (shape.kind === "rect") {
    if (shape.fill) context.fillRect(x, y, w, h);
    if (shape.stroke) context.strokeRect(x, y, w, h);
  } else if (shape.kind === "text") {
    context.font = `${shape.bold ? 600 : 400} ${shape.size ?? 12}px ${FONT}`;
    context.textAlign = shape.anchor === "middle" ? "center" : shape.anchor ?? "start";
    context.textBaseline = "middle";
    context.fillText(shape.text ?? "", x, y);
  } else if (shape.kind === "cells") {
    paintCells(context, shape);
  } else {
    const { corners = [], points = [] } = shape;
    context.beginPath();
    for (let i = 0; i < corners.length; i += 2) context.rect(corners[i], corners[i + 1], w, h);
    points.forEach(([a, b], i) => (i ? context.lineTo(a, b) : context.moveTo(a, b)));
    if (shape.closed) context.closePath();
    if (shape.fill) context.fill();
    if (shape.stroke) context.stroke();
  }
}

/** @param {string} text */
function escapeXml(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** @param {Shape} shape @param {(value: number) => string} round */
function writeCells({ x = 0, y = 0, w = 1, colours = new Uint32Array(), inks = colours, across = 1 }, round) {
  /** @param {number} pixel */
  const name = (pixel) => `rgb(${pixel & 255},${(pixel >> 8) & 255},${(pixel >> 16) & 255})`;
  return Array.from(colours, (colour, i) => {
    const [left, top] = [x + (i % across) * w, y + Math.floor(i / across) * w];
    const box = colour ? `<rect x="${round(left)}" y="${round(top)}" width="${w - 1}" height="${w - 1}" fill="${name(colour)}"/>` : "";
    const dash = inks[i] ? `<path d="M${round(left + w * 0.25)},${round(top + w / 2)}h${round(w / 2)}" stroke="${name(inks[i])}"/>` : "";
    return box + dash;
  }).join("");
}

/** The same picture as SVG. @param {Scene} scene @param {Theme} theme */
export function writeSvg(scene, theme) {
  /** @param {number} value */
  const round = (value) => String(Math.round(value * 100) / 100);
  const body = scene.shapes.map((shape) => {
    const { x = 0, y = 0, w = 0, h = 0 } = shape;
    const paint = [
      `fill="${shape.fill ?? "none"}"`,
      shape.stroke ? `stroke="${shape.stroke}" stroke-width="${round(shape.line ?? 1)}"` : "",
      shape.dash?.length ? `stroke-dasharray="${shape.dash.join(" ")}"` : "",
      shape.alpha === undefined ? "" : `opacity="${round(shape.alpha)}"`,
    ].filter(Boolean).join(" ");
    if (shape.kind === "rect") {
      return `<rect x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" ${paint}/>`;
    }
    if (shape.kind === "text") {
      const font = `font-size="${shape.size ?? 12}" font-weight="${shape.bold ? 600 : 400}"`;
      const place = `x="${round(x)}" y="${round(y)}" text-anchor="${shape.anchor ?? "start"}" dominant-baseline="central"`;
      return `<text ${place} ${font} ${paint}>${escapeXml(shape.text ?? "")}</text>`;
    }
    if (shape.kind === "cells") return writeCells(shape, round);
    if (shape.kind === "boxes") {
      const { corners = [] } = shape;
      const boxes = range(corners.length / 2).map((i) => `M${round(corners[2 * i])},${round(corners[2 * i + 1])}h${round(w)}v${round(h)}h${round(-w)}z`);
      return `<path d="${boxes.join("")}" ${paint}/>`;
    }
    const points = (shape.points ?? []).map(([a, b]) => `${round(a)},${round(b)}`).join(" ");
    return `<${shape.closed ? "polygon" : "polyline"} points="${points}" ${paint}/>`;
  });
  const size = `width="${round(scene.width)}" height="${round(scene.height)}"`;
  const box = `viewBox="0 0 ${round(scene.width)} ${round(scene.height)}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${box} font-family="${FONT}">`,
    `<title>${escapeXml(scene.title)}</title>`,
    `<rect width="100%" height="100%" fill="${theme.paper}"/>`,
    ...body,
    "</svg>",
  ].join("\n");
}
