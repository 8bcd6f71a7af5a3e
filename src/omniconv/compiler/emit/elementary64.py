r"""Elementary functions in float64 vector arithmetic.

e^x is split as in :mod:`omniconv.compiler.emit.elementary32`, with a polynomial of degree 13. Functions that would
cancel or overflow are written so that they do neither: what is near 1 is e^x - 1 with all its digits, exponentials are
taken of negative numbers, and exponents that are themselves products are kept with their rounding errors.

Errors against exact values are at most 4 units in the last place of the result (tests/compiler/emit/
test_elementary64.py measures them over the whole range). Where an exponential below 2^-1000 is multiplied by x, in SiLU
and both forms of GELU, results are only accurate absolutely, to 2^-1060; hard swish and hard sigmoid are, to 2^-51 and
2^-53.
"""

from __future__ import annotations

import math as scalar
from typing import Final

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.arithmetic import (
    emit_clamp,
    emit_polynomial,
    emit_two_product,
    integers_of,
    splat_integer,
)
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Bits, Value

_LN2_HIGH: Final = 6.93147180369123816490e-01
"""The logarithm of 2 in 32 bits, so that its products with exponents are exact ..."""
_LN2_LOW: Final = 1.90821492927058770002e-10
"""... and what is left of it (fdlibm)."""
_ROUND: Final = 1.5 * 2.0**52
_ROUND_BITS: Final = 0x4338000000000000
_BIAS: Final = 1023
_FIELD: Final = 52
"""Where the exponent begins [bits]."""
_EXP: Final = [1 / scalar.factorial(n) for n in range(13, 1, -1)]
"""(e^r - 1 - r) / r^2 to 2^-57 of e^r."""
_LOG: Final = [
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
]
"""(ln((1 + s) / (1 - s)) - 2 s) / s^3 in s^2, |s| < 0.1716: 2^-58 (fdlibm)."""
_TAIL: Final = [
    -1.6307358927162806e-09, -2.8407375015824894e-09, 1.3986418270722086e-08, 3.4915031914168804e-08,
    -5.087189256544824e-08, -2.309167686785687e-07, 5.49670275175014e-08, 1.1976852459117837e-06,
    6.034080746306395e-07, -5.887017682283024e-06, -6.0351495677581995e-06, 3.155718043840732e-05,
    3.786857946727623e-05, -0.0002043546840899058, -0.0001433056195533259, 0.0015769784742980433,
    -0.001210060047104296, -0.010512319256726677, 0.044364290441431586, -0.09526047896250885,
    0.12890813544483928, -0.09637998589041227, -0.0230092331045962, 5.263840463400739e-17,
]  # fmt: skip
_TAIL_HIGH: Final = 0.8496957717177204
"""(1 + 2 a) e^(a^2 / 2) erfc(a / sqrt 2) / 2 in u = (a - 4) / (a + 4), 0 <= a <= 40, by interpolation at Chebyshev's
points: 2^-55. The constant term is a sum of two."""
_C: Final = (1.5957691216057308, -9.96930880911092e-17)
_D: Final = (0.07135481627260025, -6.175149918155315e-19)
"""2 sqrt(2 / pi) and 0.044715 times that, each as the sum of two."""


def _reduce(k: Kernel, x: Value) -> tuple[Bits, Value]:
    """An integer n, and e^r - 1, for e^x = 2^n e^r."""
    # Adding a multiple of 2^52 rounds to an integer and leaves it in the low bits.
    shifted = k.fma(x, k.splat(1.0 / scalar.log(2.0), x.type), k.splat(_ROUND, x.type))
    n = k.b.fsub(shifted, k.splat(_ROUND, x.type))
    r = k.fma(n, k.splat(-_LN2_HIGH, x.type), x)
    r = k.fma(n, k.splat(-_LN2_LOW, x.type), r)
    integers = integers_of(x)
    whole = k.b.sub(k.b.bitcast(shifted, integers), splat_integer(integers, _ROUND_BITS))
    return whole, k.fma(k.b.fmul(r, r), emit_polynomial(k, r, _EXP), r)


def _power(k: Kernel, n: Bits, kind: ir.Type) -> Value:
    """2^n for an integer in the range of normal exponents."""
    integers = n.type
    exponent = k.b.shl(k.b.add(n, splat_integer(integers, _BIAS)), splat_integer(integers, _FIELD))
    return k.b.bitcast(exponent, kind)


def emit_exp(k: Kernel, x: Value, low: Value | None = None) -> Value:
    """e^x: 0 below -745.14, infinity above 709.78. With ``low``, what x lacks and small against 1, e^(x + low)."""
    whole, p = _reduce(k, emit_clamp(k, x, -746.0, 710.0))
    p = k.b.fadd(p if low is None else k.b.fadd(p, k.fma(p, low, low)), k.splat(1.0, x.type))
    return _scale(k, p, whole)


def emit_sinh_cosh(k: Kernel, x: Value) -> tuple[Value, Value]:
    """sinh |x| and cosh x; infinity from 710.48 on.

    With t = e^|x| - 1, sinh |x| = (t + t / (t + 1)) / 2 where e^|x| is not large, which loses nothing near 0.
    """
    kind = x.type
    one, half = k.splat(1.0, kind), k.splat(0.5, kind)
    a = emit_clamp(k, k.call("fabs", x), -scalar.inf, 711.0)
    whole, p = _reduce(k, a)
    power = _power(k, whole, kind)
    t = k.fma(power, p, k.b.fsub(power, one))
    near = k.b.fmul(half, k.b.fadd(t, k.b.fdiv(t, k.b.fadd(t, one))))
    # e^|x| / 2 is finite where e^|x| is not.
    large = _scale(k, k.b.fadd(p, one), k.b.sub(whole, splat_integer(whole.type, 1)))
    sinh = k.b.select(k.b.fcmp_unordered("<", a, k.splat(22.0, kind)), near, large)
    return sinh, k.b.fadd(large, k.b.fdiv(k.splat(0.25, kind), large))


def _scale(k: Kernel, p: Value, whole: Bits) -> Value:
    """p 2^n in two factors, so that results below the normal range come out gradually.

    A NaN makes any integer n, and is still in p.
    """
    half = k.b.ashr(whole, splat_integer(whole.type, 1))
    for part in (half, k.b.sub(whole, half)):
        p = k.b.fmul(p, _power(k, part, p.type))
    return p


def _expm1(k: Kernel, x: Value) -> Value:
    """e^x - 1 with all its digits, for x < 700; below -50 it is -1."""
    whole, p = _reduce(k, emit_clamp(k, x, -50.0, 700.0))
    power = _power(k, whole, x.type)
    return k.fma(power, p, k.b.fsub(power, k.splat(1.0, x.type)))


def emit_log(k: Kernel, x: Value) -> Value:
    """The natural logarithm: -infinity at 0, NaN below, infinity at infinity.

    x = m 2^e with m in [sqrt(1/2), sqrt 2), f = m - 1, s = f / (2 + f): ln m = f - f^2 / 2 + s (f^2 / 2 + R(s^2)).
    """
    integers, kind = integers_of(x), x.type
    tiny = k.b.fcmp_ordered("<", x, k.splat(2.0**-1022, kind))
    bits = k.b.bitcast(k.b.select(tiny, k.b.fmul(x, k.splat(2.0**54, kind)), x), integers)
    # The exponent counts from sqrt(1/2), whose bits are 0x3FE6A09E667F3BCD.
    exponent = k.b.ashr(k.b.sub(bits, splat_integer(integers, 0x3FE6A09E667F3BCD)), splat_integer(integers, _FIELD))
    mantissa = k.b.sub(bits, k.b.shl(exponent, splat_integer(integers, _FIELD)))
    # Small integers become floats in the low bits of a large one: conversions of 64 bits are slow.
    e = k.b.bitcast(k.b.add(exponent, splat_integer(integers, _ROUND_BITS)), kind)
    e = k.b.fsub(e, k.b.select(tiny, k.splat(_ROUND + 54.0, kind), k.splat(_ROUND, kind)))
    f = k.b.fsub(k.b.bitcast(mantissa, kind), k.splat(1.0, kind))
    s = k.b.fdiv(f, k.b.fadd(f, k.splat(2.0, kind)))
    z = k.b.fmul(s, s)
    half = k.b.fmul(k.b.fmul(f, f), k.splat(0.5, kind))
    rest = k.b.fmul(s, k.b.fadd(half, k.b.fmul(z, emit_polynomial(k, z, _LOG))))
    rest = k.fma(e, k.splat(_LN2_LOW, kind), rest)
    result = k.fma(e, k.splat(_LN2_HIGH, kind), k.b.fsub(f, k.b.fsub(half, rest)))
    infinity, zero = k.splat(scalar.inf, kind), k.splat(0.0, kind)
    result = k.b.select(k.b.fcmp_ordered("==", x, zero), k.splat(-scalar.inf, kind), result)
    result = k.b.select(k.b.fcmp_ordered("==", x, infinity), infinity, result)
    invalid = k.b.fcmp_unordered("<", x, zero)  # also true of a NaN
    return k.b.select(invalid, k.splat(scalar.nan, kind), result)


def _share(k: Kernel, x: Value, low: Value | None = None) -> Value:
    """1 / (1 + e^-(x + low)), of exponentials of negative numbers: nothing overflows, and small results are as close as
    large ones. ``low`` is what x lacks, small against 1.
    """
    one, below = k.splat(1.0, x.type), k.b.fcmp_ordered("<", x, k.splat(0.0, x.type))
    e = emit_exp(k, k.b.fneg(k.call("fabs", x)))
    if low is not None:
        e = k.fma(e, k.b.select(below, low, k.b.fneg(low)), e)
    return k.b.fdiv(k.b.select(below, e, one), k.b.fadd(one, e))


def emit_sigmoid(k: Kernel, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    return _share(k, x)


def emit_silu(k: Kernel, x: Value) -> Value:
    """x / (1 + e^-x)."""
    return k.b.fmul(x, _share(k, x))


def emit_tanh(k: Kernel, x: Value) -> Value:
    """With t = e^y - 1: -t / (t + 2) for y = -2 |x| below 1, 1 - 2 / (t + 2) for y = 2 |x| above."""
    magnitude, two = k.call("fabs", x), k.splat(2.0, x.type)
    small = k.b.fcmp_ordered("<", magnitude, k.splat(1.0, x.type))
    double = emit_clamp(k, k.b.fadd(magnitude, magnitude), -scalar.inf, 50.0)
    t = _expm1(k, k.b.select(small, k.b.fneg(double), double))
    quotient = k.b.fdiv(k.b.select(small, k.b.fneg(t), two), k.b.fadd(t, two))
    return k.call("copysign", k.b.select(small, quotient, k.b.fsub(k.splat(1.0, x.type), quotient)), x)


def emit_elu(k: Kernel, x: Value, factor: float) -> Value:
    """x above zero, ``factor`` (e^x - 1) below."""
    below = k.b.fmul(k.splat(factor, x.type), _expm1(k, emit_clamp(k, x, -scalar.inf, 0.0)))
    return k.b.select(k.b.fcmp_ordered("<", x, k.splat(0.0, x.type)), below, x)


def emit_gelu(k: Kernel, x: Value) -> Value:
    """The product x Q(-x), with Q(a) = erfc(a / sqrt 2) / 2 = P(u) e^(-a^2 / 2) / (1 + 2 a), u = (a - 4) / (a + 4).

    Nothing cancels on the negative side, where 1 + erf would. Beyond a = 40, Q is 0.
    """
    above = emit_tail(k, emit_clamp(k, k.call("fabs", x), -scalar.inf, 40.0))
    below = k.b.fcmp_ordered("<", x, k.splat(0.0, x.type))
    return k.b.fmul(x, k.b.select(below, above, k.b.fsub(k.splat(1.0, x.type), above)))


def emit_tail(k: Kernel, a: Value) -> Value:
    """Q(a) = erfc(a / sqrt 2) / 2 for 0 <= a <= 40."""
    one, four = k.splat(1.0, a.type), k.splat(4.0, a.type)
    u = k.b.fdiv(k.b.fsub(a, four), k.b.fadd(a, four))
    p = k.b.fadd(emit_polynomial(k, u, _TAIL), k.splat(_TAIL_HIGH, a.type))
    square, error = emit_two_product(k, a, a)
    bell = emit_exp(k, k.b.fmul(square, k.splat(-0.5, a.type)))
    bell = k.fma(bell, k.b.fmul(error, k.splat(-0.5, a.type)), bell)
    return k.b.fmul(k.b.fdiv(p, k.fma(a, k.splat(2.0, a.type), one)), bell)


def emit_gelu_tanh(k: Kernel, x: Value) -> Value:
    """x / (1 + e^-2u), 2 u = x (c + d x^2) with c = 2 sqrt(2 / pi), d = 0.044715 c, as a sum of two numbers."""
    a = emit_clamp(k, x, -40.0, 40.0)
    c, d = k.splat(_C[0], x.type), k.splat(_D[0], x.type)
    square, square_low = emit_two_product(k, a, a)
    cubic, cubic_low = emit_two_product(k, square, d)
    low = k.fma(square, k.splat(_D[1], x.type), k.fma(square_low, d, k.b.fadd(cubic_low, k.splat(_C[1], x.type))))
    factor = k.b.fadd(c, cubic)  # what the sum loses, whichever is larger
    part = k.b.fsub(factor, c)
    lost = k.b.fadd(k.b.fsub(c, k.b.fsub(factor, part)), k.b.fsub(cubic, part))
    low = k.b.fadd(low, lost)
    high, high_low = emit_two_product(k, a, factor)
    return k.b.fmul(x, _share(k, high, k.fma(a, low, high_low)))
