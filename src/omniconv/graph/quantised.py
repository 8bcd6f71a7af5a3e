"""Layers between quantised values, found in graphs that write them as floats.

A quantised model in *QDQ form* says what is stored in 8 bits by pairs of QuantizeLinear and DequantizeLinear, and
writes its layers between them in floats::

    DequantizeLinear(x), DequantizeLinear(constant w), DequantizeLinear(constant b) -> Conv -> Relu -> QuantizeLinear

Each such group of nodes becomes one node with the inputs of ONNX's QLinearConv, in a domain of its own; one with limits
on its result, too. A matrix whose result stays floats is a group without the last node, if its bias is of integers in
units of the sums. What it computes is the same but for the rounding of the sum, which has no error any more: results
differ by one step at most, and only next to the middle between two.

It must not fire on: scales or zero points that are computed, or one for each channel of an activation; a layer whose
float result something else reads as well; more than one clamp before QuantizeLinear.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from omniconv.graph.nodes import AnyArray, Graph, Node

DOMAIN: Final = "ai.omniconv.integers"
"""Of nodes that no file has."""
LAYERS: Final = ("Conv", "Gemm", "MatMul")
MOST_CLAMPS: Final = 1
UNIT: Final = 1e-6
"""How far the scale of a bias may be from that of the sums, relatively: it is rounded once, to float32."""


class _Found(NamedTuple):
    """A group: the layer, the node that clamps its result, the one that quantises it, and the limits."""

    layer: Node
    last: Node
    low: float
    high: float


def find_quantised_layers(graph: Graph) -> Graph:
    """The graph with quantised layers as nodes of their own; the graph itself where there are none."""
    if not any(node.op == "DequantizeLinear" for node in graph.nodes):
        return graph
    search = _Search(graph)
    joined = {}
    for node in graph.nodes:
        found = search.find(node)
        if found is not None:
            joined[id(found.last)] = search.join(found)
    if not joined:
        return graph
    nodes = [joined.get(id(node), node) for node in graph.nodes]
    return replace(graph, nodes=_drop_dead(nodes, graph))


class _Search:
    """What produces and who reads each value of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.constants = graph.constants
        self.producers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers = Counter(info.name for info in graph.outputs)
        self.next: dict[str, Node] = {}
        for node in graph.nodes:
            for name in node.reads:
                self.readers[name] += 1
                self.next[name] = node

    def find(self, node: Node) -> _Found | None:
        """The group around a layer."""
        if node.op not in LAYERS or node.domain or not (2 <= len(node.inputs) <= 3 and len(node.outputs) == 1):
            return None
        x, w = (self._scaled(name) for name in node.inputs[:2])
        if x is None or x.inputs[0] in self.constants or not self._plain(x):
            return None
        if w is None or w.inputs[0] not in self.constants or not self._weights(node, w):
            return None
        if len(node.inputs) == 3 and node.inputs[2]:
            axis = _find_outputs(node)
            if self._bias(node.inputs[2], self.constants[w.inputs[0]].shape[axis : axis + 1]) is None:
                return None
        if node.op == "Gemm" and (
            node.attributes.get("alpha", 1.0) != 1.0
            or node.attributes.get("beta", 1.0) != 1.0
            or node.attributes.get("transA", 0)
        ):
            return None
        low, high, last = -math.inf, math.inf, self._only_reader(node)
        for _ in range(MOST_CLAMPS):
            limits = None if last is None else self._limits(last)
            if last is None or limits is None:
                break
            low, high = limits
            last = self._only_reader(last)
        if last is None or last.op != "QuantizeLinear" or last.domain or not self._plain(last):
            floats = node.op != "Conv" and self._keeps_bias(node, x, w)
            return _Found(node, node, -math.inf, math.inf) if floats else None
        return _Found(node, last, low, high)

    def join(self, found: _Found) -> Node:
        """The node that stands for a group."""
        layer, last = found.layer, found.last
        x, w = (self.producers[name] for name in layer.inputs[:2])
        ends = [(*node.inputs, "")[:3] for node in (x, w)]
        bias = self._bias(layer.inputs[2]) if len(layer.inputs) == 3 and layer.inputs[2] else None
        result = ("", "") if last is layer else (*last.inputs, "")[1:3]
        inputs = (*ends[0], *ends[1], *result, *(bias or ()))
        more = {"low": found.low, "high": found.high}
        return Node(layer.op, DOMAIN, layer.label, inputs, last.outputs, {**layer.attributes, **more}, layer.version)

    def _scaled(self, name: str) -> Node | None:
        """The DequantizeLinear that makes a value."""
        node = self.producers.get(name)
        return node if node is not None and node.op == "DequantizeLinear" and not node.domain else None

    def _plain(self, node: Node) -> bool:
        """Whether scale and zero point are constants, one for all, of 8 bits."""
        scale, zero = self.constants.get(node.inputs[1]), self._zero(node)
        if scale is None or scale.size != 1 or scale.ndim > 1 or scale.dtype != np.float32:
            return False
        asked = node.attributes.get("output_dtype", 0)
        return zero is not None and zero.size == 1 and zero.dtype in (np.int8, np.uint8) and not asked

    def _zero(self, node: Node) -> AnyArray | None:
        """The zero point of a node; ``None`` where it is no constant."""
        if len(node.inputs) > 2 and node.inputs[2]:
            return self.constants.get(node.inputs[2])
        known = self.constants.get(node.inputs[0])
        return np.zeros((), np.uint8 if known is None else known.dtype)

    def _weights(self, layer: Node, node: Node) -> bool:
        """Whether weights have one scale, or one for each output channel, and are of 8 bits."""
        w, scale, zero = self.constants[node.inputs[0]], self.constants.get(node.inputs[1]), self._zero(node)
        if scale is None or zero is None or scale.dtype != np.float32 or w.dtype not in (np.int8, np.uint8):
            return False
        if node.attributes.get("block_size", 0) or zero.dtype != w.dtype:
            return False
        if layer.op != "Conv" and w.ndim != 2:
            return False
        outputs = _find_outputs(layer)
        axis = node.attributes.get("axis", 1)
        by_output = isinstance(axis, int) and axis % max(w.ndim, 1) == outputs and -w.ndim <= axis < w.ndim
        for array in (scale, zero):
            if array.size != 1 and not (by_output and array.shape == (w.shape[outputs],)):
                return False
        return True

    def _bias(self, name: str, shape: tuple[int, ...] | None = None) -> tuple[str, ...] | None:
        """The inputs that a bias has: floats, or integers and their scale, of such a shape where it is said."""
        known = self.constants.get(name)
        if known is not None:
            fits = known.dtype == np.float32 and shape in (None, known.shape)
            return (name,) if fits else None
        node = self._scaled(name)
        if node is None or node.inputs[0] not in self.constants or node.inputs[1] not in self.constants:
            return None
        zero = self._zero(node)
        array = self.constants[node.inputs[0]]
        if array.dtype != np.int32 or shape not in (None, array.shape) or zero is None or zero.any():
            return None
        scale = self.constants[node.inputs[1]]
        return (node.inputs[0], node.inputs[1]) if scale.dtype == np.float32 and scale.size in (1, array.size) else None

    def _keeps_bias(self, layer: Node, x: Node, w: Node) -> bool:
        """Whether there is no bias, or one of integers in units of the sums."""
        if len(layer.inputs) < 3 or not layer.inputs[2]:
            return True
        _, *scale = self._bias(layer.inputs[2]) or ("",)
        unit = self.constants[x.inputs[1]].reshape(-1) * self.constants[w.inputs[1]].reshape(-1)
        return bool(scale) and np.allclose(self.constants[scale[0]].reshape(-1), unit, rtol=UNIT, atol=0)

    def _only_reader(self, node: Node) -> Node | None:
        """The node that alone reads the result of another."""
        name = node.outputs[0]
        return self.next.get(name) if self.readers[name] == 1 else None

    def _limits(self, node: Node) -> tuple[float, float] | None:
        """The limits that a node keeps its input in, where that is all it does."""
        if node.domain:
            return None
        if node.op == "Relu":
            return 0.0, math.inf
        if node.op != "Clip":
            return None
        limits = []
        for number, (key, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
            given: object = node.attributes.get(key, default)
            if node.version >= 11:
                name = (*node.inputs, "", "")[number]
                array = self.constants.get(name) if name else np.asarray(default)
                given = float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
            if not isinstance(given, float) or math.isnan(given):
                return None
            limits.append(given)
        low, high = limits
        return (low, high) if low <= high else None


def _find_outputs(layer: Node) -> int:
    """Which axis of the weights is that of the outputs."""
    return 1 if layer.op == "MatMul" or (layer.op == "Gemm" and not layer.attributes.get("transB", 0)) else 0


def _drop_dead(nodes: list[Node], graph: Graph) -> tuple[Node, ...]:
    """The nodes that something reads."""
    wanted = {info.name for info in graph.outputs}
    kept: list[Node] = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.reads)
            kept.append(node)
    return tuple(reversed(kept))
