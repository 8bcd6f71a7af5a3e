"""What can be known of a graph that holds nodes which are not supported, and a list of what cannot.

A node that is left out cuts the graph: its results of the model's float type whose shape ONNX can infer become inputs
of the program, so that everything behind them is still counted and analysed, as far back as the cut. Results of which
less is known cut off the nodes that read them too. Damaged models are refused as ever: only an `UnsupportedError` is
put up with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.fix_shapes import is_fixed
from omniconv.graph.inference import infer, make_type, read_shape
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Graph, Node, ValueInfo
from omniconv.graph.operands import Operand, Ref
from omniconv.graph.tensors import DTYPES, name_dtype, number_of
from omniconv.program.element import Element
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class Gap:
    """A node or an input that is left out.

    Attributes:
        where: its name.
        operator: the operator; ``"input"`` for an input of the model.
        text: why.
        nearest: what is supported instead, where that is known.
        known: results whose shapes are known all the same; they are inputs of the program.
        unknown: results of which too little is known.
        cause: the problem before it that is the reason, by name; empty where the node is one itself.
    """

    where: str
    operator: str
    text: str
    nearest: str = ""
    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    cause: str = ""


@dataclass(slots=True)
class Gaps:
    """What has been left out so far.

    Attributes:
        given: the type of the model's floats.
        problems: in the order of the graph.
        opaque: values that no step can read: their ONNX type, where that is known, and the problem they come from.
        read: values that nodes which were left out read; they are kept as outputs of the program.
        booleans: outputs of the program that are boolean to ONNX; analyses take them as they are.
    """

    budget: Budget
    given: Element
    problems: list[Gap] = field(default_factory=list)
    opaque: dict[str, tuple[Any, str]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    booleans: set[str] = field(default_factory=set)

    def leave_input(self, info: ValueInfo, shape: Shape | None) -> None:
        """Leave out an input of the model that is of another type than its floats."""
        dtype = DTYPES.get(info.dtype)
        kind = None if shape is None or dtype is None else make_type(dtype, shape)
        self.opaque[info.name] = kind, info.name
        text = f"an input of type {name_dtype(info.dtype)} is not analysed"
        self.problems.append(Gap(info.name, "input", text, unknown=(info.name,)))

    def find_cause(self, node: Node) -> str:
        """Name of the problem that a node cannot be lowered for, or nothing."""
        return next((self.opaque[name][1] for name in node.reads if name in self.opaque), "")

    def leave(
        self, node: Node, values: Mapping[str, Operand], program: Program, reason: UnsupportedError | None = None
    ) -> dict[str, Operand]:
        """Leave out a node; what is known of its results become inputs of the program."""
        cause = "" if reason is not None else self.find_cause(node)
        types = self._infer(node, values)
        found: dict[str, Operand] = {}
        for name in filter(None, node.outputs):
            kind = types.get(name)
            shape = read_shape(kind)
            if kind is None or shape is None or 0 in shape or kind.tensor_type.elem_type != number_of(self.given):
                self.opaque[name] = kind, cause or node.label
                continue
            self.budget.check(shape, program.element.bytes, node.place)
            program.inputs += (name,)
            program.shapes[name] = shape
            found[name] = Ref(name, shape)
        for name in node.reads:
            value = values.get(name)
            if isinstance(value, Ref) and value.name not in program.inputs and name not in self.read:
                self.read.append(name)
        unknown = tuple(name for name in node.outputs if name and name not in found)
        operator = f"{node.domain}.{node.op}" if node.domain else node.op
        text, nearest = f"reads what {cause!r} leaves unknown", ""
        if reason is not None:
            text, nearest = reason.problem, reason.fix
        self.problems.append(Gap(node.label, operator, text, nearest, tuple(found), unknown, cause))
        return found

    def _infer(self, node: Node, values: Mapping[str, Operand]) -> Mapping[str, Any]:
        """ONNX types of the results, as far as ONNX's own rule for the operator finds them."""
        types: dict[str, Any] = {}
        data: dict[str, AnyArray] = {}
        for name in filter(None, node.inputs):
            value = values.get(name)
            if isinstance(value, Ref):
                types[name] = make_type(self.given.dtype, value.shape)
            elif isinstance(value, np.ndarray):
                types[name], data[name] = make_type(value.dtype, value.shape), value
            elif name in self.opaque and self.opaque[name][0] is not None:
                types[name] = self.opaque[name][0]
        if any(name not in types for name in filter(None, node.inputs)):
            return {}
        try:
            return infer(node, types, data)
        except ModelError:
            return {}


def split_inputs(graph: Graph, gaps: Gaps) -> Graph:
    """The graph without inputs that are of another type than its floats, which go into the gaps."""
    number = number_of(gaps.given)
    for info in graph.inputs:
        if info.dtype != number:
            gaps.leave_input(info, info.dims if is_fixed(info.dims) else None)
    return replace(graph, inputs=tuple(info for info in graph.inputs if info.dtype == number))
