r"""bfloat16 in memory, float32 in registers: the upper half of each number, rounded to the nearest, halves to even.

With the bits of a float32 as an unsigned integer b, and those of a bfloat16 as h:

.. math:: \text{widen}(h) = 2^{16} h, \qquad
    \text{narrow}(b) = \lfloor (b + 2^{15} - 1 + \lfloor b / 2^{16} \rfloor \bmod 2) / 2^{16} \rfloor

A carry runs into the exponent, as it has to; what is beyond the largest number becomes infinity. NaN stays NaN. Numbers
below the smallest normal one are kept, on every machine: no instruction that flushes them is used.
"""

from __future__ import annotations

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.machine import Bits, Value
from omniconv.compiler.emit.writer import Writer

HALF = ir.IntType(16)
"""The type of a bfloat16 in memory."""
_WHOLE = ir.IntType(32)
_BITS = 16


def widen(b: Writer, halves: Bits) -> Value:
    """bfloat16 as float32."""
    whole = _like(_WHOLE, halves.type)
    return b.bitcast(b.shl(b.zext(halves, whole), _constant(whole, _BITS)), _like(ir.FLOAT, whole))


def narrow(b: Writer, value: Value) -> Bits:
    """float32 as bfloat16."""
    whole = _like(_WHOLE, value.type)
    bits = b.bitcast(value, whole)
    upper = b.lshr(bits, _constant(whole, _BITS))
    odd = b.and_(upper, _constant(whole, 1))
    rounded = b.lshr(b.add(b.add(bits, _constant(whole, 2**15 - 1)), odd), _constant(whole, _BITS))
    # Rounded, the bits of a NaN could be those of a number.
    nothing = b.or_(upper, _constant(whole, 2**6))
    return b.trunc(b.select(b.unordered(value, value), nothing, rounded), _like(HALF, whole))


def _like(scalar: ir.Type, kind: ir.Type) -> ir.Type:
    """So many of a type as another one has elements."""
    return ir.VectorType(scalar, kind.count) if isinstance(kind, ir.VectorType) else scalar


def _constant(kind: ir.Type, value: int) -> Bits:
    return Bits(ir.splat(kind, ir.integer(_WHOLE, value)))
