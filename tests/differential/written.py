"""Activations written out as exporters do, and formulas beside them; constants that are computed."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto
from tests.differential.draft import Draft
from tests.differential.table import broadcastable, generator


def near(g: Draft, value: float, share: float = 0.75) -> np.float32:
    """The constant of a formula, or one beside it that must not be taken for it."""
    return np.float32(
        value if g.chance(share) else g.choose(value * 1.001, value + 1e-6, -value, value * 2, value + 0.25)
    )


@generator("written gelu", since=9)
def _written_gelu(g: Draft, _op: str) -> None:
    x = g.pick()
    scaled = (
        g.emit("Div", x, g.const(near(g, math.sqrt(2.0), 0.95)))
        if g.chance(0.5)
        else g.emit("Mul", x, g.const(near(g, math.sqrt(0.5), 0.95)))
    )
    inner = g.emit("Add", g.emit("Erf", scaled[0])[0], g.const(near(g, 1.0, 0.95)))[0]
    if g.chance(0.5):
        g.emit("Mul", g.emit("Mul", x, inner)[0], g.const(near(g, 0.5, 0.95)))
    else:
        g.emit("Mul", g.emit("Mul", x, g.const(near(g, 0.5, 0.95)))[0], inner)


@generator("written swish")
def _written_swish(g: Draft, _op: str) -> None:
    x = g.pick()
    match g.whole(0, 3):
        case 0:
            inner = x if g.chance(0.5) else g.emit("Mul", x, g.const(near(g, 1.0)))[0]
            gate = g.emit("Sigmoid", inner)[0]
            g.emit("Mul", *((x, gate) if g.chance(0.5) else (gate, x)))
        case 1:
            gate = g.emit("HardSigmoid", x, alpha=float(near(g, 1 / 6)), beta=float(near(g, 0.5)))[0]
            g.emit("Mul", x, gate)
        case 2:
            shifted = g.emit("Add", x, g.const(near(g, 3.0)))[0]
            if g.opset < 11:
                clipped = g.emit("Clip", shifted, min=float(near(g, 0.0)), max=6.0)[0]
            else:
                clipped = g.emit("Clip", shifted, g.const(near(g, 0.0)), g.const(near(g, 6.0)))[0]
            g.emit("Div", g.emit("Mul", x, clipped)[0], g.const(near(g, 6.0)))
        case _:
            power = g.emit("Exp", g.emit("Neg", x)[0])[0]
            g.emit("Div", x, g.emit("Add", power, g.const(near(g, 1.0)))[0])


@generator("written clamp", since=11)
def _written_clamp(g: Draft, _op: str) -> None:
    x = g.emit(g.choose("Relu", "Sigmoid", "Abs", "Tanh"), g.pick())[0]
    bound = g.const(np.float32(g.choose(65504.0, 6.0, 1.0, 1e-6, 0.0, 1e30)))
    match g.whole(0, 4):
        case 0:
            g.emit("Clip", x, "", bound)
        case 1:
            g.emit("Clip", x, bound, "")
        case 2 | 3:
            g.emit(g.choose("Min", "Max"), x, bound)
        case _:
            g.emit("Add", x, bound)


@generator("folded", since=11)
def _folded(g: Draft, _op: str) -> None:
    """A constant computed by operators that are only folded, then used."""
    x = g.pick()
    shape = broadcastable(g, g.shape(x))
    quarters = (g.numbers.integers(-16, 17, shape) / 4).astype(np.float32)
    name = g.const(quarters)
    for _ in range(g.whole(1, 3)):
        match g.whole(0, 9):
            case 0:
                name = g.emit(g.choose("Floor", "Ceil", "Round", "Sign", "Abs", "Neg"), name)[0]
            case 1:
                other = g.const((g.numbers.integers(-16, 17, shape) / 4).astype(np.float32))
                compare = ["Less", "Greater", "Equal", *(["LessOrEqual", "GreaterOrEqual"] if g.opset >= 12 else [])]
                test = g.emit(g.random.choice(compare), name, other)[0]
                if g.chance(0.3):
                    test = g.emit("Not", test)[0]
                if g.chance(0.5):
                    second = g.emit(g.random.choice(compare), other, name)[0]
                    test = g.emit(g.choose("And", "Or", "Xor"), test, second)[0]
                name = g.emit("Where", test, name, other)[0]
            case 2:
                divisor = g.const(g.choose(1.0, 0.5, 2.0, 3.0), np.float32)
                name = g.emit("Mod", name, divisor, fmod=1)[0]
            case 3:
                whole = g.emit("Cast", name, to=TensorProto.INT64)[0]
                name = g.emit("Cast", whole, to=TensorProto.FLOAT)[0]
            case 4:
                name = g.emit(
                    g.choose("Add", "Sub", "Mul", "Max", "Min"), name, g.const(g.choose(1.0, 0.5, -2.0), np.float32)
                )[0]
            case 5:
                size = g.emit("Size", x)[0]
                name = g.emit("Add", name, g.emit("Cast", size, to=TensorProto.FLOAT)[0])[0]
            case 6 if shape:
                count = g.const(shape[-1], np.int64)
                steps = g.emit("Range", g.const(0, np.int64), count, g.const(1, np.int64))[0]
                name = g.emit("Add", name, g.emit("Cast", steps, to=TensorProto.FLOAT)[0])[0]
            case 7:
                form = g.emit("ConstantOfShape", g.ints([*shape]))[0] if shape else g.const(0.0, np.float32)
                name = g.emit("Add", name, form)[0]
            case 8:
                op = g.choose("Tanh", "Sigmoid", "Relu", "Exp", "Log", "ReduceProd")
                if op == "Log":
                    name = g.emit("Add", g.emit("Abs", name)[0], g.const(0.25, np.float32))[0]
                name = g.emit(op, name)[0]
                break  # no longer exact: what jumps may not follow
            case _:
                name = g.emit("Clip", name, g.const(-1.0, np.float32), g.const(2.0, np.float32))[0]
    g.emit(g.choose("Add", "Mul", "Sub"), x, name)
