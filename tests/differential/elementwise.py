"""Elementwise operators, drawn with their attributes over the whole legal range."""

from __future__ import annotations

import numpy as np
from tests.differential.draft import Draft
from tests.differential.table import broadcastable, generator


@generator("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Identity", "Reciprocal", "Sqrt")
def _plain(g: Draft, op: str) -> None:
    x = g.pick()
    if op in ("Sqrt", "Reciprocal") and g.style != "special" and g.chance(0.7):
        (x,) = g.emit("Abs", x)
        x = g.emit("Add", x, g.const(g.number(1.0, 0.5) ** 2 + 0.25, np.float32))[0]
    g.emit(op, x)


@generator("HardSwish", since=14)
def _hard_swish(g: Draft, op: str) -> None:
    g.emit(op, g.pick())


@generator("LeakyRelu", "Elu", "Selu", "HardSigmoid")
def _with_alpha(g: Draft, op: str) -> None:
    given = {"alpha": g.number(0.01, 0.0, 1.0, 0.1) if g.chance(0.8) else None}
    if op == "Selu":
        given["gamma"] = g.number(1.0, 1.05)
    if op == "HardSigmoid":
        given["beta"] = g.number(0.5, 0.0, 1.0)
    g.emit(op, g.pick(), **given)


@generator("Celu", since=12)
def _celu(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), alpha=abs(g.number(1.0, 0.5, 2.0)) + 0.125)


@generator("Gelu", since=20)
def _gelu(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), approximate=g.choose("none", "tanh", None))


@generator("Swish", since=24)
def _swish(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), alpha=g.number(1.0, 1.702, 0.0))


@generator("Dropout")
def _dropout(g: Draft, op: str) -> None:
    if g.opset < 12:
        g.emit(op, g.pick(), ratio=g.choose(0.0, 0.5, None))
    else:
        g.emit(op, g.pick(), g.const(0.4, np.float32) if g.chance(0.5) else "")


@generator("Clip")
def _clip(g: Draft, op: str) -> None:
    low = g.choose(None, g.number(0.0, -1.0, -65504.0, 1.0))
    high = g.choose(None, g.number(6.0, 1.0, 65504.0, -1.0))
    if g.opset < 11:
        if low is not None and high is not None and low > high:
            low, high = high, low
        g.emit(op, g.pick(), min=low, max=high)
        return
    bounds = ["" if b is None else g.const(b, np.float32) for b in (low, high)]
    g.emit(op, g.pick(), *bounds)


def partner(g: Draft, x: str) -> str:
    """Another value, or a constant, that broadcasts with x."""
    shape = g.shape(x)
    if g.chance(0.5):
        for _ in range(4):
            other = g.pick()
            try:
                np.broadcast_shapes(shape, g.shape(other))
            except ValueError:
                continue
            return other
    if g.chance(0.25):
        return g.const(g.number(0.0, 1.0, -1.0, 0.5, 1e-6, 3.0, 6.0), np.float32)
    return g.const(g.weights(broadcastable(g, shape)))


@generator("Add", "Sub", "Mul", "Div")
def _binary(g: Draft, op: str) -> None:
    x = g.pick()
    y = partner(g, x)
    if op == "Div" and g.style != "special" and g.chance(0.7):
        y = g.const(np.abs(g.weights(broadcastable(g, g.shape(x)))) + np.float32(0.5))
    g.emit(op, *((x, y) if g.chance(0.6) else (y, x)))


@generator("Sum", "Max", "Min", "Mean", since=8)
def _variadic(g: Draft, op: str) -> None:
    x = g.pick()
    items = [x]
    shape = g.shape(x)
    for _ in range(g.whole(0, 3)):
        y = partner(g, x)
        try:
            shape = np.broadcast_shapes(shape, g.shape(y))
        except ValueError:
            continue
        items.append(y)
    g.random.shuffle(items)
    g.emit(op, *items)


@generator("Pow")
def _pow(g: Draft, op: str) -> None:
    exponent = g.choose(*(0.5, 1.0, 2.0, 3.0, 4.0) * 4, -1.0, 0.0, 1.5)
    x = g.pick()
    if exponent not in {1.0, 2.0, 3.0, 4.0}:
        x = g.emit("Add", g.emit("Abs", x)[0], g.const(0.25, np.float32))[0]
    shape = g.choose((), (1,), (1, 1)) if len(g.shape(x)) >= 2 else ()
    g.emit(op, x, g.const(np.full(shape, exponent, np.float32)))


@generator("PRelu")
def _prelu(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    if len(shape) >= 3 and g.chance(0.5):
        drawn: tuple[int, ...] = (shape[1], *(1,) * (len(shape) - 2))
    else:
        drawn = broadcastable(g, shape, wider=False)
    g.emit(op, x, g.const(g.weights(drawn)))
