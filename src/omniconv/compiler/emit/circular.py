r"""Sine, cosine and tangent of every finite number, with all digits.

x = n pi/2 + r with :math:`|r| \le \pi/4` (and a little), and a polynomial for r. Where all of a vector is small
(:math:`|x| \le 2^{20}`) n pi/2 is taken off in parts whose products with n are exact (Cody and Waite): two for float32,
which is reduced in float64, three with their rounding errors for float64. Otherwise x = m 2^e with a whole m, and
:math:`(2/\pi) \, 2^e \bmod 4` is read from a table as the sum of four numbers: its product with m has all digits that
matter, down to 2^-157 of a quarter turn (Payne and Hanek), where numbers of 53 bits come no closer than 2^-62 to a
multiple of pi/2.

Infinities give NaN. Errors in units in the last place (tests/compiler/emit/test_functions.py): sine and cosine 1.5,
tangent 4.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.arithmetic import (
    emit_polynomial,
    emit_two_product,
    emit_two_sum,
    integers_of,
    is_wide,
    splat_integer,
    widen,
)
from omniconv.compiler.emit.builder import SCALARS, Kernel
from omniconv.compiler.emit.machine import Bits, Count, Pointer, Value

_ROUND: Final = 1.5 * 2.0**52
_LIMIT: Final = 2.0**20
_FIRST: Final = 1023 + 20
"""The biased exponent of the limit, where the table begins."""
_LAST: Final = {True: 2046, False: 1023 + 127}
"""That of the largest number of float64, and of float32."""
_PARTS: Final = 4
_TWO_OVER_PI: Final = 0.6366197723675814
_HALF_PI: Final = (1.5707963267948966, 6.123233995736766e-17)
"""pi/2 as the sum of two numbers."""
_THIRDS: Final = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624871116645580e-21)
"""pi/2 in parts of 33 bits (fdlibm) ..."""
_REST: Final = 8.47842766036889956997e-32
_SECOND: Final = 6.07710050650619224932e-11
"""... and what is left after three of them, and after one."""
_SIN64: Final = [
    1.591784866512194e-10,
    -2.505112794596564e-08,
    2.755731608382574e-06,
    -1.9841269836722437e-04,
    8.333333333330925e-03,
    -1.6666666666666666e-01,
]
"""(sin(r) / r - 1) / r^2 in r^2, by interpolation at Chebyshev's points: 2^-55."""
_COS64: Final = [
    -1.1382456865840483e-11,
    2.0876143829213935e-09,
    -2.755731726001471e-07,
    2.480158729874308e-05,
    -1.3888888888887382e-03,
    4.1666666666666664e-02,
]
"""(cos(r) - 1 + r^2 / 2) / r^4 in r^2: 2^-60."""
_SIN32: Final = [-0.0001958738721, 0.008332746103, -0.1666666418]
_COS32: Final = [2.454743662e-05, -0.001388830016, 0.04166666418]
"""The same to 2^-26 and 2^-30."""


class _Angle(NamedTuple):
    """n, of which the last two bits count, and r as the sum of two numbers; ``low`` is none where nobody needs it."""

    n: Bits
    r: Value
    low: Value | None


@lru_cache(maxsize=2)
def _table(wide: bool) -> tuple[float, ...]:
    """(2 / pi) 2^(e - 1075) mod 4 as the sum of four numbers, for each biased exponent e from that of the limit on."""
    # 2 / pi to 1300 bits, from pi by Machin's formula in whole numbers.
    bits = 1300
    unit = 1 << (bits + 32)

    def inverse_tangent(x: int) -> int:
        term, total, n = unit // x, 0, 1
        while term:
            total += term // n if n % 4 == 1 else -(term // n)
            term, n = term // (x * x), n + 2
        return total

    pi = 4 * (4 * inverse_tangent(5) - inverse_tangent(239))
    ratio = (2 * unit << bits) // pi
    found: list[float] = []
    for exponent in range(_FIRST, _LAST[wide] + 1):
        shift = exponent - 1075
        whole = ratio << shift if shift >= 0 else ratio
        scale = bits if shift >= 0 else bits - shift
        rest = Fraction(whole % (4 << scale), 1 << scale)
        for _ in range(_PARTS):
            part = float(rest)
            rest -= Fraction(part)
            found.append(part)
    return tuple(found)


def _reduce_small(k: Kernel, x: Value, *, exactly: bool) -> _Angle:
    """The angle of float64 numbers up to the limit."""
    kind = x.type
    shifted = k.b.fadd(k.b.fmul(x, k.splat(_TWO_OVER_PI, kind)), k.splat(_ROUND, kind))
    n = k.b.fsub(shifted, k.splat(_ROUND, kind))
    whole = k.b.bitcast(shifted, integers_of(x))
    r = k.fma(n, k.splat(-_THIRDS[0], kind), x)
    if not exactly:
        return _Angle(whole, k.fma(n, k.splat(-_SECOND, kind), r), None)
    r, first = emit_two_sum(k, r, k.b.fmul(n, k.splat(-_THIRDS[1], kind)))
    r, second = emit_two_sum(k, r, k.b.fmul(n, k.splat(-_THIRDS[2], kind)))
    low = k.fma(n, k.splat(-_REST, kind), k.b.fadd(first, second))
    high = k.b.fadd(r, low)
    return _Angle(whole, high, k.b.fadd(k.b.fsub(r, high), low))


def _reduce_large(k: Kernel, x: Value, table: Pointer, last: int) -> _Angle:
    """The angle of float64 numbers from the limit on, up to the biased exponent ``last``; NaN of infinities."""
    kind, integers = x.type, integers_of(x)
    bits = k.b.bitcast(k.larger(k.call("fabs", x), k.splat(_LIMIT, kind)), integers)
    exponent = k.b.lshr(bits, splat_integer(integers, 52))
    exponent = k.b.select(
        k.b.icmp_signed(">", exponent, splat_integer(integers, last)), splat_integer(integers, last), exponent
    )
    row = k.b.sub(exponent, splat_integer(integers, _FIRST))
    mantissa = k.b.and_(bits, splat_integer(integers, (1 << 52) - 1))
    m = k.b.bitcast(k.b.or_(mantissa, splat_integer(integers, 1075 << 52)), kind)
    parts = _gather(k, table, row, kind)
    h0, l0 = emit_two_product(k, m, parts[0])
    # Whole turns do not count; what is left is exact.
    quarter = k.call("roundeven", k.b.fmul(h0, k.splat(0.25, kind)))
    h0 = k.b.fsub(h0, k.b.fmul(quarter, k.splat(4.0, kind)))
    h1, l1 = emit_two_product(k, m, parts[1])
    h2, l2 = emit_two_product(k, m, parts[2])
    s, e0 = emit_two_sum(k, h0, l0)
    s, e1 = emit_two_sum(k, s, h1)
    n = k.call("roundeven", s)
    s = k.b.fsub(s, n)
    p, e2 = emit_two_sum(k, e0, e1)
    q, e3 = emit_two_sum(k, l1, h2)
    q, e4 = emit_two_sum(k, p, q)
    s, e5 = emit_two_sum(k, s, q)
    tail = k.b.fadd(k.b.fadd(e2, e3), k.b.fadd(e4, l2))
    tail = k.b.fadd(e5, k.fma(m, parts[3], tail))
    turn = k.b.fadd(s, tail)
    rest = k.b.fadd(k.b.fsub(s, turn), tail)
    r, low = emit_two_product(k, turn, k.splat(_HALF_PI[0], kind))
    low = k.fma(turn, k.splat(_HALF_PI[1], kind), k.fma(rest, k.splat(_HALF_PI[0], kind), low))
    high = k.b.fadd(r, low)
    low = k.b.fadd(k.b.fsub(r, high), low)
    sign = k.call("copysign", k.splat(1.0, kind), x)
    whole = k.b.bitcast(k.b.fadd(k.b.fmul(n, sign), k.splat(_ROUND, kind)), integers)
    nothing = k.b.fmul(x, k.splat(0.0, kind))  # NaN of infinities and NaN
    return _Angle(whole, k.b.fadd(k.b.fmul(high, sign), nothing), k.b.fmul(low, sign))


def _gather(k: Kernel, table: Pointer, row: Bits, kind: ir.Type) -> list[Value]:
    """The parts at the rows of a table, lane by lane."""
    double = SCALARS["double"]

    def find(index: Bits, part: int) -> Value:
        place = k.b.add(k.b.shl(index, splat_integer(index.type, 2)), splat_integer(index.type, part))
        return Value(k.b.load(k.b.gep(table, Count(place), double), double))

    if not isinstance(kind, ir.VectorType):
        return [find(row, part) for part in range(_PARTS)]
    parts = [k.splat(0.0, kind) for _ in range(_PARTS)]
    for lane in range(kind.count):
        index = k.b.extract_element(row, lane)
        parts = [k.b.insert_element(vector, find(index, part), lane) for part, vector in enumerate(parts)]
    return parts


def _reduce(k: Kernel, x: Value) -> _Angle:
    """The angle of any numbers: r and n in the type of x."""
    wide, kind = is_wide(x), x.type
    given = widen(k, x)
    small = _reduce_small(k, given, exactly=wide)
    # A NaN counts as small: it stays one.
    large = k.b.fcmp_ordered(">", k.call("fabs", given), k.splat(_LIMIT, given.type))
    slots = [k.variable(given.type, k.b.bitcast(small.n, given.type)), k.variable(given.type, small.r)]
    if small.low is not None:
        slots.append(k.variable(given.type, small.low))
    with k.when(k.any(large)):
        found = _reduce_large(k, given, k.numbers(_table(wide)), _LAST[wide])
        values = [k.b.bitcast(found.n, given.type), found.r, found.low]
        for slot, value in zip(slots, values, strict=False):
            assert value is not None
            k.set(slot, k.b.select(large, value, k.get(slot)))
    n = k.b.bitcast(k.get(slots[0]), integers_of(given))
    if wide:
        return _Angle(n, k.get(slots[1]), k.get(slots[2]))
    return _Angle(k.b.trunc(n, integers_of(x)), k.b.fptrunc(k.get(slots[1]), kind), None)


def _sine_and_cosine(k: Kernel, angle: _Angle) -> tuple[Value, Value]:
    """Of r."""
    r, low, kind = angle.r, angle.low, angle.r.type
    z, one, half = k.b.fmul(r, r), k.splat(1.0, kind), k.splat(0.5, kind)
    if low is None:
        sine = k.fma(k.b.fmul(emit_polynomial(k, z, _SIN32), z), r, r)
        cosine = k.fma(z, k.fma(emit_polynomial(k, z, _COS32), z, k.b.fneg(half)), one)
        return sine, cosine
    # sin(r + low) = sin r + low (1 - r^2 / 2), cos(r + low) = cos r - r low
    cube = k.b.fmul(z, r)
    sine = k.fma(k.splat(-0.5, kind), k.b.fmul(z, low), k.fma(emit_polynomial(k, z, _SIN64), cube, low))
    minus = k.b.fmul(z, half)
    rough = k.b.fsub(one, minus)
    lost = k.b.fsub(k.b.fsub(one, rough), minus)
    cosine = k.fma(k.b.fmul(z, z), emit_polynomial(k, z, _COS64), k.fma(k.b.fneg(r), low, lost))
    return k.b.fadd(r, sine), k.b.fadd(rough, cosine)


def _turn(k: Kernel, angle: _Angle, quarters: int) -> Value:
    """The sine of ``quarters`` right angles and an angle."""
    sine, cosine = _sine_and_cosine(k, angle)
    integers, kind = angle.n.type, angle.r.type
    n = k.b.add(angle.n, splat_integer(integers, quarters)) if quarters else angle.n
    odd = k.b.icmp_unsigned("!=", k.b.and_(n, splat_integer(integers, 1)), splat_integer(integers, 0))
    value = k.b.bitcast(k.b.select(odd, cosine, sine), integers)
    size = _bits(integers)
    negative = k.b.shl(k.b.and_(n, splat_integer(integers, 2)), splat_integer(integers, size - 2))
    return k.b.bitcast(k.b.xor(value, negative), kind)


def _bits(integers: ir.Type) -> int:
    scalar = integers.element if isinstance(integers, ir.VectorType) else integers
    assert isinstance(scalar, ir.IntType)
    return scalar.width


def _beside(k: Kernel, x: Value, value: Value) -> Value:
    """``value``, or x itself where x is so small that they are the same; that keeps the sign of 0."""
    return k.b.select(k.b.fcmp_ordered("<", k.call("fabs", x), k.splat(2.0**-30, x.type)), x, value)


def emit_sin(k: Kernel, x: Value) -> Value:
    """sin x."""
    return _beside(k, x, _turn(k, _reduce(k, x), 0))


def emit_cos(k: Kernel, x: Value) -> Value:
    """cos x."""
    return _turn(k, _reduce(k, x), 1)


def emit_tan(k: Kernel, x: Value) -> Value:
    """The quotient of the two: -cos r / sin r where n is odd."""
    angle = _reduce(k, x)
    sine, cosine = _sine_and_cosine(k, angle)
    odd = k.b.icmp_unsigned("!=", k.b.and_(angle.n, splat_integer(angle.n.type, 1)), splat_integer(angle.n.type, 0))
    value = k.b.fdiv(k.b.select(odd, k.b.fneg(cosine), sine), k.b.select(odd, sine, cosine))
    return _beside(k, x, value)
