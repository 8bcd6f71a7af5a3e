// The page's model, asked by the tests: a list of requests as JSON comes in, a list of answers goes out.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = pathToFileURL(`${process.argv[2]}/`);
const load = (name) => import(new URL(name, folder));
const { buildKind, DEFAULTS } = await load("kinds.js");
const { formatSpec } = await load("format.js");
const { parseSpec } = await load("text.js");
const { OmniError } = await load("integers.js");
const { outputShape } = await load("chain.js");
const { evaluate } = await load("evaluate.js");
const { planSpec } = await load("plan.js");
const { traceBack, traceForward } = await load("taps.js");
const { omniconvText, torchText } = await load("torchtext.js");
const { listModes, listSame } = await load("borders.js");
const { encodeGif } = await load("gif.js");
const { kerasText } = await load("kerastext.js");
const { onnxText } = await load("onnxtext.js");
const { Engine } = await load("engine.js");
const { planTapCalls } = await load("tapplan.js");
const { LESSONS } = await load("lessons.js");
const { splitKernel } = await load("separable.js");
const { makeLayer, readHash, reweighLayer, shrinkSetting, textSetting, writeHash } = await load("layer.js");
const { runPlans } = await load("evaluate.js");
const analysis = Object.assign({}, ...(await Promise.all(["overlap.js", "field.js", "connectivity.js", "cost.js"].map(load))));
const { listRemedies } = await load("remedies.js");

const marked = (marks) => [...marks.keys()].filter((i) => marks[i]);

const ANSWERS = {
  defaults: () => Object.fromEntries(Object.entries(DEFAULTS).map(([kind, all]) => [kind, Object.entries(all)])),
  kind({ kind, given, shape }) {
    const spec = buildKind(kind, given);
    return { text: formatSpec(spec, shape ?? undefined), output: shape ? outputShape(spec, shape) : null };
  },
  text({ text }) {
    const { spec, shape } = parseSpec(text);
    return { text: formatSpec(spec, shape ?? undefined), output: shape ? outputShape(spec, shape) : null };
  },
  code({ language, text }) {
    const { spec, shape } = parseSpec(text);
    if (language === "omniconv") return omniconvText(formatSpec(spec, shape));
    return { keras: kerasText, onnx: onnxText, pytorch: torchText }[language](spec, shape);
  },
  remedies({ text }) {
    const { spec, shape } = parseSpec(text);
    return listRemedies(spec, shape).map((remedy) => ({ ...remedy, spec: formatSpec(remedy.spec, shape) }));
  },
  plan({ text }) {
    const { spec, shape } = parseSpec(text);
    const { output, before, frame, calls } = planTapCalls(spec, shape);
    const lists = calls.map(({ words, start, offsets, index }) => ({ words, start, offsets: [...offsets], index: [...index] }));
    return { output, before, frame, calls: lists };
  },
  async engine({ taps, cases }) {
    const engine = await Engine.start(taps);
    return cases.map(({ text, x, weights }) => {
      const { spec, shape } = parseSpec(text);
      const given = weights.map(([w, b]) => ({ w: Float64Array.from(w), b: b && Float64Array.from(b) }));
      return [...engine.runPlans(planSpec(spec, shape), Float64Array.from(x), given).at(-1)];
    });
  },
  async presets({ taps, presets, x, w }) {
    const engine = await Engine.start(taps);
    await engine.load(presets);
    return [...engine.presets].map(([text, preset]) => {
      const size = preset.data.input.shape.reduce((a, b) => a * b, 1);
      const given = Float64Array.from({ length: size }, (_, i) => x[i % x.length]);
      const count = preset.data.weights.count - preset.data.output.shape[1];
      const own = [{ w: Float64Array.from({ length: count }, (_, i) => w[i % w.length]), b: null }];
      const { y } = preset.run(given, own, [parseSpec(text).spec]);
      return [text, [...y.subarray(0, 3000)], y.reduce((a, b) => a + b, 0)];
    });
  },
  gif: ({ frames, width }) => {
    const pixels = frames.map((frame) => Uint32Array.from(frame));
    return Buffer.from(encodeGif(pixels, width, pixels[0].length / width, 100)).toString("base64");
  },
  address: ({ text, x, w }) => writeHash({ ...textSetting(text), x, w }),
  setting: ({ hash }) => readHash(hash),
  smaller: ({ text }) => shrinkSetting(textSetting(text))?.sizes ?? null,
  borders({ text }) {
    const { spec, shape } = parseSpec(text);
    return { same: listSame(spec, shape), modes: listModes(spec, shape) };
  },
  lessons: () => LESSONS.map(({ compute, ...lesson }) => lesson),
  separable: ({ values, high, wide }) => splitKernel(values, high, wide),
  evaluate({ text, x, weights }) {
    const { spec, shape } = parseSpec(text);
    const given = weights.map(([w, b]) => ({ w: Float64Array.from(w), b: b && Float64Array.from(b) }));
    return [...evaluate(spec, shape, Float64Array.from(x), given)];
  },
  // For each convolution and each of its channels: whether values after an edit are those that are computed anew, and how many changed.
  reweigh({ text }) {
    let layer = makeLayer(textSetting(text), null);
    const found = [];
    layer.plans.flatMap((plan) => plan.parts.filter(({ conv }) => conv)).forEach(({ conv, wide, narrow }, number) => {
      const volume = conv.kernel_size.reduce((a, b) => a * b, 1);
      const owner = (i) =>
        conv.transposed ? Math.floor(i / (volume * narrow * wide)) * narrow + (Math.floor(i / volume) % narrow) : Math.floor(i / (volume * wide));
      for (let own = 0; own < conv.out_channels; own++) {
        const { w } = layer.weights[number];
        w.forEach((value, i) => (w[i] = owner(i) === own ? value + 5 + i : value));
        const next = reweighLayer(layer, number, own);
        const anew = runPlans(layer.plans, layer.x, layer.weights);
        const last = anew.length - 1;
        found.push([anew.every((values, n) => values.every((value, i) => value === next.values[n][i])), anew[last].filter((value, i) => value !== layer.values[last][i]).length]);
        layer = next;
      }
    });
    return found;
  },
  trace({ text, output, input }) {
    const { spec, shape } = parseSpec(text);
    const plans = planSpec(spec, shape);
    const size = (values) => values.slice(1).reduce((a, b) => a * b, 1);
    const one = (length, index) => Uint8Array.from({ length }, (_, i) => (i === index ? 1 : 0));
    const back = traceBack(plans, one(size(outputShape(spec, shape)), output))[0];
    const forward = traceForward(plans, one(size(shape), input)).at(-1);
    return { back: marked(back), forward: marked(forward) };
  },
  analyses({ text }) {
    const { spec, shape } = parseSpec(text);
    const plans = planSpec(spec, shape);
    const place = plans.at(-1).sizesOut.map((size) => Math.floor(size / 2));
    return {
      phases: spec.type === "conv" ? analysis.overlapPhases(spec, shape) : null,
      forward: [...analysis.overlapImage(plans, "output").image],
      gradient: [...analysis.overlapImage(plans, "gradient").image],
      free: analysis.freeOfBorder(plans),
      coverage: analysis.coverageAxes(spec, shape),
      paths: analysis.connectivityPaths(spec, shape),
      blocks: analysis.findBlocks(analysis.connectivityPaths(spec, shape)),
      field: analysis.receptiveAxes(spec, shape),
      support: marked(analysis.supportOf(plans, place)),
      cost: analysis.costOf(spec, shape),
    };
  },
};

const requests = JSON.parse(readFileSync(0, "utf8"));
const answers = [];
for (const { ask, ...rest } of requests) {
  try {
    answers.push({ answer: await ANSWERS[ask](rest) });
  } catch (error) {
    if (!(error instanceof OmniError)) throw error;
    answers.push({ error: error.name, message: error.message });
  }
}
process.stdout.write(JSON.stringify(answers));
