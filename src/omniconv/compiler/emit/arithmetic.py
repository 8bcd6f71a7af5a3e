"""What elementary functions of every element are written with: polynomials, bounds, and floats seen as integers."""

from __future__ import annotations

import math as scalar

from llvmlite import ir

from omniconv.compiler.emit.builder import Kernel, Value


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


def integers_of(k: Kernel, x: Value) -> ir.Type:
    """The type of the bits of a float or a vector of them."""
    bits = ir.IntType(8 * k.element.bytes)
    return ir.VectorType(bits, x.type.count) if isinstance(x.type, ir.VectorType) else bits


def splat_integer(kind: ir.Type, value: int) -> Value:
    """A constant in every lane of integers."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)
