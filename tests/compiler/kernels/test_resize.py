"""Resampling kernels against einsum in float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.resize import Interpolation, pack_tables
from omniconv.program.steps import ResizeStep


def reference(x, step):
    y = x.astype(np.float64)
    for axis, (index, weight) in enumerate(zip(step.index, step.weight, strict=True)):
        moved = np.moveaxis(y, axis + 2, -1)
        y = np.moveaxis((moved[..., index] * weight.astype(np.float64)).sum(axis=-2), -1, axis + 2)
    return y


CASES = [
    # channels, spatial, taps, output
    (64, (5, 6), (2, 2), (10, 12)),
    (17, (4, 4), (1, 1), (8, 9)),
    (3, (7, 9), (4, 4), (11, 5)),
    (33, (9, 8), (5, 6), (3, 2)),
    (16, (10,), (2,), (21,)),
    (1, (6,), (1,), (12,)),
    (15, (3, 4, 5), (2, 2, 2), (5, 8, 7)),
    (100, (3, 4, 5), (3, 4, 3), (2, 3, 4)),
    (5, (1, 8), (1, 2), (1, 16)),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("owned", [False, True])
def test_equals_float64(case, owned, target, rng):
    channels, spatial, taps, output = case
    x = rng.normal(size=(2, channels, *spatial)).astype(np.float32)
    index = tuple(rng.integers(0, n, (t, o)) for n, t, o in zip(spatial, taps, output, strict=True))
    weight = tuple(rng.normal(size=i.shape).astype(np.float32) for i in index)
    if taps[-1] == 1:
        weight = (*weight[:-1], np.ones_like(weight[-1]))
    step = ResizeStep("x", "y", index, weight)
    exact = reference(x, step)
    bound = reference(np.abs(x), ResizeStep("x", "y", index, tuple(map(np.abs, weight))))
    xs = Buffer(placed(x.shape, target.lanes, readable=owned, pitch=None if owned else channels + 3), target.lanes, x)
    ys = Buffer(placed(exact.shape, target.lanes, tail=owned), target.lanes)
    recipe = Interpolation.of(step, xs.layout, ys.layout, target.lanes)
    got = check_shares(
        recipe, target, [xs, ys, pack_tables(step.index, 0, np.int64), pack_tables(step.weight, 1, np.float32)], ys
    )
    assert np.all(np.abs(got - exact) <= (np.prod(taps) + 4) * 2.0**-24 * bound)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_nearest_is_a_copy(target, rng):
    x = rng.normal(size=(1, 20, 3, 4)).astype(np.float32)
    x[0, 3, 1, 2], x[0, 4, 0, 0] = np.nan, np.inf
    index = (np.arange(6)[None] // 2, np.arange(8)[None] // 2)
    step = ResizeStep("x", "y", index, tuple(np.ones(i.shape, np.float32) for i in index))
    lanes = target.lanes
    xs, ys = Buffer(placed(x.shape, lanes), lanes, x), Buffer(placed((1, 20, 6, 8), lanes), lanes)
    recipe = Interpolation.of(step, xs.layout, ys.layout, target.lanes)
    got = check_shares(
        recipe, target, [xs, ys, pack_tables(step.index, 0, np.int64), pack_tables(step.weight, 1, np.float32)], ys
    )
    assert np.array_equal(got, x.repeat(2, axis=2).repeat(2, axis=3), equal_nan=True)
