"""Pooling kernels against windows taken one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.pool import Pool, PoolAxis
from omniconv.program.steps import PoolStep


def infer(size, k, s, d, pads, *, ceil):
    span = size + sum(pads) - (k - 1) * d - 1
    out = (-(span // -s) if ceil else span // s) + 1
    return out - 1 if ceil and (out - 1) * s >= size + pads[0] else out


def reference(x, step, out):
    """Every window, straight from the definition, in float64."""
    y = np.empty(x.shape[:2] + out)
    for o in itertools.product(*map(range, out)):
        inside, counted = [], 0
        for t in itertools.product(*map(range, step.kernel)):
            at = [q * s - p[0] + i * d for q, s, p, i, d in zip(o, step.stride, step.padding, t, step.dilation)]
            valid = all(0 <= a < size for a, size in zip(at, x.shape[2:]))
            explicit = all(-p[0] <= a < size + p[1] for a, p, size in zip(at, step.padding, x.shape[2:]))
            counted += explicit if step.count_padding else valid
            if valid:
                inside.append(x[(slice(None), slice(None), *at)].astype(np.float64))
        if step.op == "max":
            value = np.max(inside, axis=0) if inside else -np.inf
        else:
            with np.errstate(invalid="ignore"):
                value = (np.sum(inside, axis=0) if inside else np.zeros(x.shape[:2])) / np.float64(counted)
        y[(slice(None), slice(None), *o)] = value
    return y


CASES = [
    # channels, spatial, kernel, stride, dilation, padding, ceil
    (64, (12, 12), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), False),
    (17, (7, 9), (3, 3), (2, 2), (1, 1), ((0, 0), (0, 0)), True),
    (16, (9, 13), (2, 3), (1, 2), (2, 3), ((1, 0), (2, 3)), False),
    (33, (7, 7), (7, 7), (1, 1), (1, 1), ((0, 0), (0, 0)), False),
    (5, (13, 13), (13, 13), (1, 1), (1, 1), ((6, 6), (6, 6)), False),
    (3, (5, 40), (3, 31), (1, 2), (1, 1), ((1, 1), (15, 15)), False),
    (15, (1, 8), (1, 2), (1, 2), (1, 1), ((0, 0), (0, 0)), False),
    (1, (6, 6), (2, 2), (2, 2), (1, 1), ((1, 1), (0, 1)), True),
    (130, (1, 1), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), False),
    (7, (20,), (5,), (3,), (2,), ((3, 1),), True),
    (33, (4, 5, 6), (3, 3, 3), (2, 1, 2), (1, 1, 1), ((1, 1), (1, 1), (0, 1)), False),
    (16, (3, 4, 5), (2, 3, 2), (1, 2, 1), (1, 1, 2), ((1, 0), (1, 1), (1, 1)), True),
    (16, (4, 4), (2, 2), (1, 1), (1, 1), ((3, 3), (2, 4)), False),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_windows(case, target, rng):
    channels, spatial, kernel, stride, dilation, padding, ceil = case
    out = tuple(infer(*a, ceil=ceil) for a in zip(spatial, kernel, stride, dilation, padding))
    x = rng.integers(-9, 9, (2, channels, *spatial)).astype(np.float32)
    lanes = target.lanes
    for op, count in (("max", False), ("mean", False), ("mean", True)):
        step = PoolStep("x", "y", op, kernel, stride, dilation, padding, count)
        expected = reference(x, step, out)
        for owned, extra in ((False, 0), (False, 3), (True, None)):
            pitch = None if extra is None else channels + extra
            xs = Buffer(placed(x.shape, lanes, pitch=pitch, readable=owned), lanes, x)
            ys = Buffer(placed(expected.shape, lanes, pitch=pitch, tail=owned), lanes)
            got = check_shares(Pool.of(step, xs.layout, ys.layout, target), target, [xs, ys], ys)
            assert np.array_equal(got, expected.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("op", ["max", "mean"])
def test_not_a_number_and_infinity_arrive(target, op):
    for place, value in itertools.product(range(9), (np.nan, np.inf, -np.inf)):
        x = np.ones((1, 17, 3, 3), np.float32)
        x[0, :, place // 3, place % 3] = value
        step = PoolStep("x", "y", op, (3, 3), (1, 1), (1, 1), ((0, 0), (0, 0)))
        xs, ys = (
            Buffer(placed(x.shape, target.lanes), target.lanes, x),
            Buffer(placed((1, 17, 1, 1), target.lanes), target.lanes),
        )
        got = check_shares(Pool.of(step, xs.layout, ys.layout, target), target, [xs, ys], ys)
        expected = np.max(x, axis=(2, 3)) if op == "max" else np.mean(x, axis=(2, 3))
        assert np.array_equal(got[..., 0, 0], expected, equal_nan=True)


def test_windows_without_a_tap_inside():
    """Of every short axis, counted window by window."""
    sizes = range(1, 6), range(1, 5), range(1, 4), range(1, 4), range(1, 4), range(7)
    for size, output, kernel, stride, dilation, before in itertools.product(*sizes):
        axis = PoolAxis(size, output, kernel, stride, dilation, before)
        starts = range(-before, output * stride - before, stride)
        windows = [range(start, start + axis.reach + 1, dilation) for start in starts]
        assert axis.filled == all(any(0 <= tap < size for tap in window) for window in windows), axis
