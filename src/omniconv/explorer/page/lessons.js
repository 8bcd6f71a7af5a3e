/** Lessons: a question, a prediction, and the answer computed in front of the reader. */
import { product } from "./integers.js";
import { buildKind } from "./kinds.js";
import { parseSpec } from "./text.js";
import { formatSpec } from "./format.js";
import { outputShape } from "./chain.js";
import { conv, weightShape } from "./spec.js";
import { evaluate, drawWeights } from "./evaluate.js";
import { connectivityPaths } from "./connectivity.js";
import { costOf } from "./cost.js";
import { coverageAxes, receptiveAxes } from "./field.js";
import { overlapPhases } from "./overlap.js";
import { splitKernel } from "./separable.js";
import { timeRuns } from "./clock.js";
import { formatCount, formatNumber } from "./dom.js";

/** @import {Spec} from "./chain.js" */
/** @import {Conv} from "./spec.js" */

/**
 * @typedef {object} Answer
 * @property {number} right which option
 * @property {string} words what was computed
 */

/**
 * @typedef {object} Lesson
 * @property {string} title
 * @property {string} kind whose formula and sources belong to it
 * @property {string} module of Python that computes the same
 * @property {string} [before] what has to be known first
 * @property {string} question
 * @property {string[]} options
 * @property {() => Answer} compute
 * @property {string} open a layer that shows it
 * @property {number[]} [x] numbers of its input
 * @property {number[]} [w] its weights
 * @property {string} [cure] a layer that does better
 */

/** @param {string} line */
function read(line) {
  const { spec, shape } = parseSpec(line);
  return { spec, shape: /** @type {number[]} */ (shape) };
}

/** @param {Spec} spec @param {number[]} shape @param {"macs" | "weights"} what */
function sumOf(spec, shape, what) {
  return costOf(spec, shape).reduce((sum, layer) => sum + layer[what], 0);
}

/** @param {string} line @param {number[]} x @param {number[]} w */
function resultOf(line, x, w) {
  const { spec, shape } = read(line);
  return [...evaluate(spec, shape, Float64Array.from(x), [{ w: Float64Array.from(w), b: null }])];
}

/** The option that is nearest to a number. @param {number[]} options @param {number} value */
function nearest(options, value) {
  const distances = options.map((option) => Math.abs(option - value));
  return distances.indexOf(Math.min(...distances));
}

const IMPULSE = [0, 0, 1, 0, 0];
const COUNTED = [1, 2, 3];
const SLIDE = "convolution ic1 oc1 iw5 kw3 pl1 pr1";
const UP3 = "transposed ic1 oc1 ih4 iw4 kh3 kw3 sh2 sw2";
const UP4 = "transposed ic1 oc1 ih4 iw4 kh4 kw4 sh2 sw2 pt1 pb1 pl1 pr1";
const HOLES = "transposed ic1 oc1 iw4 kw3 sw2 dw2";
const NO_HOLES = "transposed ic1 oc1 iw4 kw4 sw2 pl1 pr1";
const STACK124 = "chain iw24 > convolution ic1 oc1 kw3 pl1 pr1 > dilated ic1 oc1 kw3 dw2 pl2 pr2 > dilated ic1 oc1 kw3 dw4 pl4 pr4";
const STACK222 = `chain iw24${" > dilated ic1 oc1 kw3 dw2 pl2 pr2".repeat(3)}`;
const GROUPED2 = "chain ih4 iw4 > grouped ic8 oc8 kh3 kw3 pt1 pb1 pl1 pr1 g2 > pointwise_grouped ic8 oc8 kh1 kw1 g2";
const SHUFFLED2 = "chain ih4 iw4 > grouped ic8 oc8 kh3 kw3 pt1 pb1 pl1 pr1 g2 > shuffle g2 > pointwise_grouped ic8 oc8 kh1 kw1 g2";

/** @type {Lesson[]} */
export const LESSONS = [
  {
    title: "Correlation or convolution",
    kind: "convolution",
    module: "omniconv.reference.evaluate",
    question: "The kernel 1 2 3 slides over 0 0 1 0 0 with padding 1. What does a true convolution give?",
    options: ["0 3 2 1 0", "0 1 2 3 0"],
    compute() {
      const turned = resultOf(`${SLIDE} flip`, IMPULSE, COUNTED).join(" ");
      const straight = resultOf(SLIDE, IMPULSE, COUNTED).join(" ");
      return {
        right: this.options.indexOf(turned),
        words: `Convolution mirrors the kernel and gives ${turned}: the kernel itself, stamped at the 1. Cross-correlation, which deep learning calls convolution, gives ${straight}.`,
      };
    },
    open: `${SLIDE} flip`,
    x: IMPULSE,
    w: COUNTED,
  },
  {
    title: "Kernel, filter, channel",
    kind: "cross_correlation",
    module: "omniconv.spec.conv",
    question: "A 3×3 layer takes 3 channels and makes 8. How many weights does it hold?",
    options: ["9", "72", "216"],
    compute() {
      const shape = weightShape(conv(3, 8, 3));
      return {
        right: this.options.indexOf(String(product(shape))),
        words: `Its weights have the shape ${shape.join(" × ")} = ${product(shape)}: 8 filters, each with one 3×3 kernel for each of 3 channels.`,
      };
    },
    open: "convolution ic3 oc8 ih5 iw5 kh3 kw3 pt1 pb1 pl1 pr1",
  },
  {
    title: "Output size",
    kind: "cross_correlation",
    module: "omniconv.spec.geometry",
    question: "7 positions, a kernel of 3, stride 2 and no padding. How many outputs?",
    options: ["2", "3", "4"],
    compute() {
      const { spec, shape } = read(this.open);
      const size = outputShape(spec, shape)[2];
      return { right: this.options.indexOf(String(size)), words: `floor((7 − 3) / 2) + 1 = ${size}: the kernel starts at positions 0, 2 and 4.` };
    },
    open: "convolution ic1 oc1 iw7 kw3 sw2",
  },
  {
    title: "Transposed layers and the checkerboard",
    kind: "transposed",
    module: "omniconv.analysis.overlap",
    question: "A transposed 3×3 layer with stride 2: how many taps meet in its outputs, away from the border?",
    options: ["9 everywhere", "4 everywhere", "1, 2 or 4, by position"],
    compute() {
      /** @param {string} line */
      const levels = (line) => {
        const { spec, shape } = read(line);
        return spec.type === "conv" ? overlapPhases(spec, shape).levels : [];
      };
      const [three, four] = [levels(UP3), levels(UP4)];
      return {
        right: three.length > 1 ? 2 : three[0] === 9 ? 0 : 1,
        words: `They meet ${three.join(" : ")}, a checkerboard, because 2 does not divide 3. With a 4×4 kernel they meet ${four.join(" : ")} everywhere: even.`,
      };
    },
    open: UP3,
    cure: UP4,
  },
  {
    title: "Dilation and the receptive field",
    kind: "dilated",
    module: "omniconv.analysis.receptive_field",
    question: "Three layers of 3 taps with dilation 1, 2 and 4. How many inputs does one output see?",
    options: ["7", "9", "15"],
    compute() {
      const { spec, shape } = read(STACK124);
      const [{ size }] = receptiveAxes(spec, shape);
      return { right: this.options.indexOf(String(size)), words: `1 + 2·1 + 2·2 + 2·4 = ${size} positions with 9 weights: the field doubles with every layer.` };
    },
    open: STACK124,
  },
  {
    title: "What dilation leaves out",
    kind: "dilated",
    module: "omniconv.analysis.coverage",
    question: "Three layers of 3 taps, each with dilation 2. Their field spans 13 positions. How much of it is read?",
    options: ["all of it", "about half", "about a quarter"],
    compute() {
      const { spec, shape } = read(STACK222);
      const [axis] = coverageAxes(spec, shape) ?? [{ fraction: NaN, holes: [] }];
      return {
        right: nearest([1, 0.5, 0.25], axis.fraction),
        words: `${formatNumber(Math.round(axis.fraction * 1000) / 10)} %: positions ${axis.holes.join(", ")} of the field are never read. Equal dilations see a lattice only.`,
      };
    },
    open: STACK222,
  },
  {
    title: "Dilated and transposed at once: holes",
    kind: "transposed",
    module: "omniconv.analysis.overlap",
    before: "A transposed layer writes where others read: each input lays its kernel over the output, and the kernels of neighbours begin a stride apart. Dilation moves the taps inside every kernel apart.",
    question: "4 inputs, a transposed kernel of 3 taps, stride 2, dilation 2: 11 outputs. How many of them does no tap reach?",
    options: ["none", "5", "8"],
    compute() {
      const met = resultOf(HOLES, [1, 1, 1, 1], [1, 1, 1]);
      const holes = met.flatMap((n, o) => (n ? [] : [o]));
      const { spec, shape } = read(NO_HOLES);
      const { levels } = overlapPhases(/** @type {Conv} */ (spec), shape);
      return {
        right: this.options.indexOf(holes.length ? String(holes.length) : "none"),
        words: `Input i writes to outputs 2i, 2i + 2 and 2i + 4, which are all even. Outputs ${holes.join(", ")} are holes: whatever the weights, they hold the bias alone; on two axes three quarters of all outputs do. Stride and dilation must have no common factor. The cure: dilation 1 and a kernel that the stride divides. With 4 taps every output away from the border is met ${levels.join(" or ")} times.`,
      };
    },
    open: HOLES,
    x: [1, 2, 3, 4],
    w: [1, 10, 100],
    cure: NO_HOLES,
  },
  {
    title: "Spatially separable, and when not",
    kind: "spatially_separable",
    module: "omniconv.analysis.separability",
    question: "Sobel (1 0 −1, 2 0 −2, 1 0 −1) and Laplace (0 1 0, 1 −4 1, 0 1 0): which is a column times a row?",
    options: ["both", "only Sobel", "only Laplace"],
    compute() {
      const sobel = splitKernel([1, 0, -1, 2, 0, -2, 1, 0, -1], 3, 3);
      const laplace = splitKernel([0, 1, 0, 1, -4, 1, 0, 1, 0], 3, 3);
      return {
        right: sobel.rank === 1 ? (laplace.rank === 1 ? 0 : 1) : 2,
        words: `Sobel has rank ${sobel.rank}, so 3 + 3 taps do the work of 9. Laplace has rank ${laplace.rank}; its best column times row holds ${formatNumber(Math.round(laplace.energy * 1000) / 10)} % of its energy.`,
      };
    },
    open: "chain ih7 iw7 > convolution ic1 oc1 kh3 kw1 pt1 pb1 > convolution ic1 oc1 kh1 kw3 pl1 pr1",
  },
  {
    title: "Depthwise separable",
    kind: "depthwise_separable",
    module: "omniconv.analysis.cost",
    question: "A dense 3×3 layer from 64 to 128 channels becomes depthwise separable. What share of the work is left?",
    options: ["about 12 %", "about 33 %", "about 50 %"],
    compute() {
      const given = { in_channels: 64, out_channels: 128, kernel_size: 3, padding: "same" };
      const shape = [1, 64, 56, 56];
      const [dense, own] = ["cross_correlation", "depthwise_separable"].map((kind) => sumOf(buildKind(kind, given), shape, "macs"));
      return {
        right: nearest([0.12, 0.33, 0.5], own / dense),
        words: `${formatCount(own)} of ${formatCount(dense)} MAC at 56×56: ${formatNumber(Math.round((own / dense) * 1000) / 10)} %, which is 1/128 + 1/9.`,
      };
    },
    open: "chain ih5 iw5 > depthwise ic4 oc4 kh3 kw3 pt1 pb1 pl1 pr1 g4 > pointwise ic4 oc6 kh1 kw1",
  },
  {
    title: "Flattened",
    kind: "flattened",
    module: "omniconv.analysis.cost",
    question: "The same layer from 64 to 64 channels, flattened to a lateral, a vertical and a horizontal step. Its weights?",
    options: ["4 480", "12 288", "36 864"],
    compute() {
      const given = { in_channels: 64, out_channels: 64, kernel_size: 3, padding: "same" };
      const shape = [1, 64, 8, 8];
      const [dense, own] = ["cross_correlation", "flattened"].map((kind) => sumOf(buildKind(kind, given), shape, "weights"));
      return { right: nearest([4480, 12288, 36864], own), words: `64·64 + 3·64 + 3·64 = ${formatCount(own)}, against ${formatCount(dense)} of the dense layer.` };
    },
    open: "chain ih5 iw5 > pointwise ic3 oc3 kh1 kw1 > depthwise ic3 oc3 kh3 kw1 pt1 pb1 g3 > depthwise ic3 oc3 kh1 kw3 pl1 pr1 g3",
  },
  {
    title: "Grouped, and shuffled",
    kind: "shuffled_grouped",
    module: "omniconv.analysis.connectivity",
    question: "Two grouped layers in 2 groups on 8 channels, without a shuffle. How many inputs does an output channel see?",
    options: ["2", "4", "all 8"],
    compute() {
      /** @param {string} line */
      const seen = (line) => {
        const { spec, shape } = read(line);
        return connectivityPaths(spec, shape)[0].filter((n) => n > 0).length;
      };
      return {
        right: this.options.indexOf(String(seen(GROUPED2))),
        words: `${seen(GROUPED2)}: groups never mix by themselves. With a channel shuffle between, each output sees ${seen(SHUFFLED2)} of 8, at no cost.`,
      };
    },
    open: SHUFFLED2,
  },
  {
    title: "Pointwise grouped",
    kind: "pointwise_grouped",
    module: "omniconv.analysis.connectivity",
    question: "A pointwise layer from 64 to 64 channels in 8 groups. How many weights?",
    options: ["64", "512", "4 096"],
    compute() {
      const own = product(weightShape(conv(64, 64, 1, { groups: 8 })));
      return { right: nearest([64, 512, 4096], own), words: `8 blocks of 8 × 8 = ${own}, an eighth of the dense 4 096.` };
    },
    open: "pointwise_grouped ic8 oc8 ih4 iw4 kh1 kw1 g4",
  },
  {
    title: "What it costs, and what it really takes",
    kind: "depthwise_separable",
    module: "omniconv.analysis.cost",
    question: "16 channels at 64×64: the depthwise separable layer has about 6 times fewer MAC than the dense one. Is it 6 times faster here, in a plain loop?",
    options: ["more than 6 times", "about 6 times", "clearly less"],
    compute() {
      const shape = [1, 16, 64, 64];
      const given = { in_channels: 16, out_channels: 16, kernel_size: 3, padding: "same" };
      const [dense, own] = ["cross_correlation", "depthwise_separable"].map((kind) => {
        const spec = buildKind(kind, given);
        return { macs: sumOf(spec, shape, "macs"), time: bestTime(spec, shape) };
      });
      const [fewer, faster] = [dense.macs / own.macs, dense.time / own.time];
      return {
        right: faster > fewer * 1.15 ? 0 : faster > fewer * 0.85 ? 1 : 2,
        words: `Measured now, plain JavaScript: ${formatNumber(dense.time)} ms and ${formatNumber(own.time)} ms, ${formatNumber(faster)} times faster with ${formatNumber(fewer)} times fewer MAC. Time also goes into reading and writing values.`,
      };
    },
    open: "chain ih5 iw5 > depthwise ic4 oc4 kh3 kw3 pt1 pb1 pl1 pr1 g4 > pointwise ic4 oc4 kh1 kw1",
  },
];

/** The shortest run [ms]. @param {Spec} spec @param {number[]} shape */
function bestTime(spec, shape) {
  const x = new Float64Array(product(shape)).fill(1);
  const weights = drawWeights(spec, 1);
  return timeRuns(() => evaluate(spec, shape, x, weights));
}

/** A layer of a lesson as its full line. @param {string} line */
export function fullLine(line) {
  const { spec, shape } = read(line);
  return formatSpec(spec, shape);
}
