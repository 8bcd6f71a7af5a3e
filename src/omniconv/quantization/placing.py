"""Which layers of a network are computed in integers, and which values have a scale of their own.

A layer is a node of :data:`WEIGHTED`, :data:`ARITHMETIC`, :data:`POOLS`, :data:`JOINS` or :data:`TABLES`, with the
ReLU or clip behind it where that alone reads it: runtimes drop it, as its range says the same. Nodes of :data:`MOVES`
pass integers on, with the scale of what they read.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.graph.nodes import AnyArray, Node
from omniconv.quantization.network import FloatNetwork
from omniconv.records import dataclass

WEIGHTED: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
ARITHMETIC: Final = frozenset({"Add", "Mul"})
POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool"})
JOINS: Final = frozenset({"Concat"})
TABLES: Final = frozenset(
    {"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Swish", "Tanh"}
)
"""Functions of one variable: a table of 256 integers."""
MOVES: Final = frozenset(
    {
        "DepthToSpace", "Flatten", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Values stay what they are, or lie between them."""
ACTIVATED: Final = WEIGHTED | ARITHMETIC
"""Layers whose ReLU or clip is a part of them."""
SHORT: Final = frozenset({"Gemm", "MatMul"})
"""Their sums may leave the integers unrounded, where no other layer of integers reads them."""


@dataclass(frozen=True, slots=True)
class QuantLayer:
    """One layer that can be computed in integers.

    Attributes:
        name: its label.
        op: its operator.
        index: of its node.
        inputs: values that it reads and that get a scale.
        operands: constants that it reads beside weights, each with a scale for itself.
        output: its value, behind the activation.
        summed: its value before.
        rounds: whether the output gets a scale.
        weights: the name of its constant weights.
        bias: the name of its constant bias.
        axis: of the channels in the weights; ``None`` where they have one scale.
        clip: the bounds of the activation.
    """

    name: str
    op: str
    index: int
    inputs: tuple[str, ...]
    operands: tuple[str, ...]
    output: str
    summed: str
    rounds: bool = True
    weights: str = ""
    bias: str = ""
    axis: int | None = None
    clip: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Placing:
    """All layers, in execution order, and why other nodes stay as they are.

    Attributes:
        layers: that can be computed in integers.
        refused: label of a node that computes -> why it cannot.
        sources: value that a move made -> the value whose scale it has.
        bounds: of values beyond which nothing that reads them tells them apart, or which their activation has.
    """

    layers: tuple[QuantLayer, ...]
    refused: dict[str, str]
    sources: dict[str, str]
    bounds: dict[str, tuple[float, float]]


def place_layers(network: FloatNetwork, per_channel: bool) -> Placing:
    """Find the layers of a network."""
    readers = network.consumers()
    layers: list[QuantLayer] = []
    refused: dict[str, str] = {}
    sources: dict[str, str] = {}
    inside: set[int] = set()
    for index, node in enumerate(network.nodes):
        if index in inside or not network.is_float(node.outputs[0]):
            continue
        if node.domain or node.op not in WEIGHTED | ARITHMETIC | POOLS | JOINS | TABLES | MOVES:
            refused[node.label] = f"{node.op} has no form in integers here"
            continue
        if node.op in MOVES:
            if not _moves(network, node):
                refused[node.label] = f"this {node.op} makes new values"
                continue
            source = sources.get(node.inputs[0], node.inputs[0])
            sources.update((name, source) for name in node.outputs if network.is_float(name))
            continue
        layer = _read_layer(network, index, per_channel)
        if isinstance(layer, str):
            refused[node.label] = layer
            continue
        layer, after = _activate(network, layer, readers)
        inside.update(() if after is None else (after,))
        layers.append(layer)
    ends = {value for layer in layers for value in layer.inputs}
    ends |= {node.inputs[0] for node in network.nodes if node.op in MOVES}
    final = [replace(layer, rounds=layer.op not in SHORT or layer.output in ends) for layer in layers]
    bounds = {layer.output: layer.clip for layer in layers if layer.clip is not None}
    for layer in layers:
        found = _find_flat(network, readers.get(layer.output, []))
        if found is not None and not network.is_output(layer.output):
            bounds.setdefault(layer.output, found)
    return Placing(tuple(final), refused, sources, bounds)


def _find_flat(network: FloatNetwork, readers: list[int]) -> tuple[float, float] | None:
    """Bounds beyond which all that read a value are constant: hard-swish is 0 below -3, whatever comes."""
    found = []
    for index in readers:
        node = network.nodes[index]
        if node.domain:
            return None
        if node.op == "HardSwish":
            found.append((-3.0, math.inf))
        elif node.op == "HardSigmoid" and (alpha := node.number("alpha", 0.2)) > 0:
            beta = node.number("beta", 0.5)
            found.append((-beta / alpha, (1 - beta) / alpha))
        else:
            bounds = read_clip(network, node)
            if bounds is None:
                return None
            found.append(bounds)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def _moves(network: FloatNetwork, node: Node) -> bool:
    """Whether every result lies between values that are read. Cubic resizing goes beyond them."""
    if not network.is_float(node.inputs[0]) or node.inputs[0] in network.constants:
        return False
    if node.op != "Resize":
        return True
    plain = node.text("mode", "nearest") in ("nearest", "linear")
    return plain and node.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"


def _read_layer(network: FloatNetwork, index: int, per_channel: bool) -> QuantLayer | str:
    """The layer of a node, or why there is none."""
    node = network.nodes[index]
    label, output = node.label, node.outputs[0]
    if len([name for name in node.outputs if name]) > 1:
        return "it has several results"
    if node.op in WEIGHTED:
        found = _read_weighted(network, index, per_channel)
        if found is not None:
            return found
    given = tuple(name for name in node.inputs if name)
    if node.op in TABLES:
        if any(name not in network.constants for name in given[1:]):
            return "its bounds are computed"
        given = given[:1]
    computed = tuple(dict.fromkeys(name for name in given if name not in network.constants))
    constants = tuple(dict.fromkeys(name for name in given if name in network.constants))
    if not computed or not all(network.is_float(name) for name in given):
        return "it reads no values known to be float32"
    if any(not np.isfinite(network.constants[name]).all() for name in constants):
        return "a constant that it reads is NaN or infinite"
    return QuantLayer(label, node.op, index, computed, constants, output, output)


def _read_weighted(network: FloatNetwork, index: int, per_channel: bool) -> QuantLayer | str | None:
    """A layer with constant weights, why there is none, or ``None`` for a product of two values."""
    node = network.nodes[index]
    weights, bias = network.constant(node, 1), network.constant(node, 2)
    if weights is None:
        product = node.op == "MatMul" and node.inputs[0] not in network.constants
        return None if product or node.op == "MatMul" else "its weights are computed"
    if not network.is_float(node.inputs[0]) or node.inputs[0] in network.constants:
        return "it reads no values known to be float32"
    if weights.dtype != np.float32 or not weights.size or not np.isfinite(weights).all():
        return "its weights are no finite float32"
    if len(node.inputs) > 2 and node.inputs[2] and bias is None:
        return "its bias is computed"
    if node.op == "MatMul":
        axis = 1 if weights.ndim == 2 else None
    elif node.op == "ConvTranspose":
        axis = 1  # the same channels of all groups share a scale
    else:
        axis = find_channel_axis(node, weights)
        if axis is None:
            return "alpha, beta or transA is not the usual one"
    if bias is not None:
        count = count_channels(node, weights)
        if not is_of_channels(bias, count) or not np.isfinite(bias).all():
            return "its bias is not one finite number a channel"
    return QuantLayer(
        node.label,
        node.op,
        index,
        (node.inputs[0],),
        (),
        node.outputs[0],
        node.outputs[0],
        weights=node.inputs[1],
        bias=node.inputs[2] if bias is not None else "",
        axis=axis if per_channel else None,
    )


def find_channel_axis(node: Node, weights: AnyArray) -> int | None:
    """The axis of the weights that counts output channels, where one alone does."""
    match node.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if node.integer("group", 1) == 1 else None
        case "Gemm":
            plain = node.number("alpha", 1.0) == node.number("beta", 1.0) == 1.0 and not node.integer("transA", 0)
            return (0 if node.integer("transB", 0) else 1) if plain and weights.ndim == 2 else None
        case _:
            return None


def is_of_channels(bias: AnyArray, count: int) -> bool:
    """Whether a bias is one number a channel. That of a Gemm may be one a row, of shape (rows, 1), instead."""
    return bias.size == count and bias.shape[-1:] in ((count,), ())


def count_channels(node: Node, weights: AnyArray) -> int:
    """Output channels of a layer with weights."""
    if node.op == "ConvTranspose":
        return int(weights.shape[1]) * node.integer("group", 1)
    if node.op == "MatMul":
        return int(weights.shape[-1])
    return int(weights.shape[find_channel_axis(node, weights) or 0])


def _activate(network: FloatNetwork, layer: QuantLayer, readers: dict[str, list[int]]) -> tuple[QuantLayer, int | None]:
    """The layer with the ReLU or clip behind it, and that node's index."""
    after = readers.get(layer.output, [])
    if layer.op not in ACTIVATED or len(after) != 1 or network.is_output(layer.output):
        return layer, None
    node = network.nodes[after[0]]
    bounds = read_clip(network, node)
    if bounds is None or node.inputs[0] != layer.output:
        return layer, None
    return replace(layer, output=node.outputs[0], clip=bounds), after[0]


def read_clip(network: FloatNetwork, node: Node) -> tuple[float, float] | None:
    """The bounds of a ReLU or of a clip with constant ones."""
    if node.op == "Relu" and not node.domain:
        return 0.0, float("inf")
    if node.op != "Clip" or node.domain:
        return None
    bounds = [float("-inf"), float("inf")]
    for place in (1, 2):
        if place < len(node.inputs) and node.inputs[place]:
            bound = network.constant(node, place)
            if bound is None or bound.size != 1:
                return None
            bounds[place - 1] = float(bound.reshape(()))
    return bounds[0], bounds[1]
