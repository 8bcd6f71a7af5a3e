"""Running sums against float64, and against the one order that they are added in."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.cumsum import CumSum
from omniconv.compiler.memory.layout import Layout

PLACES = {
    "last": placed,
    "major": lambda s, lanes: placed(s, lanes, order="major"),
    "apart": lambda s, lanes: Layout(s, (2 * s[1] * s[2] * 2, 2 * s[2], 2)),
}


def run(target, x, axis, exclusive, reverse, place="major"):
    lanes = target.lanes
    make = PLACES[place]
    xs, ys = Buffer(make(x.shape, lanes), lanes, x), Buffer(make(x.shape, lanes), lanes)
    dims = list(zip(x.shape, xs.layout.strides, ys.layout.strides, strict=True))
    summed = dims.pop(axis)
    recipe = CumSum.of(exclusive, reverse, tuple(dims), summed, lanes)
    return check_shares(recipe, target, [xs, ys], ys)


def in_order(x, axis, exclusive, reverse):
    """One addition after the other, in x's own precision."""
    moved = np.moveaxis(x, axis, 0)
    result = np.zeros_like(moved)
    total = np.full(moved.shape[1:], 0.0 if exclusive else -0.0, x.dtype)
    with np.errstate(all="ignore"):
        for i in reversed(range(len(moved))) if reverse else range(len(moved)):
            before, total = total, total + moved[i]
            result[i] = before if exclusive else total
    return np.moveaxis(result, 0, axis)


@pytest.mark.sampled
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 17), (2, 67, 8), (4, 16, 33), (7, 2, 1)], ids=str)
def test_is_added_in_order_and_near_float64(shape, axis, place, flags, target, rng):
    x = rng.normal(size=shape).astype(np.float32)
    got = run(target, x, axis, *flags, place)
    np.testing.assert_array_equal(got, in_order(x, axis, *flags))
    terms = shape[axis] * 2.0**-24
    bound = terms / (1 - terms) * in_order(np.abs(x).astype(np.float64), axis, *flags)
    assert np.all(np.abs(got - in_order(x.astype(np.float64), axis, *flags)) <= bound)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("axis", [0, 1])
def test_special_values(axis, target):
    x = np.ones((9, 19), np.float32)
    x[1, 1], x[2, 5], x[3, 7], x[4, 7], x[5, 9] = np.nan, np.inf, -np.inf, np.inf, 3e38
    x[0], x[:, 0], x[6, 9] = -0.0, -0.0, 3e38
    for flags in ((False, False), (True, False), (False, True), (True, True)):
        got, want = run(target, x, axis, *flags), in_order(x, axis, *flags)
        np.testing.assert_array_equal(got, want)
        assert np.array_equal(np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)]))
