"""Sequences of tensors: written out where their elements are known, against ONNX's own evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import ModelError, UnsupportedError


def split(opset: int = 17) -> tuple[Graph, str]:
    """A graph with a sequence of three parts of one axis."""
    g = Graph(opset)
    return g, g.node("SplitToSequence", g.input("x", 6, 4), g.ints(1, 2, 3), axis=0)


def check(model: onnx.ModelProto) -> None:
    """All outputs are those of the evaluator, to the bit."""
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    found = oc.compile(model).run({"x": x})
    wanted = ReferenceEvaluator(model).run(None, {"x": x})
    for name, want in zip([info.name for info in model.graph.output], wanted, strict=True):
        np.testing.assert_array_equal(found[name], np.asarray(want, found[name].dtype))


@pytest.mark.parametrize("opset", [11, 12, 17])
def test_parts_of_a_split(opset: int) -> None:
    g, parts = split(opset)
    for name, position in (("a", 0), ("b", -1), ("c", 1)):
        g.node("Relu", g.node("SequenceAt", parts, g.const(position, np.int64)), name=name)
    check(g.model("a", "b", "c"))


@pytest.mark.parametrize("opset", [11, 17])
def test_what_is_put_in_taken_out_and_joined(opset: int) -> None:
    g, parts = split(opset)
    whole = g.node("Identity" if opset > 13 else "SequenceInsert", parts, *(() if opset > 13 else ("x",)))
    more = g.node("SequenceInsert", whole, "x", g.const(1, np.int64))
    fewer = g.node("SequenceErase", g.node("SequenceErase", more, g.const(-2, np.int64)))
    g.node("ConcatFromSequence", fewer, axis=0, name="joined")
    rows = g.node("SequenceConstruct", "x", g.node("Neg", "x"))
    for axis in (0, -1):
        g.node("ConcatFromSequence", rows, axis=axis, new_axis=1, name=f"stacked{axis}")
    grown = g.node("SequenceInsert", g.node("SequenceEmpty"), g.node("Abs", "x"))
    g.node("Add", g.node("SequenceAt", grown, g.const(0, np.int64)), g.const(1.0), name="grown")
    count = g.node("Cast", g.node("SequenceLength", more), to=onnx.TensorProto.FLOAT)
    g.node("Mul", "x", count, name="counted")
    check(g.model("joined", "stacked0", "stacked-1", "grown", "counted"))


@pytest.mark.filterwarnings("ignore::omniconv.HostWarning")
def test_sequences_inside_a_branch() -> None:
    inner, parts = split()
    inner.node("Relu", inner.node("SequenceAt", parts, inner.const(2, np.int64)), name="part")
    branch = inner.model("part").graph
    branch.ClearField("input")
    other = onnx.helper.make_graph(
        [onnx.helper.make_node("Slice", ["x", "from", "to"], ["rows"])],
        "other",
        [],
        [onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, (3, 4))],
        [onnx.numpy_helper.from_array(np.array([value]), name) for name, value in (("from", 0), ("to", 3))],
    )
    g = Graph(17)
    x = g.input("x", 6, 4)
    total = g.node("ReduceSum", x, keepdims=0, name="total")
    positive = g.node("Greater", total, g.node("Neg", total, name="less"), name="positive")
    g.node("If", positive, name="y", then_branch=branch, else_branch=other)
    check(g.model("y"))


@pytest.mark.parametrize("position", [3, -4])
def test_positions_outside_are_refused(position: int) -> None:
    g, parts = split()
    g.node("SequenceAt", parts, g.const(position, np.int64), name="y")
    with pytest.raises(ModelError, match=f"position {position} in a sequence of 3 tensors"):
        oc.compile(g.model("y"))


def test_nothing_joined_is_refused() -> None:
    g = Graph(17)
    g.node("Add", g.input("x", 6, 4), g.node("ConcatFromSequence", g.node("SequenceEmpty"), axis=0), name="y")
    with pytest.raises(ModelError, match="an empty sequence is joined"):
        oc.compile(g.model("y"))


@pytest.mark.parametrize("kind", ["position", "size", "count"])
def test_what_is_computed_stays_refused_by_name(kind: str) -> None:
    g = Graph(17)
    x = g.input("x", 6, 4)
    sizes: Any = {"size": g.const(2, np.int64), "count": g.ints(*[0] * 5000)}.get(kind, g.ints(3, 3))
    parts = g.node("SplitToSequence", x, sizes, axis=0)
    position = g.const(0, np.int64)
    if kind == "position":
        position = g.node("Cast", g.node("ReduceMax", x, keepdims=0), to=onnx.TensorProto.INT64)
    g.node("SequenceAt", parts, position, name="y")
    with pytest.raises(UnsupportedError, match="SplitToSequence"):
        oc.compile(g.model("y"))
