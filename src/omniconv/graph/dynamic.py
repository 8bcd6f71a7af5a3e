r"""Dynamic quantisation in floats: integers that a graph makes of floats, adds up and makes floats of again.

Files that are quantised for speed elsewhere round a value to one of 256 levels of its own range, at every call, and
multiply integers::

    DynamicQuantizeLinear(x) -> q, s, z;  ConvInteger(q, w, z) -> Add(integers) -> Cast -> Mul(s s_w)

Between the rounding and the Cast only whole numbers are added and multiplied. Such a group of nodes becomes the same
sums of floats, of the distances

.. math:: d = \max(-z, \min(255 - z, \operatorname{round}(x / s))), \qquad
    s = (\max(x, 0) - \min(x, 0)) / 255, \qquad z = \operatorname{round}(-\min(x, 0) / s)

of the levels from the one that stands for 0, so that Conv and MatMul take the places of ConvInteger and MatMulInteger.
All integers up to :math:`2^{24}` are floats. Larger sums are rounded as sums of floats are, where ONNX rounds them
once, in the Cast.

It must not fire on: integers that anything else reads, or that are an output; levels that are cast, moved or added to
rather than multiplied; zero points that are not those of the value, or that anything else reads; weights that are
computed, unless they were quantised so, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.graph.nodes import AnyArray, Graph, Node
from omniconv.graph.scope import collect_names, make_name
from omniconv.graph.tensors import number_of_dtype

LEVELS: Final = 255.0
"""Steps between the least and the largest of 8 bits."""
PRODUCTS: Final = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
MOVES: Final = frozenset({"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
"""Operators that leave the numbers of their first input as they are."""
SUMS: Final = frozenset({"Add", "Sub"})
ROUNDED: Final = frozenset({"Floor", "Ceil", "Round"})
"""Operators whose results are whole numbers."""
_FLOAT: Final = number_of_dtype(np.dtype(np.float32))
_WIDE: Final = frozenset(number_of_dtype(np.dtype(name)) for name in ("int32", "int64"))


def find_dynamic_layers(graph: Graph) -> Graph:
    """The graph with dynamic quantisation in floats; the graph itself where there is none."""
    if not any(node.op == "DynamicQuantizeLinear" and not node.domain for node in graph.nodes):
        return graph
    return _DynamicSearch(graph).rewrite()


class _DynamicSearch:
    """What makes and who reads each value of a graph, and which nodes are rewritten."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.constants = graph, dict(graph.constants)
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.reads:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {info.name for info in graph.outputs}
        self.taken = {*collect_names(graph.nodes), *self.constants, *(info.name for info in graph.inputs)}
        self.chosen = {id(node): node for node in graph.nodes if not node.domain and self._may(node)}
        self._narrow()

    def rewrite(self) -> Graph:
        """The graph with the chosen nodes in floats."""
        if not any(node.op == "DynamicQuantizeLinear" for node in self.chosen.values()):
            return self.graph
        nodes = [made for node in self.graph.nodes for made in self._rewrite(node)]
        read = {name for node in nodes for name in node.reads} | self.outputs
        constants = {
            name: array for name, array in self.constants.items() if name in read or name in self.graph.constants
        }
        return replace(self.graph, nodes=tuple(nodes), constants=constants)

    # -- which nodes

    def _may(self, node: Node) -> bool:
        """Whether a node makes whole numbers, or floats of them, if what it reads are some."""
        match node.op:
            case "DynamicQuantizeLinear":
                return True
            case "ConvInteger" | "MatMulInteger":
                return all(self._factor(node, place) for place in (0, 1))
            case "DequantizeLinear":
                return self._factor(node, 0, point=2) and node.inputs[0] not in self.constants and self._plain(node)
            case "Cast":
                return self._casts(node)
        return node.op in MOVES or node.op in SUMS

    def _plain(self, node: Node) -> bool:
        return not any(node.attributes.get(name) for name in ("block_size", "output_dtype"))

    def _casts(self, node: Node) -> bool:
        """Whether a Cast makes floats of integers, or integers of whole floats."""
        to = node.attributes.get("to")
        if to == _FLOAT:
            return True
        maker = self.makers.get(node.inputs[0]) if node.inputs else None
        return to in _WIDE and maker is not None and maker.op in ROUNDED and not maker.domain

    def _factor(self, node: Node, place: int, point: int | None = None) -> bool:
        """Whether an operand of a product is constant, or comes from DynamicQuantizeLinear with its own zero point."""
        point = place + 2 if point is None else point
        name, zero = (_input(node, at) for at in (place, point))
        if name in self.constants:
            return not zero or zero in self.constants
        maker = self.makers.get(name)
        if maker is None or maker.op != "DynamicQuantizeLinear" or maker.domain or len(maker.outputs) != 3:
            return False
        return name == maker.outputs[0] and bool(zero) and zero == maker.outputs[2]

    def _whole(self, node: Node) -> tuple[str, ...]:
        """The outputs of a chosen node that are integers to ONNX."""
        if node.op == "DynamicQuantizeLinear":
            return tuple(name for name in (*node.outputs[:1], *node.outputs[2:3]) if name)
        if node.op == "DequantizeLinear" or (node.op == "Cast" and node.attributes.get("to") == _FLOAT):
            return ()
        return node.outputs

    def _narrow(self) -> None:
        """Drop nodes until every integer of those that are left stays among them."""
        while True:
            whole = {name for node in self.chosen.values() for name in self._whole(node)}
            kept = {key: node for key, node in self.chosen.items() if self._stays(node, whole)}
            if len(kept) == len(self.chosen):
                return
            self.chosen = kept

    def _stays(self, node: Node, whole: set[str]) -> bool:
        made = self._whole(node)
        if self.outputs.intersection(made):
            return False
        readers = [reader for name in made for reader in self.readers.get(name, ())]
        if not all(id(reader) in self.chosen for reader in readers):
            return False
        if node.op == "DynamicQuantizeLinear":  # anything else reads levels as they are, not as distances
            return all(reader.op in PRODUCTS or reader.op == "DequantizeLinear" for reader in readers)
        if node.op in SUMS:
            return all(name in whole or self._integers(name) for name in node.inputs)
        if node.op in MOVES or (node.op == "Cast" and node.attributes.get("to") == _FLOAT):
            return node.inputs[0] in whole and whole.isdisjoint(node.inputs[1:])
        if node.op in PRODUCTS:
            return all(name in whole or name in self.constants for name in node.inputs[:2])
        return node.op != "DequantizeLinear" or node.inputs[0] in whole

    def _integers(self, name: str) -> bool:
        array = self.constants.get(name)
        return array is not None and array.dtype.kind in "iu"

    # -- what they become

    def _rewrite(self, node: Node) -> Iterable[Node]:
        if id(node) not in self.chosen:
            return (node,)
        if node.op == "DynamicQuantizeLinear":
            return self._round(node)
        if node.op in PRODUCTS:
            inputs = tuple(self._operand(node, place) for place in (0, 1))
            return (replace(node, op=PRODUCTS[node.op], inputs=inputs),)
        if node.op == "DequantizeLinear":
            return (replace(node, op="Mul", inputs=node.inputs[:2], attributes={}),)
        if node.op == "Cast":
            return (replace(node, op="Identity", attributes={}),)
        if node.op in SUMS:
            inputs = tuple(
                self._constant(node, name, self.constants[name]) if name in self.constants else name
                for name in node.inputs
            )
            return (replace(node, inputs=inputs),)
        return (node,)

    def _operand(self, node: Node, place: int) -> str:
        """An operand of a product: distances, or weights without their zero points."""
        name, zero = _input(node, place), _input(node, place + 2)
        if name not in self.constants:
            return name
        array = self.constants[name].astype(np.int32)
        if zero:
            points = self.constants[zero].astype(np.int32)
            if points.ndim and node.op == "ConvInteger":  # one for each output channel
                points = points.reshape(-1, *(1,) * (array.ndim - 1))
            elif points.ndim and place == 0:  # one for each row
                points = points.reshape(*points.shape, *(1,) * (points.ndim == 1))
            array = np.asarray(array - points)
        return self._constant(node, name, array)

    def _constant(self, node: Node, name: str, array: AnyArray) -> str:
        """The name of a constant in floats."""
        made = self._fresh(node, name)
        self.constants[made] = array.astype(np.float32)
        return made

    def _round(self, node: Node) -> list[Node]:
        """The nodes that find the range of a value and its distances."""
        nodes: list[Node] = []

        def add(op: str, *inputs: str | float, y: str = "", attributes: Mapping[str, int] | None = None) -> str:
            names = [self._number(node, item) if isinstance(item, float) else item for item in inputs]
            y = y or self._fresh(node, op)
            nodes.append(replace(node, op=op, inputs=tuple(names), outputs=(y,), attributes=attributes or {}))
            return y

        x, (levels, scale) = node.inputs[0], node.outputs[:2]
        high, low = (
            add(bound, add(reduction, x, attributes={"keepdims": 0}), 0.0)
            for bound, reduction in (("Max", "ReduceMax"), ("Min", "ReduceMin"))
        )
        step = add("Div", add("Sub", high, low), LEVELS)
        scale = add("Where", add("Greater", step, 0.0), step, 1.0, y=scale)
        point = add("Round", add("Div", add("Neg", low), scale))
        least, most = add("Neg", point), add("Sub", LEVELS, point)
        if levels:
            add("Max", add("Min", add("Round", add("Div", x, scale)), most), least, y=levels)
        return nodes

    def _number(self, node: Node, number: float) -> str:
        name = self._fresh(node, "number")
        self.constants[name] = np.asarray(number, np.float32)
        return name

    def _fresh(self, node: Node, what: str) -> str:
        """A name that no value has."""
        return make_name(f"{node.label}/{what}", self.taken)


def _input(node: Node, place: int) -> str:
    """The name of an input; none where it is left out."""
    return node.inputs[place] if place < len(node.inputs) else ""
