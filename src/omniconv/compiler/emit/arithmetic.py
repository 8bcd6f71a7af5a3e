"""What elementary functions of every element are written with: polynomials, bounds, and floats seen as integers."""

from __future__ import annotations

import math as scalar
from collections.abc import Callable

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.builder import SCALARS, Kernel, element_of
from omniconv.compiler.emit.machine import Bits, Value
from omniconv.program.element import FLOAT64


def emit_polynomial(k: Kernel, x: Value, coefficients: list[float]) -> Value:
    """Horner's rule, highest power first."""
    result = k.splat(coefficients[0], x.type)
    for coefficient in coefficients[1:]:
        result = k.fma(result, x, k.splat(coefficient, x.type))
    return result


def emit_clamp(k: Kernel, x: Value, low: float, high: float) -> Value:
    """``min(max(x, low), high)``; NaN stays NaN."""
    if low != -scalar.inf:
        x = k.larger(k.splat(low, x.type), x)
    if high != scalar.inf:
        x = k.smaller(k.splat(high, x.type), x)
    return x


def integers_of(x: Value) -> ir.Type:
    """The type of the bits of a float or a vector of them."""
    bits = ir.IntType(8 * element_of(x.type).bytes)
    return ir.VectorType(bits, x.type.count) if isinstance(x.type, ir.VectorType) else bits


def splat_integer(kind: ir.Type, value: int) -> Bits:
    """A constant in every lane of integers."""
    scalar = kind.element if isinstance(kind, ir.VectorType) else kind
    return Bits(ir.splat(kind, ir.integer(scalar, value)))


def emit_two_sum(k: Kernel, a: Value, b: Value) -> tuple[Value, Value]:
    """a + b as a rounded sum and its exact error, whichever is larger (Knuth)."""
    total = k.b.fadd(a, b)
    part = k.b.fsub(total, a)
    return total, k.b.fadd(k.b.fsub(a, k.b.fsub(total, part)), k.b.fsub(b, part))


def emit_two_product(k: Kernel, a: Value, b: Value) -> tuple[Value, Value]:
    """a b as a rounded product and its exact error (Dekker, where there is no fused multiply-add)."""
    product = k.b.fmul(a, b)
    if k.target.fma:
        return product, k.fma(a, b, k.b.fneg(product))
    (ah, al), (bh, bl) = _halves(k, a), _halves(k, b)
    error = k.b.fsub(k.b.fmul(ah, bh), product)
    error = k.b.fadd(k.b.fadd(error, k.b.fmul(ah, bl)), k.b.fmul(al, bh))
    return product, k.b.fadd(error, k.b.fmul(al, bl))


def _halves(k: Kernel, a: Value) -> tuple[Value, Value]:
    """A float64 number as the sum of two of 26 bits."""
    scaled = k.b.fmul(a, k.splat(2.0**27 + 1.0, a.type))
    high = k.b.fsub(scaled, k.b.fsub(scaled, a))
    return high, k.b.fsub(a, high)


def is_wide(x: Value) -> bool:
    """Whether values are float64."""
    return element_of(x.type) is FLOAT64


def emit_wide(k: Kernel, function: Callable[..., Value], *values: Value) -> Value:
    """A function computed in float64 and rounded to the type of its values."""
    if is_wide(values[0]):
        return function(k, *values)
    return k.b.fptrunc(function(k, *(widen(k, value) for value in values)), values[0].type)


def widen(k: Kernel, x: Value) -> Value:
    """The same numbers as float64."""
    double = SCALARS["double"]
    return k.b.fpext(x, ir.VectorType(double, x.type.count) if isinstance(x.type, ir.VectorType) else double)
