"""Multiplications that are done: of a plan those of its products, and the same in costs, profiles and comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.machines import V3

import omniconv as oc
from omniconv import inspection
from omniconv.analysis import Machine
from omniconv.compiler.kernels.winograd.constant import transform_weights
from omniconv.compiler.kernels.winograd.forms import list_forms
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import walks
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.report.comparison import LayerSizes, compare_kinds
from omniconv.spec import Conv

LAYERS = {
    "plane": (Conv.of(32, 48, 3, padding=1), (2, 32, 13, 18)),
    "dilated": (Conv.of(64, 64, 3, padding=2, dilation=2), (1, 64, 21, 21)),
    "groups": (Conv.of(128, 128, 3, padding=1, groups=4), (1, 128, 20, 20)),
    "axis": (Conv.of(64, 64, (1, 7), padding=(0, 3)), (1, 64, 17, 17)),
    "parts": (Conv.of(64, 96, 5, padding=2, stride=2), (1, 64, 28, 28)),
    "parts of one axis": (Conv.of(32, 64, (3, 5), padding=(1, 2), stride=(1, 2)), (1, 32, 40, 40)),
    "phases": (Conv.of(64, 64, 4, padding=1, stride=2, transposed=True), (1, 64, 19, 19)),
    "volume": (Conv.of(32, 32, 3, padding=1, dims=3), (1, 32, 9, 20, 20)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_they_are_the_products_of_the_panel_kernel(name: str) -> None:
    """But for the blocks that the last slab has too many."""
    spec, shape = LAYERS[name]
    weights = random_weights(spec, np.random.default_rng(0))
    found = plan(program_of(spec, shape, weights), V3, Options(layout="NHWC"))
    panels = [call.recipe for call in found.calls if call.what == "panel"]
    blocks = next(call.recipe for call in found.calls if call.what == "winograd_input").blocks
    done = sum(
        each.groups * each.inputs * each.outputs * math.prod(axis.output * axis.kernel for axis in each.axes)
        for each in panels
    )
    slabs = math.ceil(blocks.count / blocks.slab)
    calls = sum(call.what == "winograd_input" for call in found.calls)
    assert len(panels) == calls * len(blocks.sets)
    assert found.filtered == {0: done * blocks.count // (slabs * blocks.slab)}
    assert spec.count_macs(shape) / found.filtered[0] <= blocks.saving * (1 + 1e-9)


def test_costs_profiles_and_comparisons_have_them() -> None:
    spec, shape = Conv.of(64, 64, 3, padding=1), (1, 64, 16, 16)
    weights = random_weights(spec, np.random.default_rng(0))
    machine = Machine(flops=1e9, bandwidth=1e15)
    for exact in (False, True):
        run = oc.compile(spec, shape, weights, exact=exact)
        found = inspection.cost(run)
        expected = found.macs // (1 if exact else 4)  # F(4x4, 3x3): 36 products for 16 outputs of 9 taps
        assert (found.multiplications, found.layers[0].filtered) == (expected, None if exact else expected)
        assert found.roofline_seconds(machine) == pytest.approx(2 * expected / machine.flops)
        steps = run.profile(np.ones(shape, np.float32), 1)
        assert sum(step.multiplications for step in steps) == expected
        assert sum(step.macs for step in steps) == found.macs
    assert inspection.cost(spec, shape).multiplications == found.macs


def test_least_times_are_those_of_what_is_compiled() -> None:
    layer = LayerSizes(32, 32, 3, 16)
    machine = Machine(flops=1e9, bandwidth=1e15)
    planned = compare_kinds(layer, measure=False, limits=machine).standard
    measured = compare_kinds(layer, limits=machine, rounds=1, turn=0.0).standard
    assert planned.multiplications is None
    assert measured.multiplications is not None
    assert measured.multiplications < planned.cost.macs
    assert measured.bound_seconds == pytest.approx(2 * measured.multiplications / machine.flops)
    assert measured.bound_seconds < planned.bound_seconds


@pytest.mark.parametrize(
    ("kernel", "stride", "transposed", "name", "saving"),
    [
        (3, 2, False, "F(4x4, 2x2)", 144 / 81),
        (5, 2, False, "F(4x4, 3x3)", 400 / 121),
        (5, 3, False, "F(3x3, 2x2)", 225 / 121),
        (4, 2, False, "F(4x4, 2x2)", 256 / 100),
        (3, 2, True, "F(4x4, 2x2)", 144 / 81),
        (4, 2, True, "F(4x4, 3x3)", 256 / 100),
        (4, 2, True, "F(3x3, 2x2)", 144 / 64),
        (5, 2, True, "F(4x4, 3x3)", 400 / 121),
        (7, 2, True, "F(3x3, 4x4)", 441 / 121),
    ],
)
def test_a_part_or_phase_that_lacks_a_tap_at_an_end_has_no_product_there(
    kernel: int, stride: int, transposed: bool, name: str, saving: float
) -> None:
    """Every product is of a point, a part and a phase whose weights are not all zero there; none is missing."""
    spec = Conv.of(
        16, 16, kernel, stride=stride, padding=kernel // 2 - transposed * (kernel % 2 == 0), transposed=transposed
    )
    problem = Problem(1, walks(spec, (40, 40)), 1, 16, 16)
    [blocks] = [each for each in list_forms(problem) if name in each.name]
    assert blocks.saving == pytest.approx(saving)
    whole = [axis.undivided for axis in blocks.axes]
    w = np.random.default_rng(0).uniform(1, 2, (1, 1, 1, kernel, kernel))
    used = transform_weights(w, blocks.axes, whole).reshape(blocks.points, blocks.phases, blocks.parts) != 0
    taken = np.zeros_like(used)
    rows, starts = np.argsort(blocks.slots), np.argsort(blocks.order)
    for each in blocks.sets:
        points = starts[each.first : each.first + each.points]
        taken[np.ix_(points, each.phases, rows[each.slot : each.slot + each.parts])] = True
    assert np.array_equal(used, taken)
