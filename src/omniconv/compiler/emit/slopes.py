"""Derivatives of activations, times what comes back to them.

Where a derivative is 0 or 1, the gradient is chosen and not multiplied, so that an infinite one does not become NaN; at
corners the choice is PyTorch's, and for NaN that of its ReLU: the gradient passes (not through a hard sigmoid).
"""

from __future__ import annotations

import math as scalar
from collections.abc import Callable
from typing import Final

from omniconv.compiler.emit.arithmetic import emit_clamp
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_activation, emit_exp
from omniconv.compiler.emit.functions import emit_function
from omniconv.compiler.emit.machine import Mask, Value
from omniconv.spec import Activation


def _either(k: Kernel, a: Mask, b: Mask) -> Mask:
    return k.b.or_(a, b)


def _zero_where(k: Kernel, mask: Mask, g: Value) -> Value:
    return k.b.select(mask, k.splat(0.0, g.type), g)


def _clipped(k: Kernel, z: Value, g: Value, low: float, high: float) -> Value:
    """The gradient between both bounds, 0 at and beyond them."""
    outside = k.b.fcmp_ordered("<=", z, k.splat(low, z.type))
    if high != scalar.inf:
        outside = _either(k, outside, k.b.fcmp_ordered(">=", z, k.splat(high, z.type)))
    return _zero_where(k, outside, g)


def _leaky(k: Kernel, z: Value, g: Value, act: Activation) -> Value:
    above = k.b.fcmp_ordered(">", z, k.splat(0.0, z.type))
    return k.b.select(above, g, k.b.fmul(g, k.splat(act["alpha"], z.type)))


def _elu(k: Kernel, z: Value, g: Value, act: Activation) -> Value:
    """Above 0 the gradient itself, else times alpha e^z."""
    zero = k.splat(0.0, z.type)
    below = k.b.fcmp_unordered("<=", z, zero)
    factor = k.b.fmul(k.splat(act["alpha"], z.type), emit_exp(k, emit_clamp(k, z, -scalar.inf, 0.0)))
    return k.b.select(below, k.b.fmul(g, factor), g)


def _sigmoid(k: Kernel, z: Value, g: Value, act: Activation) -> Value:
    s = emit_activation(k, z, act)
    return k.b.fmul(g, k.b.fmul(s, k.b.fsub(k.splat(1.0, z.type), s)))


def _silu(k: Kernel, z: Value, g: Value, _: Activation) -> Value:
    """s (1 + z (1 - s)), s = sigmoid(z)."""
    s, one = emit_activation(k, z, Activation("sigmoid")), k.splat(1.0, z.type)
    return k.b.fmul(g, k.b.fmul(s, k.fma(z, k.b.fsub(one, s), one)))


def _hard_sigmoid(k: Kernel, z: Value, g: Value, act: Activation) -> Value:
    """alpha inside of both corners, else 0, for NaN too."""
    alpha, beta = act["alpha"], act["beta"]
    above = k.b.fcmp_ordered(">", z, k.splat(-beta / alpha, z.type))
    inside = k.b.and_(above, k.b.fcmp_ordered("<", z, k.splat((1.0 - beta) / alpha, z.type)))
    return k.b.select(inside, k.b.fmul(g, k.splat(alpha, z.type)), k.splat(0.0, z.type))


def _hard_swish(k: Kernel, z: Value, g: Value, _: Activation) -> Value:
    """0 up to -3, 1 from 3 on, z / 3 + 1/2 between."""
    line = k.b.fmul(g, k.fma(z, k.splat(1.0 / 3.0, z.type), k.splat(0.5, z.type)))
    above = k.b.fcmp_ordered(">=", z, k.splat(3.0, z.type))
    return _zero_where(k, k.b.fcmp_ordered("<=", z, k.splat(-3.0, z.type)), k.b.select(above, g, line))


def _tanh(k: Kernel, z: Value, g: Value, act: Activation) -> Value:
    y = emit_activation(k, z, act)
    return k.b.fmul(g, k.b.fsub(k.splat(1.0, z.type), k.b.fmul(y, y)))


def _gelu(k: Kernel, z: Value, g: Value, _: Activation) -> Value:
    """(1 + erf(z / sqrt 2)) / 2 + z e^(-z^2 / 2) / sqrt(2 pi)."""
    half = k.splat(0.5, z.type)
    share = k.fma(emit_function(k, "erf", k.b.fmul(z, k.splat(scalar.sqrt(0.5), z.type))), half, half)
    bell = emit_exp(k, k.b.fmul(k.b.fmul(z, z), k.splat(-0.5, z.type)))
    bell = k.b.fmul(bell, k.splat(1.0 / scalar.sqrt(2.0 * scalar.pi), z.type))
    return k.b.fmul(g, k.fma(z, bell, share))


def _gelu_tanh(k: Kernel, z: Value, g: Value, _: Activation) -> Value:
    """s + z s (1 - s) c (1 + 3 0.044715 z^2), s = sigmoid(c (z + 0.044715 z^3)), c = sqrt(8 / pi)."""
    one, factor = k.splat(1.0, z.type), scalar.sqrt(8.0 / scalar.pi)
    square = k.b.fmul(z, z)
    inner = k.b.fmul(z, k.fma(square, k.splat(0.044715 * factor, z.type), k.splat(factor, z.type)))
    s = emit_activation(k, inner, Activation("sigmoid"))
    slope = k.fma(square, k.splat(3 * 0.044715 * factor, z.type), k.splat(factor, z.type))
    change = k.b.fmul(k.b.fmul(z, k.b.fmul(s, k.b.fsub(one, s))), slope)
    return k.b.fmul(g, k.b.fadd(s, change))


PULLBACKS: Final[dict[str, Callable[[Kernel, Value, Value, Activation], Value]]] = {
    "relu": lambda k, z, g, _: _clipped(k, z, g, 0.0, scalar.inf),
    "relu6": lambda k, z, g, _: _clipped(k, z, g, 0.0, 6.0),
    "clip": lambda k, z, g, act: _clipped(k, z, g, act["lo"], act["hi"]),
    "leaky_relu": _leaky,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""One for each of :data:`omniconv.program.steps.normalise.DIFFERENTIABLE`."""


def emit_pullback(k: Kernel, z: Value, g: Value, activation: Activation | None) -> Value:
    """``f'(z) g``."""
    return g if activation is None else PULLBACKS[activation.name](k, z, g, activation)
