"""`quantize`: a trained network in float32 becomes one in integers of 8 bits, as ONNX that others load as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx

from omniconv.errors import DataError, ModelError, SpecError
from omniconv.graph.fix_shapes import narrow_inputs
from omniconv.graph.load import ModelLike, load
from omniconv.graph.nodes import shorten
from omniconv.quantization.budget import keep_within, measure_layers
from omniconv.quantization.correct import correct_biases
from omniconv.quantization.equalise import absorb_biases, equalise, find_pairs, find_value
from omniconv.quantization.execute import Array, Executor, count_values, find_channel_ranges
from omniconv.quantization.fold_norms import fold_norms
from omniconv.quantization.histogram import Histogram
from omniconv.quantization.insert import QdqPairs, Rounded, insert
from omniconv.quantization.judge import Judge, Metric, Verdict, compare_values
from omniconv.quantization.network import FloatNetwork, read_network
from omniconv.quantization.options import QuantOptions
from omniconv.quantization.placing import Placing, QuantLayer, place_layers
from omniconv.quantization.plan import QuantPlan, list_values, make_plan
from omniconv.quantization.ranges import find_range
from omniconv.quantization.report import LayerReport, Quantized, QuantReport
from omniconv.quantization.samples import Samples, read_samples
from omniconv.records import dataclass

if TYPE_CHECKING:
    from omniconv.api import Model

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is being done, and which share of it is."""


def quantize(
    model: Model,
    calibration: Any,
    *,
    labels: Any = None,
    test: Any = None,
    test_labels: Any = None,
    preprocess: Callable[[Array], Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    ranges: str = "mse",
    percentile: float = 99.99,
    per_channel: bool = True,
    reduce_range: bool = False,
    equalize: bool = True,
    correct_bias: bool = True,
    max_drop: float | None = None,
    min_snr: float | None = None,
    metric: Metric | None = None,
    keep: Sequence[str] = (),
    threads: int | None = None,
    memory_limit: int | None = None,
) -> onnx.ModelProto:
    """Quantise a trained network to 8 bits.

    Activations become ``uint8`` with a scale and a zero point for each tensor, weights ``int8`` with a scale for each
    output channel, biases ``int32``. The result is ONNX with a pair of QuantizeLinear and DequantizeLinear on every
    edge between layers of integers, which ONNX Runtime, OpenVINO and others compute in integers.
    :func:`omniconv.quantization.quantize_with_report` also says what became of each layer.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> from omniconv.graph import export
        >>> spec = oc.convolution(in_channels=3, out_channels=8, kernel_size=3, padding="same")
        >>> rng = np.random.default_rng(0)
        >>> model = export(spec, (1, 3, 8, 8), oc.random_weights(spec, rng))
        >>> quantised = oc.quantize(model, rng.standard_normal((16, 3, 8, 8), np.float32))
        >>> [node.op_type for node in quantised.graph.node].count("QuantizeLinear")
        2

    Args:
        model: ONNX in float32, as a path, bytes or ``ModelProto``.
        calibration: samples like those the network will see, a hundred or so: an array whose first axis counts them, or
            one for each input by name; a list of arrays, or a function that returns an iterator of them; an ``.npz``
            file with an array for each input (and ``labels``); a folder of images, whose folders are their classes.
        labels: the class of each sample, for ``max_drop``.
        test: samples that the budget is measured on, in the same forms; default: those of ``calibration``.
        test_labels: the class of each of those.
        preprocess: is given each image of a folder, and returns the array that the network takes.
        shapes: sizes of inputs that the model leaves open, by name: those of the samples. The
            result leaves them open.
        ranges: how the range of a tensor is found: ``"minmax"``, ``"percentile"``, ``"entropy"`` or ``"mse"``
            (:mod:`omniconv.quantization.ranges` defines them).
        percentile: of the rule of that name [%].
        per_channel: a scale for each output channel of weights; else one for each tensor.
        reduce_range: weights of 7 bits, for runtimes whose multiply-adds of bytes saturate. Omniconv's never do.
        equalize: scale channels between convolutions to alike ranges, where that changes no result.
        correct_bias: take the mean error of rounded weights off the biases.
        max_drop: most points of accuracy to lose: with labels of accuracy, without of agreement with float32. Layers
            stay in float32 until that is kept.
        min_snr: least signal-to-noise ratio of the outputs [dB]; likewise.
        metric: of the outputs of all samples, a list of arrays by name; larger is better. Then ``max_drop`` counts its
            points.
        keep: names of layers that stay in float32.
        threads, memory_limit: see :func:`omniconv.compile`.

    Raises:
        ModelError: a damaged model, or one that is quantised already.
        UnsupportedError: control flow, or floats that are not float32.
        DataError, ShapeError: calibration data that do not fit; NaN or infinities anywhere, with the tensor's name.
        SpecError: options that are not known.
        LimitError: more memory than allowed.
    """
    return quantize_with_report(
        model,
        calibration,
        labels=labels,
        test=test,
        test_labels=test_labels,
        preprocess=preprocess,
        shapes=shapes,
        metric=metric,
        options=QuantOptions(
            ranges=ranges,
            percentile=percentile,
            per_channel=per_channel,
            reduce_range=reduce_range,
            equalize=equalize,
            correct_bias=correct_bias,
            max_drop=max_drop,
            min_snr=min_snr,
            keep=keep,
            threads=threads,
            memory_limit=memory_limit,
        ),
    ).model


def quantize_with_report(
    model: ModelLike,
    calibration: Any,
    *,
    labels: Any = None,
    test: Any = None,
    test_labels: Any = None,
    preprocess: Callable[[Array], Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    metric: Metric | None = None,
    options: QuantOptions | None = None,
    on_progress: Progress = lambda _text, _share: None,
) -> Quantized:
    """Quantise a network, and say what became of each layer.

    Args:
        model, calibration, labels, test, test_labels, preprocess, shapes, metric: see :func:`omniconv.quantize`.
        options: the others.
        on_progress: told what is being done, and which share of it is.
    """
    options = QuantOptions() if options is None else options
    start = time.perf_counter()
    if metric is not None and not callable(metric):
        raise DataError(f"metric is {type(metric).__name__}", need="a function of a list of outputs")
    if preprocess is not None and not callable(preprocess):
        raise DataError(f"preprocess is {type(preprocess).__name__}", need="a function of one array that returns one")
    on_progress("reading", 0.0)
    declared = load(model, memory_limit=options.memory_limit)
    network = read_network(narrow_inputs(declared, shapes), options.memory_limit)
    read = partial(read_samples, inputs=network.inputs, preprocess=preprocess, memory_limit=options.memory_limit)
    samples = read(calibration, labels=labels)
    judged = samples
    if test is not None:
        judged = read(test, labels=test_labels, name="test")
    elif test_labels is not None:
        raise SpecError("test_labels without test", need="samples that they belong to")
    if options.max_drop is not None and metric is None and not network.outputs:
        raise ModelError("the network has no outputs", need="outputs to compare")
    before = network.to_model().ByteSize()
    work = _Work(network.copy(), options, samples, judged, metric, on_progress)
    work.prepare()
    plan, histograms = work.make_plan()
    verdict, alone, plan = work.keep_budget(plan)
    found = replace(insert(work.network, plan, QdqPairs()).network, inputs=declared.inputs).to_model()
    on_progress("comparing layers", 0.0)
    report = QuantReport(
        layers=work.describe(plan, histograms, alone),
        others=dict(plan.placing.refused),
        samples=samples.rows or samples.total,
        ranges=options.ranges,
        folded=work.folded,
        equalised=work.equalised,
        absorbed=work.absorbed,
        corrected=work.corrected,
        snr=verdict.snr,
        drop=verdict.drop,
        accuracy=work.judge.accuracy,
        bytes_before=before,
        bytes_after=found.ByteSize(),
        seconds=time.perf_counter() - start,
    )
    return Quantized(found, report)


@dataclass(slots=True)
class _Counted:
    """Samples that tell how far they are."""

    samples: Samples
    text: str
    on_progress: Progress

    def __iter__(self) -> Any:
        for count, sample in enumerate(self.samples):
            self.on_progress(self.text, count / self.samples.total)
            yield sample


class _Work:
    """The network on its way, with what is needed at every step."""

    def __init__(
        self,
        network: FloatNetwork,
        options: QuantOptions,
        samples: Samples,
        judged: Samples,
        metric: Metric | None,
        on_progress: Progress,
    ) -> None:
        self.network, self.options, self.samples, self.on_progress = network, options, samples, on_progress
        self.executor = Executor(options.threads, options.memory_limit)
        self.folded = self.equalised = self.absorbed = self.corrected = 0
        self.judged = judged
        self.judge = Judge(self.executor, network.copy(), judged, metric)
        if options.max_drop is not None and metric is None and self.judge.best is None:
            raise SpecError(
                f"max_drop={options.max_drop:g} for an output without classes",
                need="an output (N, classes); or min_snr=, or metric=, a function of the outputs",
            )

    def _count(self, text: str) -> _Counted:
        return _Counted(self.samples, text, self.on_progress)

    def prepare(self) -> None:
        """Rewrite the network in float32, to the same function."""
        network = self.network
        self.folded = fold_norms(network)
        pairs = find_pairs(network) if self.options.equalize else []
        if not pairs:
            return
        names = list(dict.fromkeys(find_value(network, pair) for pair in pairs))
        ranges = find_channel_ranges(self.executor, network, self._count("equalising"), names)
        self.equalised = equalise(network, pairs, ranges, per_channel=self.options.per_channel)
        if any(not pair.between for pair in pairs):
            names = [find_value(network, pair) for pair in pairs if not pair.between]
            ranges = find_channel_ranges(self.executor, network, self._count("absorbing"), names)
            self.absorbed = absorb_biases(network, pairs, ranges)

    def make_plan(self) -> tuple[QuantPlan, dict[str, Histogram]]:
        """Find ranges, integers and corrections."""
        options, network = self.options, self.network
        placing = place_layers(network, options.per_channel)
        if not placing.layers:
            raise ModelError(
                "no layer can be computed in integers",
                need="a convolution, a dense layer or another that the guide lists",
            )
        names = list_values(placing)
        histograms = count_values(self.executor, network, self._count("calibrating"), names)
        found = {name: find_range(item, options.ranges, options.percentile) for name, item in histograms.items()}
        plan = make_plan(
            network, placing, found, reduce_range=options.reduce_range, kept=_find_kept(placing, options.keep)
        )
        if options.correct_bias:
            self.corrected = correct_biases(
                self.executor, network, plan, self._count("correcting"), reduce_range=options.reduce_range
            )
        return plan, histograms

    def keep_budget(self, plan: QuantPlan) -> tuple[Verdict, dict[str, Verdict], QuantPlan]:
        """What the plan does, each layer alone where that is asked for, and the plan that is within the budget."""
        options, network, judge = self.options, self.network, self.judge
        self.on_progress("comparing", 0.0)
        verdict = judge(insert(network, plan, Rounded()).network)
        fits = verdict.keeps(options.max_drop, options.min_snr)
        alone: dict[str, Verdict] = {}
        if options.sensitivity or not fits:
            alone = measure_layers(judge, network, plan, lambda share: self.on_progress("one layer at a time", share))
        if not fits:
            self.on_progress("keeping the budget", 0.0)
            plan, verdict = keep_within(judge, network, plan, alone, options.max_drop, options.min_snr)
        return verdict, alone, plan

    def describe(
        self, plan: QuantPlan, histograms: Mapping[str, Histogram], alone: Mapping[str, Verdict]
    ) -> tuple[LayerReport, ...]:
        """A record for each layer."""
        names = [layer.output for layer in plan.placing.layers]
        rounded = insert(self.network, plan, Rounded()).network
        snr = compare_values(self.executor, self.network, rounded, self.judged, names)
        return tuple(
            self._describe(layer, plan, histograms, alone.get(layer.output), snr) for layer in plan.placing.layers
        )

    def _describe(
        self,
        layer: QuantLayer,
        plan: QuantPlan,
        histograms: Mapping[str, Histogram],
        alone: Verdict | None,
        snr: Mapping[str, float],
    ) -> LayerReport:
        integers = layer.output not in plan.kept
        affine = plan.affine(layer.output) if layer.rounds else None
        seen = histograms.get(layer.output)
        constants = [self.network.constants[name] for name in (layer.weights, layer.bias, *layer.operands) if name]
        before = sum(array.nbytes for array in constants)
        code = plan.codes.get(layer.output)
        after = sum(array.size + 5 for name in layer.operands for array in [self.network.constants[name]])
        if code is not None:
            after += code.weights.integers.nbytes + 5 * code.weights.scales.size
            after += 0 if code.bias is None else 12 * code.bias.size
        return LayerReport(
            name=layer.name,
            op=layer.op,
            integers=integers,
            reason=plan.kept.get(layer.output, ""),
            snr=snr.get(layer.output),
            alone=None if alone is None else alone.snr,
            drop=None if alone is None else alone.drop,
            low=None if affine is None else affine.low,
            high=None if affine is None else affine.high,
            seen=None if seen is None else (seen.low, seen.high),
            bytes_before=before,
            bytes_after=after if integers else before,
        )


def _find_kept(placing: Placing, names: Sequence[str]) -> dict[str, str]:
    """Outputs of layers that are named by their nodes or their outputs.

    Raises:
        SpecError: a name of no layer.
    """
    found: dict[str, str] = {}
    for name in names:
        outputs = [layer.output for layer in placing.layers if name in (layer.name, layer.output)]
        if not outputs:
            some = shorten(", ".join(layer.name for layer in placing.layers[:4]))
            raise SpecError(f"keep has {shorten(name)!r}, which is no layer", need="names of layers", fix=some)
        found.update(dict.fromkeys(outputs, "asked for"))
    return found
