"""Quantised networks, and networks of bfloat16, with open sizes: kernels that serve all sizes, and the bits of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.compiler.code import build


def small(channels: int, *, strided: bool = True) -> onnx.ModelProto:
    """A stem, a depthwise layer, one with a stride if asked for, a pointwise one, and a mean."""
    g = Graph(opset=17, seed=3)
    x = g.node("Relu", g.conv(g.input("x", "n", 3, "h", "w"), channels, 3, strides=[2, 2]))
    x = g.node("Relu", g.conv(x, channels, channels, 3, group=channels))
    if strided:
        x = g.node("Relu", g.conv(x, channels, channels, 5, group=channels, strides=[2, 2]))
    x = g.node("Relu", g.conv(x, 2 * channels, channels, 1))
    return g.model(g.node("GlobalAveragePool", x))


def gated() -> onnx.ModelProto:
    """Beside these a gate, a sum, a dense layer that is filtered, and one that is not."""
    g = Graph(opset=17, seed=4)
    x = g.node("Relu", g.conv(g.input("x", "n", 3, "h", "w"), 32, 3, strides=[2, 2]))
    y = g.node("Relu", g.conv(x, 32, 32, 3, group=32))
    gate = g.node("Sigmoid", g.conv(g.node("GlobalAveragePool", y), 32, 32, 1))
    y = g.node("Add", x, g.node("Relu", g.conv(g.node("Mul", y, gate), 32, 32, 1)))
    y = g.node("Relu", g.conv(y, 48, 32, 3))
    return g.model(g.node("Relu", g.conv(y, 32, 48, 3, strides=[2, 2])))


def quantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """With scales from two images."""
    rng = np.random.default_rng(0)
    return oc.quantize(model, [rng.standard_normal((1, 3, 32, 40), dtype=np.float32) for _ in range(2)])


def draw(n: int, h: int, w: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(h * w).standard_normal((n, 3, h, w), dtype=np.float32)


@pytest.mark.parametrize(("precision", "integers"), [("bfloat16", False), ("float32", True)])
def test_late_sizes_compile_nothing(monkeypatch: pytest.MonkeyPatch, precision: Any, *, integers: bool) -> None:
    """The third size and later ones, but for another remainder of a stride."""
    model = small(8, strided=False)
    net = oc.compile(quantise(model) if integers else model, precision=precision)
    for height, width in ((64, 96), (96, 64)):
        net.fix({"x": (1, 3, height, width)})
    compiled, compile_code = list[int](), build._compile

    def count(*args: Any) -> Any:
        compiled.append(1)
        return compile_code(*args)

    monkeypatch.setattr(build, "_compile", count)
    for height, width in ((68, 92), (88, 72)):
        net.fix({"x": (1, 3, height, width)})
    assert not compiled


@pytest.mark.wide
@pytest.mark.parametrize("make", [gated, lambda: small(24)], ids=["gated", "small"])
@pytest.mark.parametrize(("precision", "integers"), [("bfloat16", False), ("float32", True)])
def test_bits_of_all_sizes(make: Any, precision: Any, *, integers: bool) -> None:
    """Rows of less than a tile, of one or two, and of many; in any order, and a batch."""
    model = quantise(make()) if integers else make()
    net = oc.compile(model, threads=3, precision=precision)
    for number, (height, width) in enumerate([(9, 9), (64, 96), (1, 1), (33, 40), (40, 33), (5, 70), (25, 48)]):
        x = draw(1 + number % 2, height, width)
        alone = oc.compile(model, threads=1, precision=precision)
        np.testing.assert_array_equal(net(x), alone(x), f"{height} by {width}")
