"""Analyses through products of two values, computed weights and constants: everything along the contracted axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.analysis.border import find_border
from omniconv.analysis.connectivity import count_paths
from omniconv.analysis.forward import count_forward
from omniconv.analysis.trace import trace
from omniconv.graph import to_program
from omniconv.program.program import Program


def product(left: tuple[int, ...], right: tuple[int, ...], transposed: bool = False) -> Program:
    g = Graph()
    b = g.input("b", *right)
    if transposed:
        b = g.node("Transpose", b, perm=[*range(len(right) - 2), len(right) - 1, len(right) - 2])
    return to_program(g.model(g.node("MatMul", g.input("a", *left), b, name="y")))


def depends(program: Program, name: str, shape: tuple[int, ...], at: tuple[int, ...]) -> Any:
    """By changing every element of an input in turn: whether the output at a place changes."""
    from tests.program_oracle import run_program

    rng = np.random.default_rng(0)
    given = {key: rng.uniform(1, 2, program.shapes[key]) for key in program.inputs}
    before = run_program(program, given)["y"][at]
    found = np.zeros(shape, bool)
    for index in np.ndindex(shape):
        changed = {key: value.copy() for key, value in given.items()}
        changed[name][index] += 1
        found[index] = run_program(program, changed)["y"][at] != before
    return found


CASES = [
    ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 1, 4, 5)),
    ((2, 2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((3, 4), (4, 5)),
]


@pytest.mark.parametrize(("left", "right"), CASES, ids=str)
def test_traces_of_a_product_are_exact(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    program = product(left, right)
    shape = program.shapes["y"]
    for at in (tuple(0 for _ in shape), tuple(size - 1 for size in shape)):
        demand = np.zeros(shape, bool)
        demand[at] = True
        found = trace(program, "y", demand)
        for name, size in (("a", left), ("b", right)):
            np.testing.assert_array_equal(found[name], depends(program, name, size, at))


def test_convolutions_depend_on_all_of_their_computed_weights() -> None:
    g = Graph()
    names = [g.input("x", 1, 2, 6, 6), g.input("w", 3, 2, 3, 3), g.input("b", 3)]
    program = to_program(g.model(g.node("Conv", *names, name="y")))
    demand = np.zeros(program.shapes["y"], bool)
    demand[0, 1, 2, 2] = True
    found = trace(program, "y", demand)
    assert found["w"].all()
    assert found["x"].sum() == 2 * 9
    cost = oc.cost(program)
    assert (cost.weights, cost.biases) == (0, 0)
    assert cost.layers[0].macs == 3 * 2 * 9 * 16
    assert oc.receptive_field(program, source="x").size == (3, 3)


def test_costs_of_products() -> None:
    cost = oc.cost(product((2, 3, 4), (4, 5), transposed=False))
    assert cost.layers[0].macs == 2 * 3 * 4 * 5
    assert cost.layers[0].kind == "product"
    assert cost.layers[0].bytes_read == 4 * (24 + 20)


def test_constants_depend_on_nothing() -> None:
    g = Graph()
    mixed = g.node("Concat", g.random(1, 2, 6, 6), g.input("x", 1, 3, 6, 6), axis=1)
    program = to_program(g.model(g.node("Conv", mixed, g.random(4, 5, 3, 3), name="y", pads=[1] * 4)))
    counts = count_paths(program, "y", "x")
    np.testing.assert_array_equal(counts, np.ones((4, 3)))
    assert find_border(program, "y")[0, 0, 0, 0]
    assert not find_border(program, "y")[0, 0, 2, 2]
    assert count_forward(program, "y").shape == (1, 4, 6, 6)
    assert oc.receptive_field(program).size == (3, 3)
    (layer,) = [layer for layer in oc.cost(program).layers if layer.kind == "constant"]
    assert (layer.bytes_weights, layer.bytes_written, layer.macs) == (4 * 72, 0, 0)


@pytest.mark.parametrize(("left", "right"), CASES, ids=str)
def test_paths_of_channels_through_products(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """A path for every pair of channels of which one has an element that the other depends on."""
    program = product(left, right)
    shape = program.shapes["y"]
    for name, size in (("a", left), ("b", right)):
        counts = count_paths(program, "y", name) > 0
        real = np.zeros((shape[1], size[1]), bool)
        for at in np.ndindex(shape):
            demand = np.zeros(shape, bool)
            demand[at] = True
            found = trace(program, "y", demand)[name]
            real[at[1]] |= found.any(axis=tuple(axis for axis in range(len(size)) if axis != 1))
        assert (counts >= real).all(), (name, counts, real)


def test_fields_of_products_are_rows_and_columns() -> None:
    program = product((1, 2, 6, 7), (1, 2, 7, 5))
    at = (3, 4)
    left = oc.receptive_field(program, source="a", position=at)
    right = oc.receptive_field(program, source="b", position=at)
    assert left.size == (1, 7)
    assert right.size == (7, 1)
