"""Elementwise kernels against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, Buffer, build, check_shares, placed

from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.kernels.mapping import ARGS, Map
from omniconv.compiler.memory.layout import Layout
from omniconv.spec import Activation

BINARY = {
    "add": lambda v, a: v + a, "sub": lambda v, a: v - a, "rsub": lambda v, a: a - v, "mul": lambda v, a: v * a,
    "div": lambda v, a: v / a, "rdiv": lambda v, a: a / v, "max": np.maximum, "min": np.minimum,
    "prelu": lambda v, a: np.where(v < 0, v * a, v),
}  # fmt: skip


def strides_of(operand, y):
    """Strides of an operand over N, C, D, H, W of y's grid."""
    missing = len(y.shape) - len(operand.shape)
    strides = [0] * missing + [s if n > 1 else 0 for n, s in zip(operand.shape, operand.strides, strict=True)]
    return tuple(strides[:2] + [0] * (5 - len(y.shape)) + strides[2:])


def run_case(target, shape, x, a, op, *, owned, pitch=None):
    lanes = target.lanes
    xs = Buffer(placed(x.shape, lanes, readable=owned, pitch=pitch), lanes, x)
    operand = Buffer(placed(a.shape, lanes, readable=owned), lanes, a)
    ys = Buffer(placed(shape, lanes, tail=owned, pitch=pitch), lanes)
    posts = (
        Post(op, operand=PlacedOperand(ARGS, strides_of(operand.layout, ys.layout), owned)),
        Post("act", activation=Activation.of("clip", lo=-5.0, hi=5.0)),
    )
    recipe = Map.of(xs.layout, ys.layout, posts, lanes)
    got = check_shares(recipe, target, [xs, ys, operand], ys)
    exact = np.broadcast_to(np.clip(BINARY[op](x.astype(np.float64), a), -5, 5), shape)
    assert np.allclose(got, exact, rtol=2**-23, atol=0, equal_nan=True)
    return recipe


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("op", BINARY)
def test_binary(op, target, rng):
    shape = (2, 17, 3, 5)
    for other in (shape, (1, 17, 1, 1), (2, 17, 1, 1), (2, 1, 3, 5), (1, 1, 1, 1), (2, 1, 1, 5)):
        x, a = rng.normal(size=shape).astype(np.float32), rng.normal(size=other).astype(np.float32)
        for owned in (False, True):
            run_case(target, shape, x, a, op, owned=owned)
            run_case(target, shape, np.ascontiguousarray(x[:, :, :1, :1]), a, op, owned=owned)


@pytest.mark.sampled
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [1, 3, 5, 15, 16, 17, 33, 1100])
@pytest.mark.parametrize("spatial", [(), (1,), (7,), (1, 9), (3, 1), (2, 3, 4)], ids=str)
def test_shapes(channels, spatial, target, rng):
    shape = (2, channels, *spatial)
    x = rng.normal(size=shape).astype(np.float32)
    for other in (shape, (1, channels, *(1 for _ in spatial))):
        a = rng.normal(size=other).astype(np.float32)
        for owned in (False, True):
            run_case(target, shape, x, a, "add", owned=owned)
        run_case(target, shape, x, a, "mul", owned=False, pitch=channels + 2)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_merges_into_one_run(target, rng):
    shape = (2, 3, 50, 70)
    x = rng.normal(size=shape).astype(np.float32)
    assert run_case(target, shape, x, x, "add", owned=False).sizes == (1, 21000, 1, 1, 1)
    per_channel = run_case(target, shape, x, np.ones((1, 3, 1, 1), np.float32), "add", owned=False)
    assert per_channel.sizes == (1, 3, 1, 1, 7000)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [3, 16, 17])
@pytest.mark.parametrize("owned", [False, True])
def test_reads_channels_first(channels, owned, target, rng):
    x = rng.normal(size=(2, channels, 3, 5)).astype(np.float32)
    lanes = target.lanes
    xs = Buffer(placed(x.shape, lanes, order="major"), lanes, x)
    ys = Buffer(placed(x.shape, lanes, tail=owned), lanes)
    recipe = Map.of(xs.layout, ys.layout, (Post("act", activation=Activation.of("neg")),), lanes)
    assert np.array_equal(check_shares(recipe, target, [xs, ys], ys), -x)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_in_place_and_rows_apart(target, rng):
    layout = Layout((2, 17, 3, 4), (400, 1, 100, 20))
    x = rng.normal(size=layout.shape).astype(np.float32)
    buffer = Buffer(layout, target.lanes, x)
    recipe = Map.of(layout, layout, (Post("act", activation=Activation.of("abs")),), target.lanes)
    build(recipe, target)([buffer.storage, buffer.storage])
    assert np.array_equal(buffer.view, np.abs(x))
    assert buffer.untouched()
