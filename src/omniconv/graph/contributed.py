"""Operators of ONNX Runtime's own domain, ``com.microsoft``, as the nodes of ONNX that they stand for.

Files that ONNX Runtime's tools quantised have them. They are replaced while a file is read, so that nothing else knows
of them. Sources: ContribOperators.md of ONNX Runtime.

A ``QLinear...`` is DequantizeLinear, the operator on floats, and QuantizeLinear; a result may be one level beside that
of ONNX Runtime, where a sum lies next to the middle between two. A ``DynamicQuantizeLSTM`` rounds X to levels of its
range, and is a rounded LSTM (:class:`omniconv.program.steps.RecurrentStep`) of weights without scales and zero points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.nodes import Attribute, Node, shorten
from omniconv.graph.scope import collect_names, make_name
from omniconv.graph.tensors import number_of_dtype

DOMAIN: Final = "com.microsoft"
ROUNDED: Final = "ai.omniconv.rounded"
"""Of the LSTM that rounds its states, which no file needs to have."""
PER_AXIS: Final = 13
"""The opset from which on DequantizeLinear has several scales."""
_FLOAT: Final = number_of_dtype(np.dtype(np.float32))


class _Replacement:
    """The nodes in place of one node."""

    def __init__(self, node: Node, version: int, taken: set[str]) -> None:
        self.node, self.version, self.taken = node, version, taken
        self.nodes: list[Node] = []

    def input(self, place: int) -> str:
        """The name of an input; none where it is left out."""
        return self.node.inputs[place] if place < len(self.node.inputs) else ""

    def kept(self, *without: str) -> dict[str, Attribute]:
        """The attributes of the node, less some."""
        return {key: value for key, value in self.node.attributes.items() if key not in without}

    def add(
        self, op: str, *inputs: str, y: str = "", domain: str = "", attributes: Mapping[str, Attribute] | None = None
    ) -> str:
        """Append a node of one output, and return its name."""
        y = y or self.fresh(op)
        self.append(op, inputs, (y,), attributes or {}, domain)
        return y

    def append(
        self,
        op: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: Mapping[str, Attribute],
        domain: str = "",
    ) -> None:
        """Append a node."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        node = self.node
        self.nodes.append(
            replace(
                node, op=op, domain=domain, inputs=inputs, outputs=outputs, attributes=attributes, version=self.version
            )
        )

    def fresh(self, what: str) -> str:
        return make_name(f"{self.node.label}/{what}", self.taken)

    def constant(self, value: Any, dtype: str) -> str:
        """The name of a constant."""
        return self.add("Constant", attributes={"value": np.asarray(value, dtype)})

    def numbers(self, place: int, axis: int = 1) -> str:
        """A quantised input, its scale and its zero point, as floats; the axis is that of several scales."""
        attributes = {"axis": axis} if self.version >= PER_AXIS else {}
        return self.add("DequantizeLinear", *(self.input(place + index) for index in range(3)), attributes=attributes)

    def levels(self, x: str, place: int) -> None:
        """The output: floats on the levels that the inputs from a place on say, of the type of their zero point."""
        if not self.input(place + 1):
            raise ModelError("the zero point of the output is left out", need="one", at=self.node.place)
        self.add("QuantizeLinear", x, self.input(place), self.input(place + 1), y=self.node.outputs[0])

    def scaled(self, x: str, scales: tuple[str, str], bias: str) -> None:
        """The output: sums of integers times two scales, and a bias where there is one."""
        y, number = self.node.outputs[0], self.add("Cast", x, attributes={"to": _FLOAT})
        product = self.add("Mul", number, self.add("Mul", *scales), y="" if bias else y)
        if bias:
            self.add("Add", product, bias, y=y)

    def rounded(self, x: str) -> tuple[str, str, str]:
        """Levels of the range of a value, scale and zero point."""
        names = self.fresh("levels"), self.fresh("scale"), self.fresh("zero point")
        self.append("DynamicQuantizeLinear", (x,), names, {})
        return names


def _binary(body: _Replacement) -> None:
    op = body.node.op.removeprefix("QLinear")
    body.levels(body.add(op, body.numbers(0), body.numbers(3)), 6)


def _unary(body: _Replacement) -> None:
    op = body.node.op.removeprefix("QLinear")
    body.levels(body.add(op, body.numbers(0), attributes=body.kept("channels_last")), 3)


def _concat(body: _Replacement) -> None:
    parts = [body.numbers(place) for place in range(2, len(body.node.inputs), 3)]
    body.levels(body.add("Concat", *parts, attributes=body.kept()), 0)


def _gemm(body: _Replacement) -> None:
    alpha = body.node.number("alpha", 1.0)
    bias = body.input(6)
    if bias:
        scale = body.add("Mul", body.input(1), body.input(4))
        bias = body.add("Mul", body.add("Cast", bias, attributes={"to": _FLOAT}), scale)
        bias = body.add("Mul", bias, body.constant(alpha, "float32"))
    y = "" if body.input(7) else body.node.outputs[0]
    b = body.numbers(3, axis=0 if body.node.attributes.get("transB", 0) else 1)
    found = body.add("Gemm", body.numbers(0), b, bias, y=y, attributes=body.kept())
    if body.input(7):
        body.levels(found, 7)


def _dynamic_matmul(body: _Replacement) -> None:
    levels, scale, point = body.rounded(body.input(0))
    total = body.add("MatMulInteger", levels, body.input(1), point, body.input(3))
    body.scaled(total, (scale, body.input(2)), body.input(4))


def _integer_matmul(body: _Replacement) -> None:
    total = body.add("MatMulInteger", body.input(0), body.input(1), body.input(4), body.input(5))
    body.scaled(total, (body.input(2), body.input(3)), body.input(6))


_PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}  # fmt: skip
"""Activations of FusedConv, and what their parameters are called."""


def _fused_conv(body: _Replacement) -> None:
    name, given = body.node.text("activation", ""), body.node.attributes.get("activation_params", ())
    if name and name not in _PARAMETERS:
        raise ModelError(f"activation {shorten(repr(name))}", need=" or ".join(_PARAMETERS), at=body.node.place)
    words = _PARAMETERS.get(name, ())
    values = [value for value in given if isinstance(value, float)] if isinstance(given, tuple) else []
    if len(values) != len(words) and name:
        need = f"{len(words)} floats"
        raise ModelError(f"{len(values)} parameters of {name} that are floats", need=need, at=body.node.place)
    y, extra = body.node.outputs[0], body.input(3)
    attributes = body.kept("activation", "activation_params")
    inputs = (body.input(0), body.input(1), body.input(2))
    found = body.add("Conv", *inputs, y="" if name or extra else y, attributes=attributes)
    if extra:
        found = body.add("Add", found, extra, y="" if name else y)
    if name == "Clip":
        low, high = (body.constant(value, "float32") for value in values)
        body.add("Min", body.add("Max", found, low), high, y=y)
    elif name:
        body.add(name, found, y=y, attributes=dict(zip(words, values, strict=True)))


def _lstm(body: _Replacement) -> None:
    levels, scale, point = body.rounded(body.input(0))
    x = body.add("DequantizeLinear", levels, scale, point)
    form = body.constant([0, 1, -1], "int64")
    scales = [body.add("Reshape", body.input(about), form) for about in (8, 10)]
    matrices = []
    for place, about in ((1, 8), (2, 10)):
        w = body.add("Cast", body.input(place), attributes={"to": _FLOAT})
        if body.input(about + 1):
            zero = body.add("Cast", body.input(about + 1), attributes={"to": _FLOAT})
            w = body.add("Sub", w, body.add("Reshape", zero, form))
        if place == 1:
            w = body.add("Mul", w, scales[0])
        matrices.append(body.add("Transpose", w, attributes={"perm": (0, 2, 1)}))
    inputs = (x, *matrices, *(body.input(place) for place in range(3, 8)), scales[1])
    body.append("LSTM", inputs, body.node.outputs, body.kept(), ROUNDED)


class _Contributed(NamedTuple):
    """What makes the nodes, the most inputs and outputs, and whether there are attributes, which are checked where the
    nodes that have them then are read.
    """

    make: Callable[[_Replacement], None]
    inputs: int
    attributes: bool = False
    outputs: int = 1


MOST_JOINED: Final = 3 * 4096
CONTRIBUTED: Final[dict[str, _Contributed]] = {
    "QLinearAdd": _Contributed(_binary, 8),
    "QLinearMul": _Contributed(_binary, 8),
    "QLinearSigmoid": _Contributed(_unary, 5),
    "QLinearLeakyRelu": _Contributed(_unary, 5, True),
    "QLinearAveragePool": _Contributed(_unary, 5, True),
    "QLinearGlobalAveragePool": _Contributed(_unary, 5, True),
    "QLinearConcat": _Contributed(_concat, MOST_JOINED, True),
    "QGemm": _Contributed(_gemm, 9, True),
    "DynamicQuantizeMatMul": _Contributed(_dynamic_matmul, 5),
    "MatMulIntegerToFloat": _Contributed(_integer_matmul, 7),
    "FusedConv": _Contributed(_fused_conv, 4, True),
    "DynamicQuantizeLSTM": _Contributed(_lstm, 12, True, 3),
}
"""By name."""


def replace_contributed(nodes: list[Node], version: int) -> list[Node]:
    """Nodes with those of ``com.microsoft`` that are known replaced.

    Args:
        nodes: of one graph.
        version: ONNX's opset.

    Raises:
        ModelError: inputs, outputs or attributes that an operator does not have.
    """
    if not any(node.domain == DOMAIN for node in nodes):
        return nodes
    taken, found = collect_names(nodes), []
    for node in nodes:
        entry = CONTRIBUTED.get(node.op) if node.domain == DOMAIN else None
        if entry is None or node.attributes.get("channels_last", 0):
            found.append(node)
            continue
        _check(node, entry)
        body = _Replacement(node, version, taken)
        entry.make(body)
        found += body.nodes
    return found


def _check(node: Node, entry: _Contributed) -> None:
    """Compare a node with what its operator has; what is left out is noticed where the nodes in its place are read."""
    if len(node.inputs) > entry.inputs or not 1 <= len(node.outputs) <= entry.outputs:
        raise ModelError(
            f"{len(node.inputs)} inputs and {len(node.outputs)} outputs of {node.op}",
            need=f"at most {entry.inputs} and {entry.outputs}",
            at=node.place,
        )
    if node.attributes and not entry.attributes:
        key = min(node.attributes)
        raise ModelError(f"attribute {shorten(key)!r} does not exist on {node.op}", need="none", at=node.place)
