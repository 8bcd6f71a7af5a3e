"""`quantize`: a trained network in float32 becomes one in integers of 8 bits, as ONNX that others load as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx

from omniconv.errors import DataError, ModelError, SpecError
from omniconv.graph.fix_shapes import narrow_inputs
from omniconv.graph.load import ModelLike, load
from omniconv.quantization.describe import describe_layers
from omniconv.quantization.execute import Array
from omniconv.quantization.insert import QdqPairs, insert
from omniconv.quantization.judge import Metric
from omniconv.quantization.network import read_network
from omniconv.quantization.options import QuantOptions
from omniconv.quantization.report import Quantized, QuantReport
from omniconv.quantization.samples import read_samples
from omniconv.quantization.work import Progress, QuantWork

if TYPE_CHECKING:
    from omniconv.api import Model


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
    fastest: bool = False,
    bfloat16: bool = False,
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
        max_drop: most points of accuracy to lose: with labels, of samples that were right and are not any more (others
            that became right by chance do not make up for them); without, of agreement with float32. Layers stay in
            float32 until that is kept.
        min_snr: least signal-to-noise ratio of the outputs [dB]; likewise.
        metric: of the outputs of all samples, a list of arrays by name; larger is better. Then ``max_drop`` counts its
            points.
        fastest: layers that take less time in floats on this machine stay there, where that makes the network faster.
            Times of each layer at each precision, and of the networks that were tried, are in the report.
        bfloat16: layers that are not in integers have their weights as bfloat16, of as many as the budget allows:
            constants of that type behind a Cast, with sums in float32. (With ``precision="bfloat16"``
            :func:`omniconv.compile` rounds the values between such layers, too.)
        keep: names of layers that stay in float32.
        threads, memory_limit: see :func:`omniconv.compile`.

    Raises:
        ModelError: a damaged model, or one that is quantised already.
        UnsupportedError: control flow, or floats that are not float32; ``fastest`` of a network that is not compiled
            whole.
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
            fastest=fastest,
            bfloat16=bfloat16,
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
    if not isinstance(options, QuantOptions):
        raise DataError(f"options is {type(options).__name__}", need="a QuantOptions")
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
    work = QuantWork(network.copy(), options, samples, judged, metric, on_progress)
    work.prepare()
    plan, histograms = work.make_plan()
    plan, times, networks = work.measure_times(plan)
    verdict, alone, plan = work.keep_budget(plan)
    found = replace(insert(work.network, plan, QdqPairs()).network, inputs=declared.inputs).to_model()
    on_progress("comparing layers", 0.0)
    report = QuantReport(
        layers=describe_layers(work, plan, histograms, alone, times),
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
        times=networks,
        seconds=time.perf_counter() - start,
    )
    return Quantized(found, report)
