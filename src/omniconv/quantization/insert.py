"""A plan written into a network: as pairs of QuantizeLinear and DequantizeLinear, or as floats rounded likewise.

A value that a layer of integers makes is rounded where it is made, for all that read it. Others (inputs of the network,
results of layers in float32) are rounded for layers of integers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from omniconv.graph.nodes import AnyArray, Node
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.placing import MOVES, QuantLayer
from omniconv.quantization.plan import LayerCode, QuantPlan
from omniconv.quantization.scales import Affine
from omniconv.records import dataclass


class Style(Protocol):
    """How rounding is written."""

    def value(self, network: FloatNetwork, x: str, y: str, affine: Affine) -> list[Node]:
        """Nodes that make the rounded ``y`` of the value ``x``."""

    def constant(
        self, network: FloatNetwork, name: str, integers: AnyArray, scale: AnyArray, zero: AnyArray, axis: int | None
    ) -> tuple[list[Node], str]:
        """Nodes that make a constant of integers, and its name."""


class QdqPairs:
    """QuantizeLinear and DequantizeLinear."""

    def value(self, network: FloatNetwork, x: str, y: str, affine: Affine) -> list[Node]:
        """See `Style`."""
        scale = network.add_constant(f"{y}/scale", np.array(affine.scale, np.float32))
        zero = network.add_constant(f"{y}/zero", np.array(affine.zero, np.uint8))
        q = network.fresh(f"{y}/integers")
        return [
            _node(network, "QuantizeLinear", (x, scale, zero), q),
            _node(network, "DequantizeLinear", (q, scale, zero), y),
        ]

    def constant(
        self, network: FloatNetwork, name: str, integers: AnyArray, scale: AnyArray, zero: AnyArray, axis: int | None
    ) -> tuple[list[Node], str]:
        """See `Style`."""
        q = network.add_constant(f"{name}/integers", integers)
        s, z = network.add_constant(f"{name}/scale", scale), network.add_constant(f"{name}/zero", zero)
        y = network.fresh(f"{name}/floats")
        node = _node(network, "DequantizeLinear", (q, s, z), y)
        return [node if axis is None else replace(node, attributes={"axis": axis})], y


class Rounded:
    """Floats that take the same values: ``clip(round(x / s), -z, 255 - z) s``. All of it compiles to machine code."""

    def value(self, network: FloatNetwork, x: str, y: str, affine: Affine) -> list[Node]:
        """See `Style`."""
        scale = network.add_constant(f"{y}/scale", np.array(affine.scale, np.float32))
        low = network.add_constant(f"{y}/low", np.array(-affine.zero, np.float32))
        high = network.add_constant(f"{y}/high", np.array(255 - affine.zero, np.float32))
        a, b, c = (network.fresh(f"{y}/{what}") for what in ("quotient", "rounded", "clipped"))
        return [
            _node(network, "Div", (x, scale), a),
            _node(network, "Round", (a,), b),
            _node(network, "Clip", (b, low, high), c),
            _node(network, "Mul", (c, scale), y),
        ]

    def constant(
        self, network: FloatNetwork, name: str, integers: AnyArray, scale: AnyArray, zero: AnyArray, axis: int | None
    ) -> tuple[list[Node], str]:
        """See `Style`."""
        shape = [-1 if n == axis else 1 for n in range(integers.ndim)] if scale.ndim else []
        wide, base = scale.reshape(shape), zero.reshape(shape).astype(np.float32)
        return [], network.add_constant(
            f"{name}/floats", ((integers.astype(np.float32) - base) * wide).astype(np.float32)
        )


def _node(network: FloatNetwork, op: str, inputs: tuple[str, ...], output: str) -> Node:
    return Node(op, "", network.fresh(f"{output}/{op}"), inputs, (output,), {}, network.version)


@dataclass(frozen=True, slots=True)
class Inserted:
    """The network that a plan makes.

    Attributes:
        network: with everything rounded.
        reads: output of each layer of integers -> the inputs of its node now.
    """

    network: FloatNetwork
    reads: dict[str, tuple[str, ...]]


def insert(network: FloatNetwork, plan: QuantPlan, style: Style) -> Inserted:
    """Write a plan into a copy of the network."""
    work = network.copy()
    active = {layer.index: layer for layer in plan.active}
    made = {layer.output for layer in active.values() if layer.rounds}
    for node in network.nodes:
        if node.op in MOVES and not node.domain and node.inputs[0] in made and node.outputs[0] in plan.placing.sources:
            made.update(name for name in node.outputs if network.is_float(name))  # positions of maxima are integers
    rounded: dict[str, str] = {}
    reads: dict[str, tuple[str, ...]] = {}
    nodes: list[Node] = []
    for index, node in enumerate(network.nodes):
        layer = active.get(index)
        if layer is not None:
            inputs = list(node.inputs)
            for name in layer.inputs:
                if name not in made and name not in rounded:
                    rounded[name] = work.fresh(f"{name}/rounded")
                    nodes += style.value(work, name, rounded[name], plan.affine(name))
            for name in layer.operands:
                if name not in rounded:
                    affine = plan.affines[name]
                    array = affine.round(network.constants[name])
                    scale, zero = np.array(affine.scale, np.float32), np.array(affine.zero, np.uint8)
                    more, rounded[name] = style.constant(work, name, array, scale, zero, None)
                    nodes += more
            inputs = [rounded.get(name, name) if name not in made else name for name in inputs]
            if layer.weights:
                more, inputs[1:] = _write_weights(work, layer, plan.codes[layer.output], style)
                nodes += more
            node = replace(node, inputs=tuple(inputs))
            reads[layer.output] = node.inputs
        raw = {name: work.fresh(f"{name}/raw") for name in node.outputs if name in made}
        nodes.append(replace(node, outputs=tuple(raw.get(name, name) for name in node.outputs)))
        for name, x in raw.items():
            nodes += style.value(work, x, name, plan.affine(name))
    work.nodes = nodes
    return Inserted(work, reads)


def _write_weights(
    network: FloatNetwork, layer: QuantLayer, code: LayerCode, style: Style
) -> tuple[list[Node], Sequence[str]]:
    """Nodes for the weights and the bias of a layer, and what it reads after its first input."""
    found = code.weights
    zero = np.zeros(found.scales.shape, np.int8)
    nodes, w = style.constant(network, layer.weights, found.integers, found.scales, zero, found.axis)
    if code.bias is None or code.bias_scales is None:
        return nodes, [w]
    name = layer.bias or f"{layer.name}/bias"
    more, b = style.constant(network, name, code.bias, code.bias_scales, np.zeros(code.bias.shape, np.int32), 0)
    return [*nodes, *more], [w, b]
