"""Strided copies against NumPy's own assignment; every result is bit for bit the input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from tests.compiler.harness import TARGETS, build
from tests.guard import guarded

from omniconv.compiler.lowering.copy import Copy


def check(target, dims, *, mapped=None, table=None, rng=None, starts=(0, 0), **flags):
    """Copy with the recipe and with plain indexing; everything else in y must stay untouched."""
    rng = rng or np.random.default_rng(1)
    spans = [[s * (n - 1) for n, *strides in dims for s in (strides[w],)] for w in (0, 1)]
    if mapped is not None:
        spans[0][mapped] = max(table)
    lows = [-sum(min(v, 0) for v in span) for span in spans]
    sizes = [low + sum(max(v, 0) for v in span) + 1 for low, span in zip(lows, spans, strict=True)]
    x, y = guarded(sizes[0]), guarded(sizes[1])
    x[:] = rng.normal(size=sizes[0])
    shape = tuple(n for n, _, _ in dims)
    xi, yi = (np.zeros(shape, np.int64) + low for low in lows)
    for axis, (n, xs, ys) in enumerate(dims):
        place = np.arange(n).reshape([-1 if a == axis else 1 for a in range(len(dims))])
        xi = xi + (np.asarray(table, np.int64)[place] if axis == mapped else place * xs)
        yi = yi + place * ys
    expected = np.full(sizes[1], np.nan, np.float32)
    expected[yi] = x[xi]
    recipe = Copy.of(dims, target.lanes, mapped=mapped, **flags)
    run = build(recipe, target)
    addresses = [x.ctypes.data + 4 * lows[0], y.ctypes.data + 4 * lows[1]]
    if table is not None:
        addresses.append(np.asarray(table, np.int64))
    for parts in (1, 3):
        y[:] = np.nan
        for t in reversed(range(parts)):
            run(addresses, recipe.units * t // parts, recipe.units * (t + 1) // parts)
        assert np.array_equal(y, expected, equal_nan=True)
    return recipe


@pytest.mark.sampled
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 15, 16, 17, 33])
@pytest.mark.parametrize("pixels", [1, 5, 16, 33, 300])
@pytest.mark.parametrize("extra", [0, 3])
def test_layout_changes(channels, pixels, extra, target):
    pitch = channels + extra
    check(target, ((2, channels * pixels, pitch * pixels), (channels, pixels, 1), (pixels, 1, pitch)))
    check(target, ((2, pitch * pixels, channels * pixels), (channels, 1, pixels), (pixels, pitch, 1)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("size", [1, 3, 5, 15, 16, 17, 33, 5000])
def test_runs(size, target):
    recipe = check(target, ((3, size + 2, size + 5), (size, 1, 1)))
    assert recipe.vector or size == 1
    check(target, ((3, size, size), (size, 1, 1)))


def test_axes_are_merged():
    dims = ((2, 60, 60), (3, 20, 20), (4, 5, 5), (5, 1, 1), (1, 99, 77))
    recipe = Copy.of(dims, 16)
    assert recipe.outer == ()
    assert recipe.inner.size == 120
    assert Copy.of(((0, 1, 1),), 16).units == 0
    assert Copy.of((), 16).units == 1


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_tables(target):
    for place, n in itertools.product((0, 1, 2), (1, 3, 17, 40)):
        dims = [(5, 100, 200), (6, 17, 33), (17, 1, 1)]
        dims[place] = (n, 0, (600, 33, 1)[place])
        dims = tuple((s, x, (1600, 40, 1)[i] if i else 4000) for i, (s, x, _) in enumerate(dims))
        check(target, dims, mapped=place, table=[(7 * i) % 23 for i in range(n)])
    # Nothing merges with a mapped axis, whatever its stride says.
    for place, dims in ((0, ((5, 17, 17), (17, 1, 1))), (1, ((4, 85, 85), (5, 17, 17), (17, 1, 1)))):
        check(target, dims, mapped=place, table=[51, 0, 34, 17, 17])
    # Channel shuffle into channels first, and the other way.
    for n in (3, 16, 20):
        table = [((i * 7) % n) * 50 for i in range(n)]
        check(target, ((n, 0, 1), (50, 1, n)), mapped=0, table=table)
        table = [(i * 7) % n for i in range(n)]
        check(target, ((n, 0, 50), (50, n, 1)), mapped=0, table=table)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_slices_and_reversals(target):
    check(target, ((5, 40, 20), (10, 2, 1)))
    check(target, ((5, -40, 20), (10, 1, 1)))
    check(target, ((5, 40, 20), (10, -1, 1)))
    check(target, ((20, 3, -3), (3, 1, 1)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_spare_lanes(target, rng):
    lanes, channels, pixels = target.lanes, 3, 50
    x, y = guarded(channels * pixels), guarded(lanes * pixels)
    x[:] = rng.normal(size=x.size)
    recipe = Copy.of(((channels, pixels, 1), (pixels, 1, lanes)), lanes, tail=True)
    build(recipe, target)([x, y])
    assert np.array_equal(y.reshape(pixels, lanes)[:, :channels].T, x.reshape(channels, pixels))


@pytest.mark.parametrize("target", TARGETS[:2], ids=lambda t: t.name)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_permutation(target, data):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    order = data.draw(st.permutations(range(len(shape))))
    gap = data.draw(st.integers(0, 2))
    x = as_strided(np.zeros(1, np.float32), shape, np.zeros(shape).strides)
    ys = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        ys[axis] = step
        step *= shape[axis] + gap
    check(target, tuple((n, s // 8, y) for n, s, y in zip(shape, x.strides, ys, strict=True)))
