"""A plan written into a network: as pairs of QuantizeLinear and DequantizeLinear, or as floats rounded likewise.

Weights in bfloat16 are constants of that type behind a Cast to float32: less to store, and to read, for the same sums.

A value that a layer of integers makes is rounded where it is made, for all that read it. Others (inputs of the network,
results of layers in float32) are rounded for layers of integers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import onnx

from omniconv.graph.nodes import AnyArray, Node
from omniconv.program.bfloat16 import round_to_bfloat16
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
        owners: name of each node that belongs to a layer -> the output of that layer.
    """

    network: FloatNetwork
    reads: dict[str, tuple[str, ...]]
    owners: dict[str, str]


def insert(network: FloatNetwork, plan: QuantPlan, style: Style) -> Inserted:
    """Write a plan into a copy of the network."""
    work = network.copy()
    active = {layer.index: layer for layer in plan.active}
    narrow = {layer.index: layer for layer in plan.placing.layers if layer.output in plan.narrow}
    owners = {network.nodes[layer.index].label: layer.output for layer in plan.placing.layers}
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
                    more = style.value(work, name, rounded[name], plan.affine(name))
                    owners.update((each.label, layer.output) for each in more)
                    nodes += more
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
        elif index in narrow:
            cast, w = _narrow_weights(work, narrow[index])
            nodes.append(cast)
            node = replace(node, inputs=(node.inputs[0], w, *node.inputs[2:]))
        raw = {name: work.fresh(f"{name}/raw") for name in node.outputs if name in made}
        nodes.append(replace(node, outputs=tuple(raw.get(name, name) for name in node.outputs)))
        for name, x in raw.items():
            more = style.value(work, x, name, plan.affine(name))
            owners.update((each.label, name) for each in more)
            nodes += more
    work.nodes = nodes
    return Inserted(work, reads, owners)


def _narrow_weights(network: FloatNetwork, layer: QuantLayer) -> tuple[Node, str]:
    """A node that makes float32 of weights in bfloat16, and its result."""
    array = round_to_bfloat16(network.constants[layer.weights])
    name, y = network.add_constant(f"{layer.weights}/bfloat16", array), network.fresh(f"{layer.weights}/floats")
    network.narrow.add(name)
    node = _node(network, "Cast", (name,), y)
    return replace(node, attributes={"to": onnx.TensorProto.FLOAT}), y


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
