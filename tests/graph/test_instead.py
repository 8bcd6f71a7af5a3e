"""What the message about an operator that is not supported names instead: it is supported, and computes the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.reference
import pytest
from tests.graph.small_models import Graph
from tests.program_oracle import run_program

from omniconv.errors import UnsupportedError
from omniconv.graph import supported_operators, to_program
from omniconv.graph.instead import INSTEAD
from omniconv.graph.operator import OPERATORS


def refused(op: str) -> str:
    g = Graph()
    with pytest.raises(UnsupportedError, match=f"operator {op} is not supported.*node 'n0'") as caught:
        to_program(g.model(g.node(op, g.input("x", 1, 3, 8, 8), name="y")))
    return caught.value.fix


def test_unknown_operators_name_what_serves_instead() -> None:
    assert refused("RMSNormalization") == "x / Sqrt(ReduceMean(Mul(x, x)) + epsilon) * scale"
    assert "unrolled" in refused("Loop")
    assert refused("Convolution") == "Conv", "no operator of ONNX: its spelling is all there is"
    for op in ("RoiAlign", "Det", "GridSample", "Sin", "DeformConv", "Softplus"):
        assert refused(op) == "", "nothing serves, whatever is spelt alike"


def test_what_serves_instead_is_supported() -> None:
    operators = {schema.name for schema in onnx.defs.get_all_schemas()}
    lowered = {name for name in supported_operators() if OPERATORS["", name].lower is not None}
    for op, words in INSTEAD.items():
        assert op in operators - set(supported_operators())
        assert operators & set(re.findall(r"[A-Za-z]+", words)) - {"If"} <= lowered, op


# The left side is not supported; the right side is made of what is.
FORMULAS: dict[str, tuple[dict[str, Any], Callable[[Graph, str], str]]] = {
    "Cosh": (
        {},
        lambda g, x: g.node("Div", g.node("Add", g.node("Exp", x), g.node("Exp", g.node("Neg", x))), g.const(2)),
    ),
    "LpNormalization": (
        {"p": 2, "axis": 1},
        lambda g, x: g.node("Div", x, g.node("Sqrt", g.node("ReduceSum", g.node("Mul", x, x), g.ints(1)))),
    ),
    "LpPool": (
        {"p": 2, "kernel_shape": [2, 2]},
        lambda g, x: g.node(
            "Sqrt", g.node("Mul", g.node("AveragePool", g.node("Mul", x, x), kernel_shape=[2, 2]), g.const(4.0))
        ),
    ),
    "ReduceL1": ({"axes": [2]}, lambda g, x: g.node("ReduceSum", g.node("Abs", x), g.ints(2))),
    "ReduceL2": ({"axes": [2]}, lambda g, x: g.node("Sqrt", g.node("ReduceSum", g.node("Mul", x, x), g.ints(2)))),
    "ReduceSumSquare": ({"axes": [2]}, lambda g, x: g.node("ReduceSum", g.node("Mul", x, x), g.ints(2))),
    "Softsign": ({}, lambda g, x: g.node("Div", x, g.node("Add", g.node("Abs", x), g.const(1.0)))),
}


@pytest.mark.parametrize("op", FORMULAS)
def test_what_serves_instead_computes_the_same(op: str) -> None:
    """ONNX's own evaluator runs the operator; we run what the message names."""
    attributes, build = FORMULAS[op]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    g = Graph()
    g.node(op, g.input("x", *x.shape), name="y", **attributes)
    want = onnx.reference.ReferenceEvaluator(g.model("y")).run(None, {"x": x})[0]
    g = Graph()
    y = build(g, g.input("x", *x.shape))
    found = run_program(to_program(g.model(y, shapes=[[None] * 4])), {"x": x})[y]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
