"""Local response normalisation against float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, check_shares, placed

from omniconv.compiler.kernels.lrn import Lrn
from omniconv.program.steps import LrnStep


def reference(x, step):
    wide = x.astype(np.float64)
    y = np.empty_like(wide)
    for c in range(x.shape[1]):
        low, high = max(0, c - (step.size - 1) // 2), min(x.shape[1], c + step.size // 2 + 1)
        base = step.bias + step.alpha / step.size * np.sum(wide[:, low:high] ** 2, axis=1)
        y[:, c] = wide[:, c] / base**step.beta
    return y


@pytest.mark.sampled
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [1, 3, 5, 15, 16, 17, 33, 70])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_equals_float64(channels, size, target, rng):
    x = (rng.normal(size=(2, channels, 2, 3)) * 30).astype(np.float32)
    for beta, owned in ((0.75, False), (0.5, True), (1.0, False), (0.6, True)):
        step = LrnStep("x", "y", size, 0.02, beta, 1.5)
        xs = Buffer(placed(x.shape, target.lanes, readable=owned), target.lanes, x)
        ys = Buffer(placed(x.shape, target.lanes, tail=owned, pitch=None if owned else channels + 1), target.lanes)
        got = check_shares(Lrn.of(step, xs.layout, ys.layout, target.lanes), target, [xs, ys], ys)
        assert np.allclose(got, reference(x, step), rtol=(size + 12) * 2.0**-24, atol=0)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_not_a_number_reaches_its_window_only(target):
    x = np.ones((1, 33, 1, 1), np.float32)
    x[0, 16] = np.nan
    step = LrnStep("x", "y", 5, 1.0, 0.75, 1.0)
    layout = placed(x.shape, target.lanes)
    xs, ys = Buffer(layout, target.lanes, x), Buffer(layout, target.lanes)
    got = check_shares(Lrn.of(step, layout, layout, target.lanes), target, [xs, ys], ys)
    assert np.flatnonzero(np.isnan(got)).tolist() == [14, 15, 16, 17, 18]


@pytest.mark.parametrize("size", [33, 1023, 2**20, 2**31])
def test_code_does_not_grow_with_the_window(size, rng):
    target, x = TARGETS[0], (rng.normal(size=(1, 130, 1, 2)) * 30).astype(np.float32)
    step, layout = LrnStep("x", "y", size, 0.02, 0.75, 1.5), placed(x.shape, TARGETS[0].lanes)
    recipe = Lrn.of(step, layout, layout, target.lanes)
    assert len(recipe.emit("f", target)) < 20_000
    xs, ys = Buffer(layout, target.lanes, x), Buffer(layout, target.lanes)
    assert np.allclose(check_shares(recipe, target, [xs, ys], ys), reference(x, step), rtol=142 * 2.0**-24, atol=0)
