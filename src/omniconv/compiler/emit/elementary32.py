"""Elementary functions in float32 vector arithmetic.

exp follows Cody and Waite: :math:`x = n \\ln 2 + r`, :math:`|r| \\le \\ln 2 / 2`, a degree-6 polynomial for :math:`e^r`
and the exponent field for :math:`2^n`. Infinity and NaN give what the formulas of :mod:`omniconv.spec.activation` give.

Errors against float64, in units in the last place of the result (tests/compiler/emit/test_elementary.py measures them
over the whole range; results below 2^-120 are only accurate absolutely):

- exp, log, leaky ReLU 1.2; ELU 2; tanh 2; sigmoid and SiLU 2.5; hard swish 2^-22 absolute; hard sigmoid 2^-24 absolute;
- GELU 6, and 6 + x^2 below zero (at most 0.97 of that, by every float from 2^-12 to 16);
- its tanh form 2, and 4 + 6 u below zero with u = 0.8 |x + 0.045 x^3|.
"""

from __future__ import annotations

import math as scalar
from typing import Final

from omniconv.compiler.emit.arithmetic import emit_clamp, emit_polynomial, integers_of, splat_integer
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Value

_LN2_HIGH: Final = 0.693359375
_LN2_LOW: Final = -2.12194440e-4
_ROUND: Final = 1.5 * 2.0**23
_EXP: Final = [0.00138145406, 0.00836874545, 0.0416683890, 0.166665211, 0.499999940, 1.0, 1.0]
"""Fitted to e^r on |r| < ln 2 / 2: 3.6e-9 relative."""
_EXP_HALVED: Final = [coefficient / (-2.0) ** power for power, coefficient in zip(range(6, -1, -1), _EXP, strict=True)]
"""The same in -2 r."""
_GELU_ABOVE: Final = [0.2328174359 / 16, 0.8708296179 / 8, 1.372687808 / 4, 0.9999999282 / 2]
_GELU_BELOW: Final = [0.5837731534 / 16, 2.179775826 / 8, 3.607959017 / 4, 2.968448158 / 2, 1.0]
"""N / 2 and D in |x|, fitted up to 13: 1.2 (1 + 0.3 x^2) 2^-24 relative."""
_GELU_END: Final = 13.16
"""|x| from which on GELU is below the normal numbers, on the side where it is small: 0."""


def _split_exp(k: Kernel, x: Value, shift: float) -> tuple[Value, Value]:
    """n + ``shift``, of which the low bits of the representation are an integer, and e^r, for e^x = 2^n e^r."""
    # Adding a multiple of 2^23 rounds to an integer and leaves it in the low bits.
    shifted = k.fma(x, k.splat(1.0 / scalar.log(2.0), x.type), k.splat(shift, x.type))
    n = k.b.fsub(shifted, k.splat(shift, x.type))
    r = k.fma(n, k.splat(-_LN2_HIGH, x.type), x)
    r = k.fma(n, k.splat(-_LN2_LOW, x.type), r)
    return shifted, emit_polynomial(k, r, _EXP)


def emit_exp(k: Kernel, x: Value) -> Value:
    """e^x: 0 below -103.97, infinity above 88.72."""
    shifted, p = _split_exp(k, emit_clamp(k, x, -104.0, 89.0), _ROUND + 2 * 127)
    # 2^n in two factors, so that results below the normal range come out gradually: the bits of n + 2 * 127 in halves,
    # each the exponent of a factor; what stands above them is shifted out. A NaN makes any integer here and is still
    # in p.
    integers = integers_of(x)
    whole = k.b.bitcast(shifted, integers)
    half = k.b.lshr(whole, splat_integer(integers, 1))
    for part in (half, k.b.sub(whole, half)):
        p = k.b.fmul(p, k.b.bitcast(k.b.shl(part, splat_integer(integers, 23)), x.type))
    return p


def emit_exp_beside(k: Kernel, x: Value) -> Value:
    """e^x to be added to something near 1: 0 below the normal range (x < -87.68), infinity from 2^127.5 on (x > 88.37).

    A third shorter than :func:`emit_exp`, which is what counts: sums of a tile follow one another through these steps,
    and a processor has only so many of them under way.
    """
    shifted, p = _split_exp(k, emit_clamp(k, x, -88.2, 89.0), _ROUND + 127)
    exponent = k.b.shl(k.b.bitcast(shifted, integers_of(x)), splat_integer(integers_of(x), 23))
    return k.b.fmul(p, k.b.bitcast(exponent, x.type))


def emit_log(k: Kernel, x: Value) -> Value:
    """The natural logarithm: -infinity at 0, NaN below, infinity at infinity.

    x = m 2^e with m in [sqrt(1/2), sqrt 2); the polynomial for (ln(1 + f) - f + f^2/2) / f^3 is Moshier's (Cephes).
    """
    integers = integers_of(x)
    tiny = k.b.fcmp_ordered("<", x, k.splat(2.0**-126, x.type))
    scaled = k.b.select(tiny, k.b.fmul(x, k.splat(2.0**23, x.type)), x)
    bits = k.b.bitcast(scaled, integers)
    # The exponent counts from sqrt(1/2), whose bits are 0x3F3504F3.
    offset = k.b.sub(bits, splat_integer(integers, 0x3F3504F3))
    exponent = k.b.ashr(offset, splat_integer(integers, 23))
    mantissa = k.b.sub(bits, k.b.shl(exponent, splat_integer(integers, 23)))
    e = k.b.sitofp(exponent, x.type)
    e = k.b.select(tiny, k.b.fsub(e, k.splat(23.0, x.type)), e)
    f = k.b.fsub(k.b.bitcast(mantissa, x.type), k.splat(1.0, x.type))
    squared = k.b.fmul(f, f)
    p = emit_polynomial(
        k,
        f,
        [
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ],
    )
    p = k.fma(e, k.splat(_LN2_LOW, x.type), k.b.fmul(k.b.fmul(p, f), squared))
    p = k.b.fadd(k.fma(squared, k.splat(-0.5, x.type), p), f)
    result = k.fma(e, k.splat(_LN2_HIGH, x.type), p)
    infinity, zero = k.splat(scalar.inf, x.type), k.splat(0.0, x.type)
    result = k.b.select(k.b.fcmp_ordered("==", x, zero), k.splat(-scalar.inf, x.type), result)
    result = k.b.select(k.b.fcmp_ordered("==", x, infinity), infinity, result)
    invalid = k.b.fcmp_unordered("<", x, zero)  # also true of a NaN
    return k.b.select(invalid, k.splat(scalar.nan, x.type), result)


def emit_sigmoid(k: Kernel, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    one = k.splat(1.0, x.type)
    return k.b.fdiv(one, k.b.fadd(one, emit_exp_beside(k, k.b.fneg(x))))


def emit_silu(k: Kernel, x: Value) -> Value:
    """x / (1 + e^-x)."""
    one = k.splat(1.0, x.type)
    return k.b.fdiv(x, k.b.fadd(one, emit_exp_beside(k, k.b.fneg(x))))


def emit_tanh(k: Kernel, x: Value) -> Value:
    """An odd polynomial below 0.625, 1 - 2 / (e^2|x| + 1) with the sign of x above."""
    magnitude = k.call("fabs", x)
    one = k.splat(1.0, x.type)
    squared = k.b.fmul(x, x)
    # Minimax coefficients of (tanh(x)/x - 1)/x^2 on |x| < 0.625 (Moshier, Cephes).
    small = emit_polynomial(
        k, squared, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1]
    )
    small = k.fma(k.b.fmul(small, squared), x, x)
    exponential = emit_exp_beside(k, k.b.fadd(magnitude, magnitude))
    large = k.b.fsub(one, k.b.fdiv(k.splat(2.0, x.type), k.b.fadd(exponential, one)))
    found = k.b.select(k.b.fcmp_ordered("<", magnitude, k.splat(0.625, x.type)), small, large)
    return k.call("copysign", found, x)


def emit_elu(k: Kernel, x: Value, factor: float) -> Value:
    """x above zero, ``factor`` (e^x - 1) below."""
    # Near zero e^x - 1 cancels; its series takes over where it is exact to rounding.
    zero, alpha = k.splat(0.0, x.type), k.splat(factor, x.type)
    series = k.b.fmul(emit_polynomial(k, x, [1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0]), x)
    direct = k.b.fsub(emit_exp_beside(k, x), k.splat(1.0, x.type))
    near = k.b.fcmp_ordered(">", x, k.splat(-0.35, x.type))
    below = k.b.fmul(alpha, k.b.select(near, series, direct))
    return k.b.select(k.b.fcmp_ordered("<", x, zero), below, x)


def emit_gelu(k: Kernel, x: Value) -> Value:
    """The difference max(x, 0) - a Q(a), a = |x|, with Q(a) = erfc(a / sqrt 2) / 2 = e^(-a^2 / 2) N(a) / D(a) / 2.

    Nothing cancels on the negative side, where 1 + erf would. The larger one is h + |h| with h = x / 2, NaN at
    -infinity. Results have the sign of x, zeros too. What counts is the number of products: e^r is written in -2 r.
    """
    kind, integers = x.type, integers_of(x)
    magnitude, squared = k.call("fabs", x), k.b.fmul(x, x)
    shifted = k.fma(squared, k.splat(-0.5 / scalar.log(2.0), kind), k.splat(_ROUND, kind))
    n = k.b.fsub(shifted, k.splat(_ROUND, kind))
    r = k.fma(n, k.splat(2 * _LN2_HIGH, kind), squared)
    r = k.fma(n, k.splat(2 * _LN2_LOW, kind), r)
    power = emit_polynomial(k, r, _EXP_HALVED)
    # Where it counts the power is 2^-125 or more, so n is added to the field of the exponent.
    exponent = k.b.shl(k.b.bitcast(shifted, integers), splat_integer(integers, 23))
    bell = k.b.bitcast(k.b.add(k.b.bitcast(power, integers), exponent), kind)
    above = k.b.fmul(k.b.fmul(magnitude, bell), emit_polynomial(k, magnitude, _GELU_ABOVE))
    tail = k.b.fdiv(above, emit_polynomial(k, magnitude, _GELU_BELOW))
    counts = k.b.fcmp_ordered("<", magnitude, k.splat(_GELU_END, kind))
    tail = k.b.select(counts, tail, k.splat(0.0, kind))
    sign = k.b.and_(k.b.bitcast(x, integers), splat_integer(integers, -(2**31)))
    half = k.b.fmul(x, k.splat(0.5, kind))
    found = k.b.fsub(k.b.fadd(half, k.call("fabs", half)), tail)
    return k.b.bitcast(k.b.or_(k.b.bitcast(found, integers), sign), kind)


def emit_gelu_tanh(k: Kernel, x: Value) -> Value:
    """x / 2 (1 + tanh u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    # (1 + tanh u) / 2 = 1 / (1 + e^-2u)
    cubic = k.fma(k.b.fmul(k.b.fmul(x, x), x), k.splat(0.044715, x.type), x)
    exponent = k.b.fmul(cubic, k.splat(-2.0 * scalar.sqrt(2.0 / scalar.pi), x.type))
    return k.b.fdiv(x, k.b.fadd(k.splat(1.0, x.type), emit_exp_beside(k, exponent)))
