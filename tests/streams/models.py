"""ONNX networks over sound, with an open number of samples."""

from __future__ import annotations

import numpy as np
from tests.graph.small_models import Graph


def build_recurrent(op="LSTM", *, direction="forward", layers=1, start=False):
    """A strided convolution, recurrent layers and a convolution behind them."""
    g = Graph()
    y = g.node("Conv", g.input("x", 1, 1, "T"), g.random(8, 1, 4, scale=0.5), g.random(8), pads=[2, 1], strides=[2])
    y = g.node("Transpose", g.node("Relu", y), perm=[2, 0, 1])
    hidden, width, directions = 12, 8, 2 if direction == "bidirectional" else 1
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * hidden
    for _ in range(layers):
        shapes = ((directions, gates, width), (directions, gates, hidden), (directions, 2 * gates))
        w, r, b = (g.random(*shape, scale=0.3) for shape in shapes)
        h = g.const(np.full((directions, 1, hidden), 0.25)) if start else ""
        y = g.node(op, y, w, r, b, "", h, hidden_size=hidden, direction=direction, count=2)[0]
        y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.ints(0, 0, directions * hidden))
        width = directions * hidden
    y = g.node("Transpose", y, perm=[1, 2, 0])
    y = g.node("Conv", y, g.random(1, width, 3, scale=0.2), pads=[1, 1])
    return g.model(g.node("Sigmoid", y))


def build_denoiser(channels=1):
    """Two layers and a residual branch of another delay; whole numbers."""
    g = Graph()
    x = g.input("x", 1, channels, "T")
    y = g.node("Conv", x, g.const(g.rng.integers(-1, 2, (4, channels, 5))), pads=[2, 2])
    y = g.node("Conv", g.node("Relu", y), g.const(g.rng.integers(-1, 2, (channels, 4, 3))), pads=[4, 0], dilations=[2])
    return g.model(g.node("Add", x, y))


def build_global():
    """A mean over all samples gates the others."""
    g = Graph()
    x = g.input("x", 1, 2, "T")
    return g.model(g.node("Mul", x, g.node("GlobalAveragePool", x, name="squeeze")))
