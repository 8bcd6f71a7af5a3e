"""Elementary functions on vectors or scalars of any element, and the activations made of them.

What depends on the format of the numbers stands in a module for each element,
:mod:`omniconv.compiler.emit.elementary32` and its neighbours, which also say how far from exact they are.
"""

from __future__ import annotations

import math as scalar
from collections.abc import Callable
from typing import Final, TypeAlias

from omniconv.compiler.emit import elementary32, elementary64
from omniconv.compiler.emit.arithmetic import emit_clamp
from omniconv.compiler.emit.builder import Kernel, element_of
from omniconv.compiler.emit.machine import Value
from omniconv.records import dataclass
from omniconv.spec import Activation

Emitter: TypeAlias = Callable[[Kernel, Value], Value]


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of one element that look at its bits, or whose polynomials are fitted to it."""

    exp: Emitter
    log: Emitter
    sigmoid: Emitter
    silu: Emitter
    tanh: Emitter
    elu: Callable[[Kernel, Value, float], Value]
    gelu: Emitter
    gelu_tanh: Emitter


FUNCTIONS: Final = {
    "float32": Functions(
        elementary32.emit_exp,
        elementary32.emit_log,
        elementary32.emit_sigmoid,
        elementary32.emit_silu,
        elementary32.emit_tanh,
        elementary32.emit_elu,
        elementary32.emit_gelu,
        elementary32.emit_gelu_tanh,
    ),
    "float64": Functions(
        elementary64.emit_exp,
        elementary64.emit_log,
        elementary64.emit_sigmoid,
        elementary64.emit_silu,
        elementary64.emit_tanh,
        elementary64.emit_elu,
        elementary64.emit_gelu,
        elementary64.emit_gelu_tanh,
    ),
}
"""One row for each element, by name."""


def _of(x: Value) -> Functions:
    return FUNCTIONS[element_of(x.type).name]


def emit_exp(k: Kernel, x: Value) -> Value:
    """e^x."""
    return _of(x).exp(k, x)


def emit_log(k: Kernel, x: Value) -> Value:
    """The natural logarithm: -infinity at 0, NaN below."""
    return _of(x).log(k, x)


def _leaky(k: Kernel, x: Value, act: Activation) -> Value:
    scaled = k.b.fmul(x, k.splat(act["alpha"], x.type))
    return k.b.select(k.b.fcmp_ordered("<", x, k.splat(0.0, x.type)), scaled, x)


def _hard_sigmoid(k: Kernel, x: Value, act: Activation) -> Value:
    line = k.fma(x, k.splat(act["alpha"], x.type), k.splat(act["beta"], x.type))
    return emit_clamp(k, line, 0.0, 1.0)


def _hard_swish(k: Kernel, x: Value, _: Activation) -> Value:
    line = k.fma(x, k.splat(1.0 / 6.0, x.type), k.splat(0.5, x.type))
    return k.b.fmul(x, emit_clamp(k, line, 0.0, 1.0))


EMITTERS: Final[dict[str, Callable[[Kernel, Value, Activation], Value]]] = {
    "relu": lambda k, x, _: emit_clamp(k, x, 0.0, scalar.inf),
    "relu6": lambda k, x, _: emit_clamp(k, x, 0.0, 6.0),
    "clip": lambda k, x, act: emit_clamp(k, x, act["lo"], act["hi"]),
    "leaky_relu": _leaky,
    "elu": lambda k, x, act: _of(x).elu(k, x, act["alpha"]),
    "sigmoid": lambda k, x, _: _of(x).sigmoid(k, x),
    "silu": lambda k, x, _: _of(x).silu(k, x),
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "tanh": lambda k, x, _: _of(x).tanh(k, x),
    "exp": lambda k, x, _: emit_exp(k, x),
    "sqrt": lambda k, x, _: k.call("sqrt", x),
    "abs": lambda k, x, _: k.call("fabs", x),
    "neg": lambda k, x, _: k.b.fneg(x),
    "gelu": lambda k, x, _: _of(x).gelu(k, x),
    "gelu_tanh": lambda k, x, _: _of(x).gelu_tanh(k, x),
}
"""One emitter for each name of :data:`omniconv.spec.activation.FORMULAS`."""


def emit_activation(k: Kernel, x: Value, activation: Activation) -> Value:
    """``activation(x)`` on a vector or a scalar."""
    return EMITTERS[activation.name](k, x, activation)
