"""What the message about an operator that is not supported names instead: it is supported, and computes the same."""

from __future__ import annotations

import re

import onnx.defs
import pytest
from tests.graph.small_models import Graph

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
    assert refused("CenterCropPad") == "Slice and Pad"
    assert "unrolled" in refused("Loop")
    assert refused("Convolution") == "Conv", "no operator of ONNX: its spelling is all there is"
    for op in ("MaxRoiPool", "Det", "DeformConv"):
        assert refused(op) == "", "nothing serves, whatever is spelt alike"


def test_what_serves_instead_is_supported() -> None:
    operators = {schema.name for schema in onnx.defs.get_all_schemas()}
    lowered = {name for name in supported_operators() if OPERATORS["", name].lower is not None}
    for op, words in INSTEAD.items():
        assert op in operators - lowered
        assert operators & set(re.findall(r"[A-Za-z]+", words)) - {"If"} <= lowered, op
