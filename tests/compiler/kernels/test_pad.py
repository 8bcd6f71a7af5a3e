"""Padding kernels against numpy.pad."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.pad import Padding
from omniconv.program.steps import PadStep
from omniconv.program.steps.pad import source_positions

MODES = ["constant", "reflect", "edge", "wrap"]
SAME = [(0, 0), (0, 0)]
CASES = [
    ((2, 17, 3, 5), [*SAME, (1, 2), (2, 2)]),
    ((1, 16, 4), [*SAME, (3, 0)]),
    ((1, 3, 2, 3, 4), [*SAME, (1, 1), (0, 2), (3, 3)]),
    ((2, 33, 4, 4), [(0, 0), (2, 5), (1, 0), (0, 0)]),
    ((2, 5, 2, 2), [(1, 1), (4, 0), (0, 0), (1, 1)]),
    ((3, 15), [(1, 0), (0, 2)]),
    ((1, 1, 1, 2), [*SAME, (0, 0), (1, 5)]),
    ((1, 20, 3, 3), [*SAME, (0, 0), (0, 0)]),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_equals_numpy(case, mode, target, rng):
    shape, pads = case
    x = rng.normal(size=shape).astype(np.float32)
    more = {"constant_values": np.float32(-1.5)} if mode == "constant" else {}
    expected = np.pad(x, pads, mode=mode, **more)
    for owned in (False, True):
        xs = Buffer(placed(shape, target.lanes, readable=owned, pitch=None if owned else shape[1] + 2), target.lanes, x)
        ys = Buffer(placed(expected.shape, target.lanes, tail=owned), target.lanes)
        recipe = Padding.of(PadStep("x", "y", tuple(pads), mode, -1.5), xs.layout, ys.layout, target.lanes)
        got = check_shares(recipe, target, [xs, ys, recipe.tables()], ys)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_negative_padding_crops(target, rng):
    x = rng.normal(size=(1, 19, 5, 6)).astype(np.float32)
    expected = np.pad(x[:, 2:, 1:, :-2], [(0, 0), (0, 1), (0, 2), (3, 0)])
    lanes = target.lanes
    xs, ys = Buffer(placed(x.shape, lanes), lanes, x), Buffer(placed(expected.shape, lanes), lanes)
    step = PadStep("x", "y", ((0, 0), (-2, 1), (-1, 2), (3, -2)))
    recipe = Padding.of(step, xs.layout, ys.layout, target.lanes)
    assert np.array_equal(check_shares(recipe, target, [xs, ys, recipe.tables()], ys), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_source_positions(size, mode):
    for before in range(size * 3):
        for after in (0, 1, 2 * size):
            x = np.arange(size)
            more = {"constant_values": -1} if mode == "constant" else {}
            expected = np.pad(x, (before, after), mode=mode, **more)
            assert np.array_equal(source_positions(size, before, after, mode), expected)
    assert source_positions(3, 1, 1, "wrap").tolist() == [2, 0, 1, 2, 0]
