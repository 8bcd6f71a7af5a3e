"""Elementwise operators, drawn with their attributes over the whole legal range."""

from __future__ import annotations

import numpy as np
from tests.differential.draft import Draft, UnfitError
from tests.differential.table import broadcastable, generator


@generator("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Identity", "Reciprocal", "Sqrt")
def _plain(g: Draft, op: str) -> None:
    x = g.pick()
    if op in ("Sqrt", "Reciprocal") and g.style != "special" and g.chance(0.7):
        (x,) = g.emit("Abs", x)
        x = g.emit("Add", x, g.const(g.number(1.0, 0.5) ** 2 + 0.25, np.float32))[0]
    g.emit(op, x)


@generator("Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Softplus", "Softsign", "Floor", "Ceil")
def _function(g: Draft, op: str) -> None:
    x = g.pick()
    if op == "Log" and g.style != "special" and g.chance(0.7):
        (x,) = g.emit("Abs", x)
    if op in ("Asin", "Acos") and g.chance(0.7):
        (x,) = g.emit("Clip", x, min=-1.0, max=1.0) if g.opset < 11 else g.emit("Tanh", x)
    g.emit(op, x)


@generator("Sign", "Erf", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", since=9)
def _function_of_opset_9(g: Draft, op: str) -> None:
    g.emit(op, g.pick())


@generator("Round", since=11)
def _round(g: Draft, op: str) -> None:
    g.emit(op, g.pick())


@generator("Mish", since=18)
def _mish(g: Draft, op: str) -> None:
    g.emit(op, g.pick())


@generator("ThresholdedRelu", "Shrink", since=10)
def _thresholds(g: Draft, op: str) -> None:
    x = exact(g)
    if op == "Shrink":
        g.emit(op, x, lambd=abs(g.number(0.5, 1.0)), bias=g.number(0.0, 1.0))
    else:
        g.emit(op, x, alpha=g.number(1.0, 0.0))


def exact(g: Draft) -> str:
    """A value without errors: a decision on another one may fall either way."""
    names = [name for name in g.inputs if not g.items[name].error.any()]
    if not names:
        raise UnfitError("no exact value")
    return g.choose(*names)


@generator("Less", "Greater", "Equal", since=11)
def _comparison(g: Draft, op: str) -> None:
    (test,) = g.emit(op, exact(g), g.const(g.number(0.0, 1.0, -1.0, 0.5), np.float32))
    _use(g, test)


@generator("LessOrEqual", "GreaterOrEqual", since=16)
def _comparison_or_equal(g: Draft, op: str) -> None:
    (test,) = g.emit(op, exact(g), g.const(g.number(0.0, 1.0), np.float32))
    _use(g, test)


@generator("And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Where", since=13)
def _logic(g: Draft, op: str) -> None:
    x = exact(g)
    (first,) = g.emit("IsInf" if op == "IsInf" else "IsNaN", x)
    if op in ("And", "Or", "Xor"):
        (second,) = g.emit("Less", x, g.const(g.number(0.0), np.float32))
        (first,) = g.emit(op, first, second)
    if op == "Not":
        (first,) = g.emit(op, first)
    _use(g, first)


def _use(g: Draft, test: str) -> None:
    """A truth chooses between values, or becomes a number."""
    x = g.pick()
    try:
        np.broadcast_shapes(g.shape(test), g.shape(x))
        fits = g.chance(0.7)
    except ValueError:
        fits = False
    if fits:
        other = g.const(g.weights(broadcastable(g, g.shape(x), wider=False)))
        g.emit("Where", test, *((x, other) if g.chance(0.5) else (other, x)))
    else:
        g.emit("Cast", test, to=1)


@generator("Mod", since=10)
def _mod(g: Draft, op: str) -> None:
    x = exact(g)
    g.emit(op, x, g.const(np.abs(g.weights(broadcastable(g, g.shape(x)))) + np.float32(0.25)), fmod=1)


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
    if g.chance(0.3):
        x = g.emit("Add", g.emit("Abs", g.pick())[0], g.const(0.25, np.float32))[0]
        g.emit(op, x, g.const(g.weights(broadcastable(g, g.shape(x)))))
        return
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
