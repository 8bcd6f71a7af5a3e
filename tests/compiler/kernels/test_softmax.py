"""Softmax kernels against float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.softmax import Softmax
from omniconv.compiler.memory.layout import Layout


def reference(x, axis, log):
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = wide - wide.max(axis=axis, keepdims=True)
        total = np.exp(shifted).sum(axis=axis, keepdims=True)
        return shifted - np.log(total) if log else np.exp(shifted) / total


def run(target, x, axis, log, make):
    lanes = target.lanes
    xs, ys = Buffer(make(x.shape), lanes, x), Buffer(make(x.shape), lanes)
    dims = list(zip(x.shape, xs.layout.strides, ys.layout.strides, strict=True))
    reduced = dims.pop(axis)
    recipe = Softmax.of(log, tuple(dims), reduced, lanes)
    return check_shares(recipe, target, [xs, ys], ys)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("size", [1, 5, 15, 16, 33])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("place", ["last", "major", "apart"])
def test_equals_float64(size, axis, log, place, target, rng):
    shape = (2, size, 5) if axis == 1 else (2, 19, size)
    x = (rng.normal(size=shape) * 5).astype(np.float32)
    makes = {
        "last": lambda s: placed(s, target.lanes),
        "major": lambda s: placed(s, target.lanes, order="major"),
        "apart": lambda s: Layout(s, (2 * s[1] * s[2] * 2, 2 * s[2], 2)),
    }
    got = run(target, x, axis, log, makes[place])
    exact = reference(x, axis, log)
    # Sums of `size` terms, exponentials of differences that were rounded once, and a last rounding.
    spread = np.abs(x - x.max(axis=axis, keepdims=True)).astype(np.float64)
    bound = (size + 4 + spread) * 2.0**-24
    bound = bound + np.abs(exact) * 2.0**-22 if log else bound * exact
    assert np.all(np.abs(got - exact) <= bound + 1e-45)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("log", [False, True])
def test_large_values_and_special_ones(log, target):
    x = np.zeros((7, 17), np.float32)
    x[0, 3], x[1, 2], x[2] = 3e38, -3e38, -1e4
    x[3, 16], x[4, 0], x[5, 5], x[6] = np.nan, np.inf, -np.inf, -np.inf
    for array, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        got = run(target, array, axis, log, lambda s: placed(s, target.lanes, order="major"))
        assert np.allclose(got, reference(array, axis, log), rtol=1e-6, atol=1e-6, equal_nan=True)
