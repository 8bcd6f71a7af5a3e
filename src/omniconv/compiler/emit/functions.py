"""The functions of :mod:`omniconv.program.functions` on vectors or scalars: one emitter for each name.

Some stand in files of their own: sine and its neighbours (`circular`), their inverses (`inverse`), powers (`power`).
What is computed in float64 for float32, too, is within 1 unit in the last place there. Errors otherwise
(tests/compiler/emit/test_functions.py): erf 2 in float32 and 4 in float64; softplus 3; Mish 4; hyperbolic functions and
their inverses 4. In float32 results below 2^-120 of Mish are only accurate absolutely.
"""

from __future__ import annotations

import math as scalar
from collections.abc import Callable
from typing import Final

from omniconv.compiler.emit import elementary32, elementary64
from omniconv.compiler.emit.arithmetic import emit_clamp, emit_polynomial, emit_wide, is_wide
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.circular import emit_cos, emit_sin, emit_tan
from omniconv.compiler.emit.elementary import emit_exp, emit_log
from omniconv.compiler.emit.inverse import emit_acos, emit_asin, emit_atan
from omniconv.compiler.emit.machine import Value

_TWO_OVER_ROOT_PI: Final = 1.1283791670955126
_ERF64: Final = [
    -4.230945824295338e-12, 8.709045129053106e-11, -1.216456005728345e-09, 1.4792401209404813e-08,
    -1.6364642158167616e-07, 1.6462045441468418e-06, -1.4925647567519332e-05, 0.00012055332902888736,
    -0.000854832702193483, 0.0052239776254232985, -0.02686617064512984, 0.1128379167095512, -0.37612638903183754,
]  # fmt: skip
"""(erf(x) / x - 2 / sqrt(pi)) / x^2 in x^2 up to 1, by interpolation at Chebyshev's points: 2^-56."""
_ERF32: Final = [7.875874871e-05, -0.0008016864303, 0.005189087242, -0.02685421146, 0.1128359437, -0.3761262596]
"""The same to 2^-27."""
_LOG_ERFC: Final = [
    1.637151399e-06, -4.605804133e-05, 0.0005968056503, -0.004759596195, 0.02642113529, -0.1100800857, -0.6318260431,
    -1.130233407, 0.0003201380605,
]  # fmt: skip
"""ln erfc(x) from 1 to 4: e to its power is within 2^-27 of erf(x)."""
_LOG1P64: Final = [
    0.07815288900461426, 0.03746071897775383, 0.05422589197440007, 0.05867139530651599, 0.06667589315724629,
    0.07692271982430275, 0.09090909948981357, 0.11111111099118386, 0.1428571428580005, 0.19999999999999762,
    0.3333333333333333,
]  # fmt: skip
"""(ln((1 + s) / (1 - s)) / 2 s - 1) / s^2 in s^2 up to 1/9: 2^-58."""
_LOG1P32: Final = [
    0.001986696618, -0.01318782661, 0.04100657254, -0.08188040555, 0.12377996, -0.1608762294, 0.1988582015,
    -0.2498649657, 0.3333249688, -0.4999997914, 1.0,
]  # fmt: skip
"""ln(1 + u) / u up to 1: 2^-28."""


def _erf(k: Kernel, x: Value) -> Value:
    """An odd polynomial up to 1, 1 - erfc |x| with the sign of x beyond."""
    kind, wide = x.type, is_wide(x)
    a, one, z = k.call("fabs", x), k.splat(1.0, x.type), k.b.fmul(x, x)
    near = emit_polynomial(k, z, _ERF64 if wide else _ERF32)
    near = k.b.fmul(x, k.fma(near, z, k.splat(_TWO_OVER_ROOT_PI, kind)))
    if wide:
        # erfc(a) = 2 Q(a sqrt 2)
        tail = elementary64.emit_tail(k, emit_clamp(k, k.b.fmul(a, k.splat(scalar.sqrt(2.0), kind)), -scalar.inf, 40.0))
        far = k.fma(k.splat(-2.0, kind), tail, one)
    else:
        log = emit_polynomial(k, emit_clamp(k, a, -scalar.inf, 4.0), _LOG_ERFC)
        far = k.b.fsub(one, elementary32.emit_exp_beside(k, log))
    return k.b.select(k.b.fcmp_ordered("<", a, one), near, k.call("copysign", far, x))


def _sign(k: Kernel, x: Value) -> Value:
    zero = k.splat(0.0, x.type)
    one = k.call("copysign", k.splat(1.0, x.type), x)
    return k.b.select(k.b.fcmp_ordered("==", x, zero), zero, k.b.select(k.b.unordered(x, x), x, one))


def _log1p_below(k: Kernel, u: Value) -> Value:
    """ln(1 + u) for u from 0 to 1."""
    if not is_wide(u):
        return k.b.fmul(u, emit_polynomial(k, u, _LOG1P32))
    # 2 artanh s, s = u / (2 + u)
    s = k.b.fdiv(u, k.b.fadd(u, k.splat(2.0, u.type)))
    z, double = k.b.fmul(s, s), k.b.fadd(s, s)
    return k.fma(k.b.fmul(double, z), emit_polynomial(k, z, _LOG1P64), double)


def _softplus(k: Kernel, x: Value) -> Value:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)."""
    small = _log1p_below(k, emit_exp(k, k.b.fneg(k.call("fabs", x))))
    return k.b.fadd(emit_clamp(k, x, 0.0, scalar.inf), small)


def _softsign(k: Kernel, x: Value) -> Value:
    return k.b.fdiv(x, k.b.fadd(k.splat(1.0, x.type), k.call("fabs", x)))


def _mish(k: Kernel, x: Value) -> Value:
    """x tanh(ln(1 + u)), u = e^x: the quotient of u (u + 2) and u (u + 2) + 2, or in v = 1 / u of 1 + 2 v and 2 v^2
    more.
    """
    kind = x.type
    e, one, two = emit_exp(k, k.b.fneg(k.call("fabs", x))), k.splat(1.0, kind), k.splat(2.0, kind)
    negative = k.b.fcmp_ordered("<", x, k.splat(0.0, kind))
    above = k.b.select(negative, k.b.fmul(e, k.b.fadd(e, two)), k.fma(e, two, one))
    more = k.b.select(negative, two, k.b.fmul(k.b.fmul(two, e), e))
    return k.b.fmul(x, k.b.fdiv(above, k.b.fadd(above, more)))


def _log1p(k: Kernel, u: Value) -> Value:
    """ln(1 + u) for u >= 0: what 1 + u loses is put back."""
    one = k.splat(1.0, u.type)
    y = k.b.fadd(u, one)
    lost = k.b.fdiv(k.b.fsub(u, k.b.fsub(y, one)), y)
    whole = k.b.fcmp_ordered("<", u, k.splat(2.0**60, u.type))
    return k.b.fadd(emit_log(k, y), k.b.select(whole, lost, k.splat(0.0, u.type)))


def _sinh(k: Kernel, x: Value) -> Value:
    return k.call("copysign", elementary64.emit_sinh_cosh(k, x)[0], x)


def _cosh(k: Kernel, x: Value) -> Value:
    return elementary64.emit_sinh_cosh(k, x)[1]


_HUGE: Final = 2.0**500
"""Beyond it squares may overflow, and a root of one more than a square is the number itself."""


def _grown(k: Kernel, a: Value, value: Callable[[Value], Value]) -> Value:
    """ln(1 + value(a)), and ln(2 a) where a is huge."""
    huge = k.b.fcmp_ordered(">", a, k.splat(_HUGE, a.type))
    inner = k.b.select(huge, k.b.fsub(a, k.splat(1.0, a.type)), value(emit_clamp(k, a, -scalar.inf, _HUGE)))
    more = k.b.select(huge, k.splat(scalar.log(2.0), a.type), k.splat(0.0, a.type))
    return k.b.fadd(_log1p(k, inner), more)


def _asinh(k: Kernel, x: Value) -> Value:
    """ln(a + sqrt(a^2 + 1)) = ln(1 + a + a^2 / (1 + sqrt(a^2 + 1))), a = |x|."""

    def value(a: Value) -> Value:
        one, square = k.splat(1.0, a.type), k.b.fmul(a, a)
        return k.b.fadd(a, k.b.fdiv(square, k.b.fadd(one, k.call("sqrt", k.b.fadd(square, one)))))

    return k.call("copysign", _grown(k, k.call("fabs", x), value), x)


def _acosh(k: Kernel, x: Value) -> Value:
    """ln(1 + t + sqrt(2 t + t^2)), t = x - 1; NaN below 1."""

    def value(a: Value) -> Value:
        t = k.b.fsub(a, k.splat(1.0, a.type))
        return k.b.fadd(t, k.call("sqrt", k.b.fmul(t, k.b.fadd(t, k.splat(2.0, a.type)))))

    below = k.b.fcmp_ordered("<", x, k.splat(1.0, x.type))
    return k.b.select(below, k.splat(scalar.nan, x.type), _grown(k, x, value))


def _atanh(k: Kernel, x: Value) -> Value:
    """ln(1 + 2 a / (1 - a)) / 2 with the sign of x, a = |x|; infinity at 1, NaN beyond."""
    a, one = k.call("fabs", x), k.splat(1.0, x.type)
    value = k.b.fmul(k.splat(0.5, x.type), _log1p(k, k.b.fdiv(k.b.fadd(a, a), k.b.fsub(one, a))))
    value = k.b.select(k.b.fcmp_ordered(">", a, one), k.splat(scalar.nan, x.type), value)
    return k.call("copysign", value, x)


def _widened(function: Callable[[Kernel, Value], Value]) -> Callable[[Kernel, Value], Value]:
    return lambda k, x: emit_wide(k, function, x)


EMITTERS: Final[dict[str, Callable[[Kernel, Value], Value]]] = {
    "log": emit_log,
    "erf": _erf,
    "sign": _sign,
    "floor": lambda k, x: k.call("floor", x),
    "ceil": lambda k, x: k.call("ceil", x),
    "round": lambda k, x: k.call("roundeven", x),
    "sin": emit_sin,
    "cos": emit_cos,
    "tan": emit_tan,
    "asin": emit_asin,
    "acos": emit_acos,
    "atan": emit_atan,
    "sinh": _widened(_sinh),
    "cosh": _widened(_cosh),
    "asinh": _widened(_asinh),
    "acosh": _widened(_acosh),
    "atanh": _widened(_atanh),
    "softplus": _softplus,
    "softsign": _softsign,
    "mish": _mish,
}
"""One for each name of :data:`omniconv.program.functions.FUNCTIONS`."""


def emit_function(k: Kernel, name: str, x: Value) -> Value:
    """A function by its name."""
    return EMITTERS[name](k, x)
