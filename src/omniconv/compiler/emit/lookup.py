"""Tables of 256 bytes, read by a vector of bytes at a time."""

from __future__ import annotations

from typing import Final, cast

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.builder import I8, Kernel
from omniconv.compiler.emit.machine import Bits, Pointer, Value

ROW: Final = 16
"""Entries that one instruction chooses among."""


def emit_lookup(k: Kernel, table: Pointer, value: Bits) -> Bits:
    """Two entries of a table in every word, where the two bytes of the word of ``value`` are their numbers.

    The lower half of a number chooses among the entries of all 16 rows, and each bit of the upper half between one half
    of what is left and the other. Rows are read where they are used: LLVM would read all of them first, and then store
    and load them again for want of registers.
    """
    words = value.type
    kind = ir.VectorType(I8, 2 * words.count)
    function = k.intrinsic(k.target.traits.words.lookup, kind, [kind, kind])
    zero = cast("Bits", k.splat(0, kind))
    # A number with its highest bit would choose nothing.
    numbers = k.b.bitcast(Value(k.b.and_(value, Bits(k.splat(0x7F7F, words)))), kind)
    shifted = [k.b.shl(value, Bits(k.splat(7 - bit, words))) for bit in range(4, 8)]
    upper = [k.b.icmp_signed("<", k.b.bitcast(Value(each), kind), zero) for each in shifted]

    def choose(first: int, bits: int) -> Bits:
        """An entry of the ``2 ** bits`` rows from ``first`` on."""
        if bits == 0:
            return Bits(k.b.call(function, [_load_row(k, table, first, kind.count), numbers]))
        if bits == 1:
            k.fence()
        low, high = choose(first, bits - 1), choose(first + (1 << (bits - 1)), bits - 1)
        return k.b.select(upper[bits - 1], high, low)

    return k.b.bitcast(Value(choose(0, 4)), words)


def _load_row(k: Kernel, table: Pointer, row: int, count: int) -> Bits:
    """A row of a table, repeated through a vector."""
    address = k.b.gep(table, k.index(row * ROW), I8)
    found = Value(k.b.load(address, ir.VectorType(I8, ROW), 1))
    return Bits(k.b.shuffle_vector(found, Value(ir.undefined(found.type)), [lane % ROW for lane in range(count)]))
