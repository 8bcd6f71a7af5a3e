"""Reductions of whole channels against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.reduction import Reduce
from omniconv.compiler.memory.layout import Layout
from omniconv.program.steps import ReduceStep

FUNCTIONS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}
SHAPES = [(1, 1, 1), (2, 3, 5, 5), (1, 16, 7, 7), (2, 17, 3, 4), (1, 15, 33), (3, 33, 2, 3, 5), (1, 260, 3, 3), (1, 5)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_equals_numpy(shape, op, target, rng):
    lanes = target.lanes
    axes = tuple(range(2, len(shape)))
    # Powers of two have exact products.
    x = (rng.choice((-0.5, 1.0, 2.0), shape) if op == "prod" else rng.integers(-8, 8, shape)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = FUNCTIONS[op](wide, axis=axes) if axes else wide
    for owned, rank in ((False, 2), (True, len(shape))):
        xs = Buffer(placed(shape, lanes, readable=owned, pitch=None if owned else shape[1] + 1), lanes, x)
        kept = shape[:2] + (1,) * (rank - 2)
        ys = Buffer(placed(kept, lanes, tail=owned), lanes)
        got = check_shares(Reduce.of(ReduceStep("x", "y", op), xs.layout, ys.layout, lanes), target, [xs, ys], ys)
        assert np.array_equal(got.reshape(shape[:2]), expected.astype(np.float32))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_rows_apart(target, rng):
    x = rng.normal(size=(2, 17, 4, 5)).astype(np.float32)
    layout = Layout(x.shape, (20 * 130, 1, 130, 20))
    xs, ys = Buffer(layout, target.lanes, x), Buffer(placed((2, 17), target.lanes), target.lanes)
    got = check_shares(Reduce.of(ReduceStep("x", "y", "mean"), layout, ys.layout, target.lanes), target, [xs, ys], ys)
    assert np.allclose(got, x.astype(np.float64).mean(axis=(2, 3)), rtol=0, atol=20 * 2**-24 * np.abs(x).mean() * 20)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_and_infinity_arrive(op, value, target):
    for place in range(21):
        x = np.zeros((1, 2, 21), np.float32)
        x[0, 1, place] = value
        lanes = target.lanes
        xs, ys = Buffer(placed(x.shape, lanes), lanes, x), Buffer(placed((1, 2), lanes), lanes)
        got = check_shares(Reduce.of(ReduceStep("x", "y", op), xs.layout, ys.layout, lanes), target, [xs, ys], ys)
        with np.errstate(invalid="ignore"):
            expected = FUNCTIONS[op](x, axis=2)
        assert np.array_equal(got, expected, equal_nan=True)
