"""Arc sine, arc cosine and arc tangent: one polynomial each, and identities that bring everything near 0.

Errors in units in the last place (tests/compiler/emit/test_functions.py): 4; arc tangent 2.
"""

from __future__ import annotations

import math as scalar
from typing import Final

from omniconv.compiler.emit.arithmetic import emit_polynomial, emit_wide, is_wide
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Mask, Value

_HALF_PI: Final = (1.5707963267948966, 6.123233995736766e-17)
_ASIN: Final = [
    0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358, 0.01032281435018578,
    0.011479177415184906, 0.013971212973552933, 0.017352392720869973, 0.02237217294214989, 0.030381944138531247,
    0.04464285714635543, 0.07499999999998433, 0.16666666666666669,
]  # fmt: skip
"""(asin(x) / x - 1) / x^2 in x^2 up to 1/4, by interpolation at Chebyshev's points: 2^-57."""
_ATAN64: Final = [
    0.01628357235648259, -0.0345685906686069, 0.045515165635903104, -0.052304374642516874, 0.05878926715756726,
    -0.066664246872465, 0.07692296363979952, -0.09090908753118594, 0.11111111105147764, -0.14285714285659748,
    0.19999999999999804, -0.3333333333333333,
]  # fmt: skip
"""(atan(x) / x - 1) / x^2 in x^2 up to tan(pi / 8)^2: 2^-58."""
_ATAN32: Final = [-0.06451597065, 0.1074363142, -0.1426394582, 0.1999953985, -0.3333333135]
"""The same to 2^-28."""
_NEAR: Final = scalar.sqrt(2.0) - 1.0
"""tan(pi / 8)."""


def _odd(k: Kernel, x: Value, coefficients: list[float]) -> Value:
    """x + x^3 P(x^2)."""
    z = k.b.fmul(x, x)
    return k.fma(k.b.fmul(emit_polynomial(k, z, coefficients), z), x, x)


def _folded(k: Kernel, x: Value) -> tuple[Mask, Value]:
    """Whether |x| is at most 1/2, and asin of it there, of sqrt((1 - |x|) / 2) beyond; NaN beyond 1."""
    a = k.call("fabs", x)
    half = k.splat(0.5, x.type)
    root = k.call("sqrt", k.b.fmul(k.b.fsub(k.splat(1.0, x.type), a), half))
    near = k.b.fcmp_ordered("<=", a, half)
    return near, _odd(k, k.b.select(near, a, root), _ASIN)


def _asin(k: Kernel, x: Value) -> Value:
    near, angle = _folded(k, x)
    kind = x.type
    rest = k.fma(k.splat(-2.0, kind), angle, k.splat(_HALF_PI[1], kind))
    return k.call("copysign", k.b.select(near, angle, k.b.fadd(k.splat(_HALF_PI[0], kind), rest)), x)


def _acos(k: Kernel, x: Value) -> Value:
    near, angle = _folded(k, x)
    kind = x.type
    negative = k.b.fcmp_ordered("<", x, k.splat(0.0, kind))
    signed = k.call("copysign", angle, x)
    middle = k.b.fsub(k.splat(_HALF_PI[0], kind), k.b.fsub(signed, k.splat(_HALF_PI[1], kind)))
    double = k.b.fadd(angle, angle)
    far = k.b.fadd(k.splat(2.0 * _HALF_PI[0], kind), k.b.fsub(k.splat(2.0 * _HALF_PI[1], kind), double))
    return k.b.select(near, middle, k.b.select(negative, far, double))


def emit_asin(k: Kernel, x: Value) -> Value:
    """asin |x| = pi/2 - 2 asin sqrt((1 - |x|) / 2) above 1/2; NaN beyond 1."""
    return emit_wide(k, _asin, x)


def emit_acos(k: Kernel, x: Value) -> Value:
    """pi/2 - asin x, and without cancellation 2 asin sqrt((1 - x) / 2) above 1/2; NaN beyond 1."""
    return emit_wide(k, _acos, x)


def emit_atan(k: Kernel, x: Value) -> Value:
    """atan a = pi/4 + atan((a - 1) / (a + 1)) from tan(pi/8) on, pi/2 - atan(1 / a) from its inverse on."""
    kind = x.type
    a, one = k.call("fabs", x), k.splat(1.0, kind)
    middle = k.b.fcmp_ordered(">", a, k.splat(_NEAR, kind))
    far = k.b.fcmp_ordered(">", a, k.splat(1.0 / _NEAR, kind))
    above = k.b.select(far, k.splat(-1.0, kind), k.b.select(middle, k.b.fsub(a, one), a))
    below = k.b.select(far, a, k.b.select(middle, k.b.fadd(a, one), one))
    angle = _odd(k, k.b.fdiv(above, below), _ATAN64 if is_wide(x) else _ATAN32)

    def choose(last: float, first: float) -> Value:
        zero = k.splat(0.0, kind)
        return k.b.select(far, k.splat(last, kind), k.b.select(middle, k.splat(first, kind), zero))

    high, low = _HALF_PI if is_wide(x) else (1.57079637050628662109375, -4.37113900018624283e-8)
    angle = k.b.fadd(choose(high, high / 2), k.b.fadd(angle, choose(low, low / 2)))
    return k.call("copysign", angle, x)
