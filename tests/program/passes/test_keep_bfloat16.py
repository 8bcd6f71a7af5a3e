"""Which values and weights are kept as bfloat16, and which are not."""

from __future__ import annotations

import numpy as np
import pytest
from tests.graph.small_models import Graph

from omniconv.errors import SpecError
from omniconv.graph import to_program
from omniconv.program.element import BFLOAT16, FLOAT64
from omniconv.program.passes.keep_bfloat16 import describe_kept, keep_bfloat16


def kept(program) -> set[str]:
    return {name for name, element in program.elements.items() if element is BFLOAT16}


def test_what_layers_make_is_kept_and_nothing_else() -> None:
    g = Graph()
    x = g.input("x", 1, 8, 6, 6)
    a = g.conv(x, 8, 8)
    pooled = g.node("MaxPool", a, name="pooled", kernel_shape=[2, 2], strides=[2, 2])
    truth = g.node("Cast", g.node("Greater", a, g.const(0.5)), name="truth", to=1)
    whole = g.node("Floor", a, name="whole")
    small = g.node("GlobalAveragePool", pooled, name="small")
    turned = g.node("Transpose", x, name="turned", perm=[0, 1, 3, 2])
    place = g.node("Mul", turned, g.const(np.arange(6)), name="place")
    both = g.node("Concat", pooled, g.node("MaxPool", place, kernel_shape=[2, 2], strides=[2, 2]), axis=1, name="both")
    last = g.node("Resize", g.conv(both, 8, 16), "", g.const([1, 1, 2, 2]), name="last")
    g.node("Sum", truth, whole, place, small, last, name="y")
    program = keep_bfloat16(to_program(g.model("y", "small")))
    found = kept(program)
    assert {"pooled", "last"} <= found
    assert not found & {"x", "y", "small", "truth", "whole", "turned", "place", "both"}
    assert len(program.rounded) == 2
    assert describe_kept(program)[0].endswith("the weights of 2 of 2 layers")


def test_layers_by_name_stay() -> None:
    g = Graph()
    x = g.conv(g.node("Relu", g.conv(g.input("x", 1, 4, 6, 6), 4, 4)), 4, 4)
    program = to_program(g.model(g.node("Relu", g.conv(x, 4, 4), name="y")))
    first, _, last = (step.y for step in program.steps)
    label = program.labels[1]
    found = keep_bfloat16(program, {label})
    assert found.rounded == {first, last}
    assert kept(found) == {first}
    assert f"    {label}: float32, because that was asked for" in describe_kept(found, {label})


@pytest.mark.parametrize("number", [1e-39, 3.4e38])
def test_weights_outside_the_range_stay(number: float) -> None:
    g = Graph()
    w = np.ones((4, 4, 1, 1))
    w[1, 2] = number
    y = g.node("Conv", g.node("Conv", g.input("x", 1, 4, 3, 3), g.const(w), name="v"), g.random(4, 4, 1, 1), name="y")
    program = keep_bfloat16(to_program(g.model(y)))
    assert program.rounded == {"y"}
    assert not kept(program)
    assert "float32, because its weights leave the range" in describe_kept(program)[1]


def test_results_with_finite_constants_that_would_be_infinite_stay() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 4, 3, 3), 4, 4)
    mask, number, endless = (g.const(value) for value in ([0, -3.4e38, 0], 3.4e38, [0, -np.inf, 0]))
    g.node("Add", g.node("Sigmoid", x), mask, name="masked")
    g.node("Add", g.node("Tanh", x), endless, name="hidden")
    g.node("Clip", x, g.const(0), number, name="bounded")
    g.node("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 1, 1), g.const(-3.4e38), name="padded")
    names = ("masked", "hidden", "bounded", "padded")
    pooled = [g.node("MaxPool", name, kernel_shape=[2, 2]) for name in names]
    program = keep_bfloat16(to_program(g.model(*pooled)))
    assert set(names) <= set(program.shapes)
    assert kept(program) & set(names) == {"hidden", "bounded"}


def test_programs_in_float64_are_refused() -> None:
    g = Graph()
    program = to_program(g.model(g.conv(g.input("x", 1, 4, 3, 3), 4, 4)), element=FLOAT64)
    with pytest.raises(SpecError, match=r"precision='bfloat16' with dtype='float64'.*float32"):
        keep_bfloat16(program)
