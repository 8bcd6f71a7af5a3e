"""The input that a region needs, against brute force: what moves it, and what may be anything."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import ALL, few, programs
from tests.program.steps_drawn import DRAWS, program_of
from tests.program_oracle import run_program

from omniconv.analysis import find_support, receptive_field, required_input
from omniconv.errors import ShapeError, SpecError
from omniconv.program.program import Program
from omniconv.program.steps import ChannelStep, ConvStep, CumSumStep, MapStep, PostOp
from omniconv.spec import Conv


@st.composite
def regions(draw, sizes):
    starts = [draw(st.integers(0, size - 1)) for size in sizes]
    return tuple((start, draw(st.integers(start + 1, size))) for start, size in zip(starts, sizes, strict=True))


def inside(box):
    return (..., *(slice(start, stop) for start, stop in box))


@few
@given(st.data(), programs(ops=ALL, sizes=(1, 7), longest=5, widest=20))
def test_a_region_needs_exactly_what_moves_it(data, program):
    shape = program.shapes["x"]
    name = program.outputs[0]
    box = data.draw(regions(program.shapes[name][2:]))
    found = required_input(program, box)
    # Raised far above the rest, a position is the maximum of every window that it lies in.
    x = np.random.default_rng(0).uniform(0.5, 1.0, shape)
    base = run_program(program, {"x": x})[name][inside(box)]
    for place in np.ndindex(*shape[2:]):
        moved = x.copy()
        moved[(..., *place)] += 1e6
        changed = not np.array_equal(run_program(program, {"x": moved})[name][inside(box)], base)
        assert changed == found.support[place], place
    noise = np.where(found.support, x, np.random.default_rng(1).uniform(-9, 9, shape))
    assert np.array_equal(run_program(program, {"x": noise})[name][inside(box)], base)


@few
@given(st.data(), programs(ops=ALL, sizes=(1, 9), longest=5, widest=20))
def test_a_region_needs_what_its_positions_need(data, program):
    name = program.outputs[0]
    box = data.draw(regions(program.shapes[name][2:]))
    found = required_input(program, box)
    border = receptive_field(program).border
    joined, padded = np.zeros_like(found.support), False
    for place in np.ndindex(*(stop - start for start, stop in box)):
        position = tuple(start + o for (start, _), o in zip(box, place, strict=True))
        joined |= find_support(program, name, "x", position)
        padded |= bool(border[position])
    assert np.array_equal(found.support, joined)
    assert found.padded == padded
    around = np.zeros_like(joined)
    around[tuple(slice(start, stop) for start, stop in found.box)] = True
    assert (around >= joined).all()
    assert found.positions == around.sum()
    for axis, (start, stop) in enumerate(found.box):
        if stop > start:
            assert joined.take(start, axis).any()
            assert joined.take(stop - 1, axis).any()


@pytest.mark.parametrize("seed", range(20))
def test_running_sums_need_all_before_them(seed):
    step, shapes, result = DRAWS[CumSumStep](Random(seed))
    program = program_of((step, shapes, result))
    if len(result) < 3:
        with pytest.raises(SpecError, match="box"):
            required_input(program, [(0, 1)])
        return
    box = tuple((size // 2, size) for size in result[2:])
    found = required_input(program, box)
    axis = step.axis % len(result) - 2
    for n, ((start, stop), size) in enumerate(zip(box, result[2:], strict=True)):
        if n != axis:
            want = (start, stop)
        elif step.reverse:
            want = (start + step.exclusive, size)
        else:
            want = (0, stop - step.exclusive)
        if found.support.any():
            assert found.box[n] == want
        else:
            assert step.exclusive


def test_channels_and_gates():
    program = Program(("x", "g"), shapes={"x": (1, 4, 8), "g": (1, 4, 1)})
    spec = Conv.of(2, 2, 1, dims=1)
    program.add(ChannelStep("x", "part", (2, 3)), (1, 2, 8))
    program.add(ConvStep("part", "c", spec, np.ones(spec.weight_shape, np.float32)), (1, 2, 8))
    program.add(ChannelStep("g", "h", (1, 0)), (1, 2, 1))
    program.add(MapStep("c", "y", (PostOp("mul", "h"),)), (1, 2, 8))
    program.outputs = ("y",)
    found = required_input(program, [(2, 5)])
    assert (found.box, found.channels, found.padded, found.positions) == (((2, 5),), (2, 4), False, 3)
    gate = required_input(program, [(2, 5)], source="g")
    assert (gate.box, gate.channels, gate.share) == (((0, 1),), (0, 2), 1.0)
    assert required_input(program, [(2, 5)], "part", source="g").positions == 0
    assert gate.to_dict()["output_box"] == [[2, 5]]


@pytest.mark.parametrize(
    "box",
    [
        [(0, 2)],
        [(0, 9), (0, 2)],
        [(1, 1), (0, 2)],
        [(-1, 2), (0, 2)],
        [(0, 1, 2), (0, 2)],
        "(0, 2)",
        None,
        [0, 2],
        [(0, 1.5), (0, 2)],
    ],
    ids=str,
)
def test_regions_that_the_value_does_not_have(box):
    with pytest.raises(SpecError, match="box"):
        required_input(Conv.of(1, 1, 3, padding=1), box, shape=(1, 1, 8, 8))


def test_a_spec_needs_a_shape():
    with pytest.raises(ShapeError, match="analysed for a shape"):
        required_input(Conv.of(1, 1, 3, padding=1), [(0, 1), (0, 1)])
