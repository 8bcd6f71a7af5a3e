"""Standardised rows against float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares

from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.standardise import ARGS, Standardise
from omniconv.compiler.memory.layout import Layout

EPSILON = 1e-5


def run(target, x, posts=(), operands=(), pitch=0):
    rows, size = x.shape
    pitch = pitch or size
    xs = Buffer(Layout(x.shape, (pitch, 1)), target.lanes, x)
    ys = Buffer(Layout(x.shape, (size, 1)), target.lanes)
    recipe = Standardise(
        rows=rows,
        runs=1,
        size=size,
        x_row=pitch,
        y_row=size,
        x_run=0,
        y_run=0,
        epsilon=EPSILON,
        posts=posts,
        lanes=target.lanes,
    )
    held = [Buffer(Layout(a.shape, (0, 1)[-a.ndim :]), target.lanes, a) for a in operands]
    return check_shares(recipe, target, [xs, ys, *held], ys)


def bounded(x):
    """The exact result and a bound of the error: of the mean, of each difference, and of the sum of their squares."""
    wide, n, u = x.astype(np.float64), x.shape[1], 2.0**-24
    mean = wide.mean(1, keepdims=True)
    variance = ((wide - mean) ** 2).mean(1, keepdims=True) + EPSILON
    off = (n + 2) * u * np.abs(wide).mean(1, keepdims=True)
    exact = (wide - mean) / np.sqrt(variance)
    # Differences are off by as much as the mean, which changes the mean of their squares by its square alone.
    relative = (n + 8) * u + off**2 / variance
    return exact, (off + 2 * u * np.abs(wide - mean)) / np.sqrt(variance) + relative * np.abs(exact)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 8), (67, 33), (2, 129), (300, 49), (9, 1000)], ids=str)
@pytest.mark.parametrize("offset", [0, 100])
def test_is_near_float64(shape, offset, target, rng):
    x = (rng.normal(size=shape) + offset).astype(np.float32)
    exact, bound = bounded(x)
    assert np.all(np.abs(run(target, x) - exact) <= bound)
    np.testing.assert_array_equal(run(target, x, pitch=shape[1] + 3), run(target, x))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(5, 8), (67, 33)], ids=str)
def test_operations_follow(shape, target, rng):
    x, scale, bias = (rng.normal(size=size).astype(np.float32) for size in (shape, shape[1:], shape[1:]))
    places = [PlacedOperand(ARGS + i, (0, 1, 0, 0, 0), False) for i in range(2)]
    posts = tuple(Post(op, None, place) for op, place in zip(("mul", "add"), places, strict=True))
    got = run(target, x, posts, [scale, bias])
    np.testing.assert_array_equal(got, run(target, x) * scale + bias)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(1, 5, 3), (3, 7, 33), (2, 50, 8)], ids=str)
def test_rows_of_several_runs(shape, target, rng):
    rows, runs, size = shape
    x = rng.normal(size=shape).astype(np.float32)
    pitch, lanes = size + 3, target.lanes
    xs = Buffer(Layout(shape, (runs * pitch + 1, pitch, 1)), lanes, x)
    ys = Buffer(Layout(shape, (runs * size, size, 1)), lanes)
    scale = rng.normal(size=(rows, runs, 1)).astype(np.float32)
    posts = (Post("mul", None, PlacedOperand(ARGS, (runs, 0, 0, 0, 1), False)),)
    recipe = Standardise(
        rows=rows,
        runs=runs,
        size=size,
        x_row=runs * pitch + 1,
        y_row=runs * size,
        x_run=pitch,
        y_run=size,
        epsilon=EPSILON,
        posts=posts,
        lanes=lanes,
    )
    held = Buffer(Layout(scale.shape, (runs, 1, 1)), lanes, scale)
    exact, bound = bounded(x.reshape(rows, -1))
    got = check_shares(recipe, target, [xs, ys, held], ys)
    error = np.abs(got - exact.reshape(shape) * scale.astype(np.float64))
    assert np.all(error <= (bound.reshape(shape) + 2.0**-23 * np.abs(exact).reshape(shape)) * np.abs(scale))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_special_values(target):
    x = np.ones((4, 19), np.float32)
    x[1, 3], x[2, 18] = np.nan, np.inf
    got = run(target, x)
    np.testing.assert_array_equal(got[[0, 3]], np.zeros((2, 19), np.float32))
    assert np.isnan(got[1:3]).all()
