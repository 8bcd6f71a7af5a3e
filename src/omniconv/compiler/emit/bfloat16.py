r"""bfloat16 in memory, float32 in registers: the upper half of each number, rounded to the nearest, halves to even.

With the bits of a float32 as an unsigned integer b, and those of a bfloat16 as h:

.. math:: \text{widen}(h) = 2^{16} h, \qquad
    \text{narrow}(b) = \lfloor (b + 2^{15} - 1 + \lfloor b / 2^{16} \rfloor \bmod 2) / 2^{16} \rfloor

A carry runs into the exponent, as it has to; what is beyond the largest number becomes infinity. NaN stays NaN. Numbers
below the smallest normal one are kept, on every machine: no instruction that flushes them is used.
"""

from __future__ import annotations

from typing import cast

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.machine import Bits, Value
from omniconv.compiler.emit.writer import Writer

HALF = ir.IntType(16)
"""The type of a bfloat16 in memory."""
_WHOLE = ir.IntType(32)
_BITS = 16


def widen(b: Writer, halves: Bits) -> Value:
    """bfloat16 as float32."""
    return raise_lower(b, b.zext(halves, _like(_WHOLE, halves.type)))


def raise_lower(b: Writer, words: Bits) -> Value:
    """The lower halves of words of 32 bits as float32; the others may hold anything."""
    whole = words.type
    return b.bitcast(b.shl(words, _constant(whole, _BITS)), _like(ir.FLOAT, whole))


def keep_upper(b: Writer, words: Bits) -> Value:
    """The upper halves of words of 32 bits as float32."""
    whole = words.type
    return b.bitcast(b.and_(words, _constant(whole, 2**32 - 2**_BITS)), _like(ir.FLOAT, whole))


def narrow(b: Writer, value: Value) -> Bits:
    """float32 as bfloat16."""
    whole = _like(_WHOLE, value.type)
    bits = b.bitcast(value, whole)
    odd = b.and_(b.lshr(bits, _constant(whole, _BITS)), _constant(whole, 1))
    rounded = b.add(b.add(bits, _constant(whole, 2**15 - 1)), odd)
    # Rounded, the bits of a NaN could be those of a number: it becomes the one of which all bits are set.
    nothing = b.sext(cast("Bits", b.unordered(value, value)), whole)
    return b.trunc(b.lshr(b.or_(rounded, cast("Bits", nothing)), _constant(whole, _BITS)), _like(HALF, whole))


def _like(scalar: ir.Type, kind: ir.Type) -> ir.Type:
    """So many of a type as another one has elements."""
    return ir.VectorType(scalar, kind.count) if isinstance(kind, ir.VectorType) else scalar


def _constant(kind: ir.Type, value: int) -> Bits:
    return Bits(ir.splat(kind, ir.integer(_WHOLE, value)))
