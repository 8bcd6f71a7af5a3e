r"""Bias correction: what rounded weights add to the mean of each channel is taken off its bias.

For a layer with the rounded input ``x`` and the rounded weights ``w + d``, channel ``c`` is shifted by the mean over
all positions of all calibration samples, :math:`\Delta_c = E[(d * x)_c]`, padding included. That convolution is
computed as it stands, for all layers in one run of the rounded network; the bias becomes ``b - Δ``. A layer is so
corrected for its own weights alone, whatever comes in, and no correction counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.graph.nodes import AnyArray, Node
from omniconv.quantization.execute import Executor, NetworkSample
from omniconv.quantization.insert import Rounded, insert
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.plan import QuantPlan, encode

BIASED: Final = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Layers that have a bias."""


def correct_biases(
    executor: Executor, network: FloatNetwork, plan: QuantPlan, samples: Iterable[NetworkSample], *, reduce_range: bool
) -> int:
    """Correct the biases of a plan; how many layers were."""
    shifts = measure_shifts(executor, network, plan, samples)
    count = 0
    for layer in plan.active:
        shift = shifts.get(layer.output)
        if shift is None or not shift.any():
            continue
        own = network.constants[layer.bias].reshape(-1) if layer.bias else np.zeros(shift.size, np.float32)
        bias = (own.astype(np.float64) - shift).astype(np.float32)
        found = encode(network, layer, plan, reduce_range=reduce_range, bias=bias)
        if not isinstance(found, str):
            plan.codes[layer.output] = found
            count += 1
    return count


def measure_shifts(
    executor: Executor, network: FloatNetwork, plan: QuantPlan, samples: Iterable[NetworkSample]
) -> dict[str, AnyArray]:
    """Output of each layer with weights -> the mean shift of its channels."""
    found = insert(network, plan, Rounded())
    work = found.network
    names: dict[str, str] = {}
    for layer in plan.active:
        if layer.op not in BIASED:
            continue
        node = network.nodes[layer.index]
        difference = plan.codes[layer.output].weights.floats - network.constants[layer.weights]
        if not difference.any():
            continue
        d = work.add_constant(f"{layer.weights}/difference", difference)
        y, mean = work.fresh(f"{layer.name}/shift"), work.fresh(f"{layer.name}/mean")
        rank = 2 if layer.op == "Gemm" else difference.ndim
        work.nodes.append(replace(node, name=work.fresh(y), inputs=(found.reads[layer.output][0], d), outputs=(y,)))
        work.nodes.append(_mean(work, y, mean, [n for n in range(rank) if n != 1]))
        names[mean] = layer.output
    if not names:
        return {}
    sums: dict[str, AnyArray] = {}
    count = 0
    for values in executor.run(work, samples, names):
        count += 1
        for name, array in values.items():
            sums[names[name]] = sums.get(names[name], 0) + array.reshape(-1).astype(np.float64)
    return {name: total / count for name, total in sums.items()}


def _mean(network: FloatNetwork, x: str, y: str, axes: list[int]) -> Node:
    """A node that takes the mean along some axes; since opset 18 they are an input."""
    name, version = network.fresh(f"{y}/ReduceMean"), network.version
    if version < 18:
        return Node("ReduceMean", "", name, (x,), (y,), {"axes": tuple(axes), "keepdims": 0}, version)
    constant = network.add_constant(f"{y}/axes", np.array(axes, np.int64))
    return Node("ReduceMean", "", name, (x, constant), (y,), {"keepdims": 0}, version)
