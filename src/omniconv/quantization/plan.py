"""`QuantPlan`: every scale, every integer weight, and which layers stay in float32."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import field

import numpy as np

from omniconv.errors import DataError
from omniconv.graph.nodes import AnyArray, shorten
from omniconv.program.passes.keep_bfloat16 import holds
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.placing import Placing, QuantLayer, find_channel_axis
from omniconv.quantization.ranges import Range
from omniconv.quantization.scales import (
    ACCUMULATOR,
    Affine,
    WeightCode,
    find_affine,
    find_largest_sum,
    find_least_scales,
    is_usual,
    quantize_bias,
    quantize_weights,
)
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class LayerCode:
    """The integers of a layer.

    Attributes:
        weights: with their scales.
        bias, bias_scales: int32 and float32, one for each channel; ``None`` where the layer has no bias.
    """

    weights: WeightCode
    bias: AnyArray | None = None
    bias_scales: AnyArray | None = None


@dataclass(slots=True)
class QuantPlan:
    """What becomes of a network.

    Attributes:
        placing: its layers.
        affines: scales of values and of constant operands, by name.
        codes: integers of layers with weights, by their output.
        kept: output of each layer that is not computed in integers -> why.
        narrow: outputs of those whose weights are kept as bfloat16.
    """

    placing: Placing
    affines: dict[str, Affine]
    codes: dict[str, LayerCode]
    kept: dict[str, str] = field(default_factory=dict)
    narrow: frozenset[str] = frozenset()

    def affine(self, name: str) -> Affine:
        """Of a value; one that was only moved has that of its source."""
        return self.affines[self.placing.sources.get(name, name)]

    @property
    def active(self) -> list[QuantLayer]:
        """Layers that are computed in integers."""
        return [layer for layer in self.placing.layers if layer.output not in self.kept]

    def keep(self, outputs: Mapping[str, str]) -> QuantPlan:
        """The same plan with more layers in float32, for these reasons."""
        return QuantPlan(self.placing, self.affines, self.codes, {**outputs, **self.kept}, self.narrow)

    def narrowed(self, outputs: Iterable[str]) -> QuantPlan:
        """The same plan with the weights of these layers, which are not computed in integers, as bfloat16."""
        return QuantPlan(self.placing, self.affines, self.codes, self.kept, self.narrow | frozenset(outputs))

    def only(self, output: str) -> QuantPlan:
        """The same plan with one layer in integers."""
        others = {layer.output: "alone" for layer in self.placing.layers if layer.output != output}
        return QuantPlan(self.placing, self.affines, self.codes, others)


def list_values(placing: Placing) -> dict[str, tuple[float, float]]:
    """Values whose ranges are wanted, each once, with their bounds: those of layers, or what these came from."""
    names = [name for layer in placing.layers for name in (*layer.inputs, *([layer.output] * layer.rounds))]
    sources = dict.fromkeys(placing.sources.get(name, name) for name in names)
    return {name: placing.bounds.get(name, (-math.inf, math.inf)) for name in sources}


def make_plan(
    network: FloatNetwork,
    placing: Placing,
    ranges: Mapping[str, Range],
    *,
    reduce_range: bool = False,
    kept: Mapping[str, str] | None = None,
) -> QuantPlan:
    """Scales and integers for ranges that were found; layers that integers cannot hold stay in float32.

    Raises:
        DataError: a range that is wider than float32 numbers are.
    """
    affines = {name: _find_affine(name, low, high) for name, (low, high) in ranges.items()}
    plan = QuantPlan(placing, affines, {}, dict(kept or {}))
    for layer in placing.layers:
        for name in layer.operands:
            array = network.constants[name]
            affines[name] = _find_affine(name, float(array.min(initial=0)), float(array.max(initial=0)))
        if layer.weights:
            found = encode(network, layer, plan, reduce_range=reduce_range)
            if isinstance(found, str):
                plan.kept.setdefault(layer.output, found)
            else:
                plan.codes[layer.output] = found
    return plan


def _find_affine(name: str, low: float, high: float) -> Affine:
    found = find_affine(low, high)
    if not is_usual(found.scale) or not np.isfinite(np.float32(high - low)):
        raise DataError(
            f"tensor {shorten(name)!r} takes values from {low:g} to {high:g}",
            need="a network whose values float32 holds with their differences",
            at=shorten(f"tensor {name!r}"),
        )
    return found


def encode(
    network: FloatNetwork,
    layer: QuantLayer,
    plan: QuantPlan,
    *,
    reduce_range: bool,
    bias: AnyArray | None = None,
) -> LayerCode | str:
    """The integers of a layer with weights, or why they cannot be.

    Args:
        network, layer, plan: of which the scale of its input is known.
        reduce_range: weights of 7 bits.
        bias: instead of the layer's own.
    """
    weights = network.constants[layer.weights]
    own = network.constants[layer.bias].reshape(-1) if layer.bias else None
    bias = own if bias is None else bias
    x = plan.affine(layer.inputs[0])
    node = network.nodes[layer.index]
    code = quantize_weights(
        weights, layer.axis, reduce_range=reduce_range, least=_least(node.op, layer, bias, x, weights)
    )
    if not all(is_usual(x.scale * float(scale)) for scale in code.scales.reshape(-1)):
        return f"scales {x.scale:g} and {float(code.scales.max()):g} have a product that float32 does not hold"
    found = None
    if bias is not None:
        found = quantize_bias(bias, x.scale, np.resize(code.scales, bias.shape))
        if found is None:
            return "its bias does not fit into 32 bits"
    axes = _sum_axes(network, layer, weights)
    # One number for all groups of a transposed layer, whose sums are counted over each.
    offset = found[0] if found is not None and node.op != "ConvTranspose" else None
    largest = find_largest_sum(code.integers, axes, x.zero, offset)
    if found is not None and offset is None:
        largest += int(np.abs(found[0].astype(np.int64)).max(initial=0))
    if largest > ACCUMULATOR:
        return f"its sums could reach {largest}, more than 32 bits hold"
    return LayerCode(code, *(found or ()))


def _least(op: str, layer: QuantLayer, bias: AnyArray | None, x: Affine, weights: AnyArray) -> AnyArray | float:
    """The least scales of the weights for a bias; see `find_least_scales`."""
    least = np.asarray(find_least_scales(bias, x.scale))
    if not least.ndim:
        return float(least)
    if layer.axis is None:
        return float(least.max(initial=0))
    if op == "ConvTranspose":
        return np.asarray(least.reshape(-1, weights.shape[1]).max(axis=0))
    return least


def _sum_axes(network: FloatNetwork, layer: QuantLayer, weights: AnyArray) -> tuple[int, ...]:
    """The axes of the weights over which one result sums at most."""
    node = network.nodes[layer.index]
    if node.op == "MatMul":
        return (weights.ndim - 2,) if weights.ndim > 1 else (0,)
    axis = 1 if node.op == "ConvTranspose" else find_channel_axis(node, weights)
    return tuple(n for n in range(weights.ndim) if n != axis)


def list_narrowable(network: FloatNetwork, plan: QuantPlan) -> list[str]:
    """Outputs of layers that are not computed in integers and whose weights bfloat16 holds."""
    floats = (layer for layer in plan.placing.layers if layer.output in plan.kept and layer.weights)
    return [layer.output for layer in floats if holds(network.constants[layer.weights])]


def list_reasons(plan: QuantPlan, names: Iterable[QuantLayer]) -> dict[str, str]:
    """Name of each of these layers that stays in float32 -> why."""
    return {layer.name: plan.kept[layer.output] for layer in names if layer.output in plan.kept}
