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

It must not fire on: integers that anything else reads, or that are an output; levels that are read without their zero
point, whose distances they are not; zero points that are not those of the value, or that do not fit the weights;
weights that are computed, unless they were quantised so, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeGuard

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
_BYTES: Final = frozenset(map(np.dtype, ("int8", "uint8")))


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
        if not node.inputs or not node.outputs:
            return False
        match node.op:
            case "DynamicQuantizeLinear":
                return len(node.inputs) == 1 and len(node.outputs) == 3
            case "ConvInteger" | "MatMulInteger":
                return len(node.inputs) <= 4 and all(self._factor(node, place) for place in (0, 1))
            case "DequantizeLinear":
                maker = self.makers.get(node.inputs[0])
                return _is_rounding(maker) and node.inputs == maker.outputs and node.attributes.keys() <= {"axis"}
            case "Cast":
                return self._casts(node)
        return node.op in MOVES or node.op in SUMS

    def _casts(self, node: Node) -> bool:
        """Whether a Cast makes floats of integers, or integers of whole floats."""
        maker = self.makers.get(node.inputs[0])
        made_whole = maker is not None and maker.op in ROUNDED and not maker.domain
        return _casts_to(node, _FLOAT) or (made_whole and _casts_to(node, *_WIDE))

    def _factor(self, node: Node, place: int) -> bool:
        """Whether an operand of a product is constant, or comes from DynamicQuantizeLinear with its own zero point."""
        name, zero = _input(node, place), _input(node, place + 2)
        if name in self.constants:
            return self._points(node, place) is not None
        maker = self.makers.get(name)
        return _is_rounding(maker) and (name, zero) == maker.outputs[::2]

    def _whole(self, node: Node) -> tuple[str, ...]:
        """The outputs of a chosen node that are integers to ONNX."""
        if node.op == "DynamicQuantizeLinear":
            return tuple(name for name in (*node.outputs[:1], *node.outputs[2:3]) if name)
        if node.op == "DequantizeLinear" or _casts_to(node, _FLOAT):
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
        if not all(self._takes(reader, node, name) for name in made for reader in self.readers.get(name, ())):
            return False
        if node.op in SUMS:
            return all(name in whole or self._integers(name) for name in node.inputs)
        if node.op in MOVES or node.op == "DequantizeLinear" or _casts_to(node, _FLOAT):
            return node.inputs[0] in whole
        if node.op in PRODUCTS:
            return all(name in whole or name in self.constants for name in node.inputs[:2])
        return True

    def _takes(self, reader: Node, maker: Node, name: str) -> bool:
        """Whether a reader takes an integer for what it becomes: a distance from its zero point, or the number."""
        if id(reader) not in self.chosen:
            return False
        if maker.op == "DynamicQuantizeLinear":
            return reader.op in PRODUCTS or reader.op == "DequantizeLinear"
        return reader.op in SUMS or name not in reader.inputs[1:]

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
            return (replace(node, attributes={"to": _FLOAT}),)
        if node.op in SUMS:
            inputs = tuple(
                self._constant(node, name, self.constants[name]) if name in self.constants else name
                for name in node.inputs
            )
            return (replace(node, inputs=inputs),)
        return (node,)

    def _operand(self, node: Node, place: int) -> str:
        """An operand of a product: distances, or weights without their zero points."""
        name = node.inputs[place]
        points = self._points(node, place)
        return name if points is None else self._constant(node, name, self.constants[name].astype(np.int32) - points)

    def _points(self, node: Node, place: int) -> AnyArray | None:
        """Zero points of a constant operand, in a shape that fits it; none where it is computed, or they do not fit."""
        zero = _input(node, place + 2)
        array, points = self.constants.get(node.inputs[place]), self.constants.get(zero, np.zeros((), np.uint8))
        if array is None or (zero and zero not in self.constants) or not {array.dtype, points.dtype} <= _BYTES:
            return None
        if points.size == 1:
            points = points.reshape(())
        elif node.op == "ConvInteger":  # one for each output channel
            points = points.reshape(-1, *(1,) * (array.ndim - 1))
        elif points.ndim == 1 and place == 0:  # one for each row
            points = points.reshape(-1, 1)
        sizes = zip(reversed(points.shape), reversed(array.shape), strict=False)
        if points.ndim > array.ndim or not all(size in (1, full) for size, full in sizes):
            return None
        return points

    def _constant(self, node: Node, name: str, array: AnyArray) -> str:
        """The name of a constant in floats."""
        made = self._fresh(node, name)
        self.constants[made] = np.asarray(array, np.float32)
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


def _is_rounding(node: Node | None) -> TypeGuard[Node]:
    """Whether a node finds the levels of a value, their scale and their zero point."""
    return node is not None and node.op == "DynamicQuantizeLinear" and not node.domain and len(node.outputs) == 3


def _casts_to(node: Node, *numbers: int) -> bool:
    """Whether a node is a Cast to one of ONNX's types."""
    to = node.attributes.get("to")
    return node.op == "Cast" and isinstance(to, int) and to in numbers
