r"""x^y and the remainder of x / y, with the special values of C's ``pow`` and ``fmod``.

x^y = e^(y ln |x|), and for float64 the logarithm is the sum of two numbers: |x| = m 2^e with m in [sqrt(1/2), sqrt 2),
s = (m - 1) / (m + 1), and :math:`\ln m = 2 s + s^3 (2/3 + s^2 R(s^2))` to 2^-64. So results are within 2 units in
the last place, and within 1 in float32, which is computed in float64. The remainder is exact.
"""

from __future__ import annotations

import math as scalar
from typing import Final

from omniconv.compiler.emit import elementary64
from omniconv.compiler.emit.arithmetic import (
    emit_clamp,
    emit_polynomial,
    emit_two_product,
    emit_two_sum,
    emit_wide,
    integers_of,
    is_wide,
    splat_integer,
)
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Mask, Value

_LN2_HIGH: Final = 6.93147180369123816490e-01
"""The logarithm of 2 in 32 bits (fdlibm) ..."""
_LN2_LOW: Final = (1.908214929270585e-10, 1.1612227229362533e-26)
"""... and the rest as the sum of two."""
_TWO_THIRDS: Final = (0.6666666666666666, 3.700743415417188e-17)
_LOG: Final = [
    0.11723603622905411, 0.11706195689881364, 0.13334806212100603, 0.15384594934597917, 0.1818181833565416,
    0.22222222221654733, 0.2857142857142937, 0.4,
]  # fmt: skip
"""R, by interpolation at Chebyshev's points: 2^-65 of the logarithm."""
_ROUND: Final = 1.5 * 2.0**52
_ROUND_BITS: Final = 0x4338000000000000
_STEP: Final = 20
"""Bits of a quotient that are taken off at a time: their products with halves of a divisor are exact."""


def _log(k: Kernel, x: Value) -> tuple[Value, Value]:
    """The natural logarithm of a positive, finite number as the sum of two."""
    kind, integers = x.type, integers_of(x)
    tiny = k.b.fcmp_ordered("<", x, k.splat(2.0**-1022, kind))
    bits = k.b.bitcast(k.b.select(tiny, k.b.fmul(x, k.splat(2.0**54, kind)), x), integers)
    exponent = k.b.ashr(k.b.sub(bits, splat_integer(integers, 0x3FE6A09E667F3BCD)), splat_integer(integers, 52))
    m = k.b.bitcast(k.b.sub(bits, k.b.shl(exponent, splat_integer(integers, 52))), kind)
    e = k.b.bitcast(k.b.add(exponent, splat_integer(integers, _ROUND_BITS)), kind)
    e = k.b.fsub(e, k.b.select(tiny, k.splat(_ROUND + 54.0, kind), k.splat(_ROUND, kind)))
    one = k.splat(1.0, kind)
    above, (below, lost) = k.b.fsub(m, one), emit_two_sum(k, m, one)
    s = k.b.fdiv(above, below)
    # What s lacks: (above - s (below + lost)) / below.
    product, error = emit_two_product(k, s, below)
    rest = k.b.fsub(k.b.fsub(above, product), error)
    s_low = k.b.fdiv(k.b.fsub(rest, k.b.fmul(s, lost)), below)
    z, z_low = emit_two_product(k, s, s)
    z_low = k.fma(k.b.fadd(s, s), s_low, z_low)
    # q = 2/3 + z R, then z q, then 2 s + s z q, each as the sum of two.
    q, q_low = emit_two_sum(k, k.splat(_TWO_THIRDS[0], kind), k.b.fmul(z, emit_polynomial(k, z, _LOG)))
    q_low = k.b.fadd(q_low, k.splat(_TWO_THIRDS[1], kind))
    p, p_low = emit_two_product(k, z, q)
    p_low = k.b.fadd(p_low, k.fma(z, q_low, k.b.fmul(z_low, q)))
    t, t_low = emit_two_product(k, s, p)
    t_low = k.b.fadd(t_low, k.fma(s, p_low, k.b.fmul(s_low, p)))
    double, double_low = k.b.fadd(s, s), k.b.fadd(s_low, s_low)
    high, low = emit_two_sum(k, double, t)
    low = k.b.fadd(low, k.b.fadd(double_low, t_low))
    # e ln 2: its first part is exact.
    part, part_low = emit_two_product(k, e, k.splat(_LN2_LOW[0], kind))
    part_low = k.fma(e, k.splat(_LN2_LOW[1], kind), part_low)
    base, base_low = emit_two_sum(k, k.b.fmul(e, k.splat(_LN2_HIGH, kind)), part)
    total, total_low = emit_two_sum(k, base, high)
    total_low = k.b.fadd(total_low, k.b.fadd(k.b.fadd(base_low, part_low), low))
    result = k.b.fadd(total, total_low)
    return result, k.b.fadd(k.b.fsub(total, result), total_low)


def _power(k: Kernel, a: Value, y: Value) -> Value:
    """a^y for positive, finite a."""
    high, low = _log(k, a)
    product, error = emit_two_product(k, y, high)
    # Products beyond these give 0 or infinity, however they were rounded.
    inside = k.b.fcmp_ordered("<", k.call("fabs", product), k.splat(1000.0, a.type))
    error = k.b.select(inside, k.fma(y, low, error), k.splat(0.0, a.type))
    return elementary64.emit_exp(k, product, error)


def _rough_power(k: Kernel, a: Value, y: Value) -> Value:
    """a^y within 2^-42, for what is rounded to float32."""
    return elementary64.emit_exp(k, k.b.fmul(y, elementary64.emit_log(k, a)))


def _whole_and_odd(k: Kernel, y: Value) -> tuple[Mask, Mask]:
    """Whether a number is whole (an infinity counts as even), and whether it is odd as well."""
    half = k.b.fmul(y, k.splat(0.5, y.type))
    whole = k.b.fcmp_ordered("==", k.call("floor", y), y)
    return whole, k.b.and_(whole, k.b.fcmp_ordered("!=", k.call("floor", half), half))


def _pow(k: Kernel, x: Value, y: Value, *, exact: bool) -> Value:
    kind = x.type
    zero, one, infinity = k.splat(0.0, kind), k.splat(1.0, kind), k.splat(scalar.inf, kind)
    a = k.call("fabs", x)
    # From 2^66 on a power of anything but 1 is 0 or infinity; 0 and infinity are set right below.
    bounded = emit_clamp(k, y, -(2.0**66), 2.0**66)
    inner = emit_clamp(k, a, 2.0**-1074, 1.7976931348623157e308)
    result = (_power if exact else _rough_power)(k, inner, bounded)
    at_zero = k.b.fcmp_ordered("==", a, zero)
    at_end = k.b.or_(at_zero, k.b.fcmp_ordered("==", a, infinity))
    vanishing = k.b.xor(k.b.fcmp_ordered("<", y, zero), at_zero)  # y is not 0 where that counts
    result = k.b.select(at_end, k.b.select(vanishing, zero, infinity), result)
    whole, odd = _whole_and_odd(k, y)
    nan = k.splat(scalar.nan, kind)
    negative = k.b.and_(k.b.fcmp_ordered("<", x, zero), k.b.fcmp_ordered("!=", a, infinity))
    # No real power; -0 and -infinity have one.
    broken = k.b.select(negative, nan, result)
    result = k.b.select(odd, k.call("copysign", result, x), k.b.select(whole, result, broken))
    result = k.b.select(k.b.unordered(x, y), nan, result)
    trivial = k.b.or_(k.b.fcmp_ordered("==", y, zero), k.b.fcmp_ordered("==", x, one))
    return k.b.select(trivial, one, result)


def emit_pow(k: Kernel, x: Value, y: Value) -> Value:
    """x^y."""
    exact = is_wide(x)
    return emit_wide(k, lambda k, x, y: _pow(k, x, y, exact=exact), x, y)


def _remainder(k: Kernel, x: Value, y: Value, *, far: bool) -> Value:
    """By long division, some bits of the quotient at a time; ``far`` says that x / y may overflow."""
    kind, integers = x.type, integers_of(x)
    zero, infinity = k.splat(0.0, kind), k.splat(scalar.inf, kind)
    a, b = k.call("fabs", x), k.call("fabs", y)
    valid = k.b.and_(k.b.fcmp_ordered("<", a, infinity), k.b.fcmp_ordered(">", b, zero))
    rest = k.variable(kind, k.b.select(valid, a, zero))
    high_bits = splat_integer(integers, -1 << 27)

    def unfinished() -> Mask:
        return k.b.and_(valid, k.b.fcmp_ordered(">=", k.get(rest), b))

    with k.repeat(lambda: k.any(unfinished())):
        left, active = k.get(rest), unfinished()
        divisor = _scaled(k, left, b, far=far)
        q = k.call("trunc", k.b.fdiv(left, divisor))
        high = k.b.bitcast(k.b.and_(k.b.bitcast(divisor, integers), high_bits), kind)
        low = k.b.fsub(divisor, high)
        less = k.b.fsub(k.b.fsub(left, k.b.fmul(q, high)), k.b.fmul(q, low))
        # The quotient was rounded, so that it may be one too large.
        less = k.b.select(k.b.fcmp_ordered("<", less, zero), k.b.fadd(less, divisor), less)
        k.set(rest, k.b.select(active, less, left))
    return k.b.select(valid, k.call("copysign", k.get(rest), x), k.splat(scalar.nan, kind))


def _scaled(k: Kernel, left: Value, b: Value, *, far: bool) -> Value:
    """b times the power of two that leaves a quotient of few bits; exactly."""
    kind, integers = b.type, integers_of(b)
    quotient = k.b.fdiv(left, b)
    huge = k.b.fcmp_ordered(">", quotient, k.splat(2.0**960, kind))
    if far:
        # left / b < 2^2098: what overflows is taken in parts.
        b = k.b.select(huge, k.b.fmul(b, k.splat(2.0**960, kind)), b)
        quotient = k.b.select(huge, k.b.fdiv(k.b.fmul(left, k.splat(2.0**-160, kind)), b), quotient)
    power = k.b.bitcast(k.b.and_(k.b.bitcast(quotient, integers), splat_integer(integers, 0x7FF << 52)), kind)
    factor = k.b.fmul(power, k.splat(2.0 ** (1 - _STEP), kind))
    divisor = k.b.fmul(b, k.larger(factor, k.splat(1.0, kind)))
    return k.b.select(huge, k.b.fmul(k.b.fmul(b, factor), k.splat(2.0**160, kind)), divisor) if far else divisor


def emit_fmod(k: Kernel, x: Value, y: Value) -> Value:
    """x - y trunc(x / y), exactly; NaN for infinite x and for y = 0, x for infinite y."""
    far = is_wide(x)
    return emit_wide(k, lambda k, x, y: _remainder(k, x, y, far=far), x, y)
