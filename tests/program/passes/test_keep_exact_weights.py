"""Weights that bfloat16 has exactly are kept as such: which ones, and that no bit of a result tells."""

from __future__ import annotations

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.graph import to_program
from omniconv.program.element import FLOAT64
from omniconv.program.passes import keep_exact_weights as module
from omniconv.program.passes.keep_exact_weights import keep_exact_weights

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(-255, 256, (300, 260))


def dense(weights: np.ndarray, rows: int = 3) -> Graph:
    g = Graph()
    return g.model(g.node("MatMul", g.input("x", rows, len(weights)), g.const(weights), name="y"))


def conv(groups: int, scale: float = 2.0**-9, channels: int = 96) -> Graph:
    g = Graph()
    w = RNG.integers(-255, 256, (channels, channels // groups, 3, 3)) * scale
    return g.model(g.node("Conv", g.input("x", 1, channels, 9, 11), g.const(w), name="y", group=groups))


def test_exact_weights_are_kept() -> None:
    one, tiny = WHOLE.astype(np.float32), WHOLE.astype(np.float32)
    one[7, 9], tiny[7, 9] = 0.1, np.nan
    rounded = [keep_exact_weights(to_program(dense(w))).rounded for w in (WHOLE, WHOLE[:30], one, tiny)]
    assert rounded == [{"y"}, set(), set(), set()]
    assert not keep_exact_weights(to_program(dense(WHOLE), element=FLOAT64)).rounded
    assert [bool(keep_exact_weights(to_program(conv(g, channels=512))).rounded) for g in (1, 8)] == [True, False]


def test_weights_that_are_changed_in_place_are_looked_at_again() -> None:
    w = WHOLE.astype(np.float32)[..., None, None]
    layer = oc.pointwise(260, 300)
    for value, words in ((3.0, True), (0.1, False), (0.5, True)):
        w[7, 9] = value
        found = oc.compile(layer, (1, 260, 3, 3), [(w, None)]).explain()
        assert ("bfloat16: the weights of 1 layers" in found) == words


@pytest.mark.parametrize("model", [dense(WHOLE), dense(WHOLE, 40), conv(1)], ids=["few rows", "rows", "convolution"])
def test_no_bit_tells(model, monkeypatch: pytest.MonkeyPatch) -> None:
    net = oc.compile(model, exact=True)
    monkeypatch.setattr(module, "LEAST_BYTES", 2**40)
    wide = oc.compile(model, exact=True)
    (name,) = net.plan.program.inputs
    x = RNG.standard_normal(net.plan.program.shapes[name], np.float32)
    np.testing.assert_array_equal(net(x), wide(x))
    words = "bfloat16: the weights of 1 layers, which it has exactly"
    assert words in net.explain()
    assert words not in wide.explain()
    assert net.plan.constant_bytes < 0.75 * wide.plan.constant_bytes
