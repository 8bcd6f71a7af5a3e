"""Layers that bfloat16 costs most: those that have to stay in float32 for a signal-to-noise ratio on data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from omniconv.api import compile as compile_model
from omniconv.compiler.planning.options import Options
from omniconv.errors import DataError
from omniconv.graph import prepare
from omniconv.graph.fix_shapes import fix_shapes
from omniconv.graph.load import ModelLike
from omniconv.graph.nodes import shorten
from omniconv.program.element import BFLOAT16
from omniconv.program.passes.keep_bfloat16 import list_layers
from omniconv.quantization.budget import find_few
from omniconv.quantization.execute import Array
from omniconv.quantization.judge import find_snr
from omniconv.quantization.options import as_number
from omniconv.quantization.samples import read_samples
from omniconv.runtime.executable import Executable


def find_sensitive_layers(
    model: ModelLike,
    samples: Any,
    *,
    min_snr: float = 40.0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int | None = None,
) -> tuple[str, ...]:
    r"""The layers of a network that stay in float32 so that it keeps a signal-to-noise ratio in bfloat16.

    .. math:: 10 \log_{10} \Big(\sum y^2 / \sum (\hat{y} - y)^2\Big) \ge \text{min\_snr}

    for every sample and each output y in float32 and :math:`\hat{y}` in bfloat16: the worst sample counts, so that
    others than these mostly keep the ratio, too. Each layer is rounded alone, and what that does to the outputs is its
    sensitivity; then the most sensitive ones stay: as many as are needed, of which every choice is measured.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> from omniconv.quantization import find_sensitive_layers
        >>> x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
        >>> kept = find_sensitive_layers("model.onnx", x, min_snr=50)  # doctest: +SKIP
        >>> net = oc.compile("model.onnx", precision="bfloat16", float32_layers=kept)  # doctest: +SKIP

    Args:
        model: an ONNX model as a path, bytes or ``ModelProto``.
        samples: as :func:`omniconv.quantize` takes calibration data.
        min_snr: the least ratio of any sample [dB].
        shapes: of inputs whose sizes the model leaves open.
        threads: of each call, as for :func:`omniconv.compile`.

    Returns:
        Names for ``float32_layers`` of :func:`omniconv.compile`, the most sensitive one first.

    Raises:
        ModelError, DataError, ShapeError: a model or samples that do not fit, sizes that are open, or outputs that are
            NaN or infinite.
        UnsupportedError: a model that is not compiled whole.
    """
    least = as_number("min_snr", min_snr, -math.inf, math.inf)
    graph: Any = prepare(model, shapes=shapes)
    fix_shapes(graph, None)
    data = read_samples(samples, graph.inputs, name="samples")
    exact = compile_model(graph, threads=threads, strict=True)
    assert isinstance(exact, Executable)  # all sizes are known, none is 0, and nothing is left to the host
    wanted = [{name: np.array(y) for name, y in exact.run(dict(sample)).items()} for sample in data]
    bad = next((name for each in wanted for name, y in each.items() if not np.isfinite(y).all()), None)
    if bad is not None:
        raise DataError(
            "the network's output is NaN or infinite",
            need="finite outputs for all samples",
            at=shorten(f"tensor {bad!r}"),
        )
    layers = list(dict.fromkeys(list_layers(exact.plan.program)))

    def measure(kept: Iterable[str]) -> float:
        """Signal to noise with these layers in float32 [dB]."""
        options = Options(threads=exact.threads, precision=BFLOAT16.name, float32_layers=frozenset(kept))
        return _compare(Executable.of(exact.plan.program, exact.target, options, exact.at), data, wanted)

    if measure(()) >= least:
        return ()
    alone = {layer: measure(other for other in layers if other != layer) for layer in layers}
    order = sorted(layers, key=alone.__getitem__)
    return find_few(order, measure, partial(_keeps, least))[0]


def _keeps(least: float, snr: float) -> bool:
    return snr >= least


def _compare(net: Executable, samples: Iterable[Mapping[str, Array]], wanted: Sequence[Mapping[str, Array]]) -> float:
    """Signal to noise of the worst output of any sample [dB]."""
    worst = math.inf
    for sample, outputs in zip(samples, wanted, strict=True):
        found = net.run(dict(sample))
        for name, y in outputs.items():
            a, b = y.astype(np.float64), found[name].astype(np.float64)
            worst = min(worst, find_snr(float((a * a).sum()), float(((a - b) ** 2).sum())))
    return worst
