r"""Integers of 16 bits in pairs, and their sums of 32 bits: the arithmetic of layers on a grid.

A *pair* is two neighbouring words, and products of pairs are added into sums of 32 bits:

.. math:: s_l = a_{2l} b_{2l} + a_{2l+1} b_{2l+1}

A vector of words has as many bytes as one of sums, so that what comes of two vectors of sums is one of words. These
lie in *packed order*: groups of four sums of the first vector and of the second take turns. No instruction used here
saturates where it matters, so that every machine computes the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.builder import I8, I16, I32, Kernel
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value

GROUP = 4
"""Sums of one vector that stay side by side in packed order."""


def packed_order(lanes: int) -> list[list[int]]:
    """For two vectors of so many sums, the place of each among their words.

    Example:
        >>> packed_order(8)
        [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    """
    return [[lane // GROUP * 2 * GROUP + half * GROUP + lane % GROUP for lane in range(lanes)] for half in range(2)]


def sums(lanes: int) -> ir.Type:
    """The type of a vector of sums."""
    return ir.VectorType(I32, lanes)


def words(lanes: int) -> ir.Type:
    """The type of a vector of words."""
    return ir.VectorType(I16, lanes)


def shift_words(k: Kernel, pointer: Pointer, offset: Index) -> Pointer:
    """An address so many words further."""
    return pointer if isinstance(offset, int) and offset == 0 else k.b.gep(pointer, k.index(offset), I16)


def load_words(k: Kernel, pointer: Pointer, offset: Index, lanes: int) -> Bits:
    """A vector of words."""
    return Bits(k.b.load(shift_words(k, pointer, offset), words(lanes), 2))


def load_sums(k: Kernel, pointer: Pointer, offset: Index, lanes: int) -> Bits:
    """A vector of 32-bit integers, their number given in these."""
    return Bits(k.b.load(shift_sums(k, pointer, offset), sums(lanes), 4))


def shift_sums(k: Kernel, pointer: Pointer, offset: Index) -> Pointer:
    """An address so many integers of 32 bits further."""
    return pointer if isinstance(offset, int) and offset == 0 else k.b.gep(pointer, k.index(offset), I32)


def store_sums(k: Kernel, value: Bits, pointer: Pointer, offset: Index) -> None:
    """Store a vector of them."""
    k.b.store(cast("Value", value), shift_sums(k, pointer, offset), 4)


def load_pair(k: Kernel, pointer: Pointer, offset: Index, lanes: int) -> Bits:
    """Two neighbouring words in every pair of a vector of so many sums."""
    scalar = Value(k.b.load(shift_words(k, pointer, offset), I32, 2))
    kind = sums(lanes)
    undefined = Value(ir.undefined(kind))
    spread = k.b.shuffle_vector(k.b.insert_element(undefined, scalar, 0), undefined, [0] * lanes)
    return Bits(k.b.bitcast(spread, words(2 * lanes)))


def store_words(k: Kernel, value: Bits, pointer: Pointer, offset: Index, count: int | None = None) -> None:
    """Store a vector of words; with ``count`` only the first ones, as vectors of falling powers of two."""
    lanes = value.type.count
    if count is None or count >= lanes:
        k.b.store(cast("Value", value), shift_words(k, pointer, offset), 2)
        return
    first = 0
    while first < count:
        size = 1 << ((count - first).bit_length() - 1)
        part = _take(k, value, list(range(first, first + size)))
        k.b.store(cast("Value", part), shift_words(k, pointer, k.add(offset, first)), 2)
        first += size


def store_ordered(k: Kernel, pair: tuple[Value, Value], pointer: Pointer, count: int | None = None) -> None:
    """Store two vectors of floats in packed order, one behind the other; with ``count`` only the first ones."""
    lanes = pair[0].type.count
    places = _unpacked(lanes)
    for first in (0, lanes):
        left = lanes if count is None else count - first
        if left > 0:
            part = k.b.shuffle_vector(*pair, places[first : first + lanes])
            k.store(part, pointer, first, count=left)


def pair_words(k: Kernel, a: Bits, b: Bits, places: list[tuple[int, int]]) -> Bits:
    """Pairs of words from given places of two vectors, those of ``b`` counted on from those of ``a``."""
    return _shuffle(k, a, b, [place for pair in places for place in pair])


def join_words(k: Kernel, a: Bits, b: Bits) -> Bits:
    """Pairs of words from two vectors of integers of 32 bits, without those beyond 16."""
    return k.b.or_(k.b.and_(a, Bits(k.splat(0xFFFF, a.type))), k.b.shl(b, Bits(k.splat(16, b.type))))


def add_pairs(k: Kernel, total: Bits, a: Bits, b: Bits) -> Bits:
    """A vector of sums and the products of two vectors of pairs.

    The sum is made in its register: LLVM would add products to each other first, since integers may be added in any
    order, and then run out of registers.
    """
    return cast("Bits", k.hold(cast("Value", k.b.add(total, _multiply_pairs(k, a, b)))))


def add_quads(k: Kernel, total: Bits, a: Sequence[Bits], b: Sequence[Bits], centre: Bits | None = None) -> Bits:
    """A vector of sums and the products of vectors of quads of bytes, those of ``a`` unsigned, those of ``b`` signed.

    Neighbouring products of all vectors are added in 16 bits before they are widened, ``centre`` to them, modulo 2**16:
    the last sum has to fit. All come as vectors of words, for machines that have the instruction.
    """
    kind, small = words(2 * total.type.count), ir.VectorType(I8, 4 * total.type.count)
    function = k.intrinsic(k.target.traits.words.quads, kind, [small, small])
    products = [
        Bits(k.b.call(function, [k.b.bitcast(Value(each), small) for each in pair])) for pair in zip(a, b, strict=True)
    ]
    joined = products[0]
    for product in products[1:]:
        joined = k.b.add(joined, product)
    if centre is not None:
        joined = k.b.add(joined, centre)
    return add_pairs(k, total, joined, Bits(k.splat(1, kind)))


def add_exact_quads(k: Kernel, total: Bits, a: Bits, b: Bits) -> Bits:
    """A vector of sums and the products of two vectors of quads of bytes, added in 32 bits: those of ``b`` signed,
    those of ``a`` as the instruction takes them. Both come as vectors of words, for machines that have the instruction.
    """
    unit, lanes = k.target.traits.quad_sums, total.type.count
    assert unit is not None
    kind = sums(lanes) if unit.packed else ir.VectorType(I8, 4 * lanes)
    function = k.intrinsic(unit.name, total.type, [total.type, kind, kind])
    return Bits(k.b.call(function, [total, *(k.b.bitcast(Value(each), kind) for each in (a, b))]))


def _multiply_pairs(k: Kernel, a: Bits, b: Bits) -> Bits:
    lanes, name = a.type.count // 2, k.target.traits.words.pairs
    if name and lanes == k.target.lanes:
        function = k.intrinsic(name, sums(lanes), [a.type, a.type])
        return Bits(k.b.call(function, [a, b]))
    parts = []
    for first in range(2):
        places = list(range(first, 2 * lanes, 2))
        wide = [Bits(k.b.sext(_take(k, each, places), sums(lanes))) for each in (a, b)]
        parts.append(k.b.imul(*wide))
    return k.b.add(*parts)


def to_float(k: Kernel, total: Bits) -> Value:
    """Integers of 32 bits as float32, rounded."""
    return k.b.sitofp(total, ir.VectorType(ir.FLOAT, total.type.count))


def widen_words(k: Kernel, value: Bits) -> Bits:
    """Words as integers of 32 bits."""
    return Bits(k.b.sext(value, sums(value.type.count)))


def raise_packed(k: Kernel, value: Bits) -> tuple[Bits, Bits]:
    """A vector of words as two of sums, in packed order, each ``2 ** 16`` times as large: with zeros below them, which
    no instruction besides has to widen.
    """
    size = value.type.count
    zero = cast("Bits", k.splat(0, value.type))
    low, high = (
        k.b.bitcast(Value(pair_words(k, zero, value, [(0, size + place) for place in order])), sums(size // 2))
        for order in packed_order(size // 2)
    )
    return low, high


def round_even(k: Kernel, value: Value) -> Bits:
    """Float32 to integers of 32 bits, which have to hold them; halves to even."""
    lanes, name = value.type.count, k.target.traits.words.round
    if name and lanes == k.target.lanes:
        return Bits(k.b.call(k.intrinsic(name, sums(lanes), [value.type]), [value]))
    return k.b.fptosi(k.call("rint", value), sums(lanes))


def pack_words(k: Kernel, a: Bits, b: Bits) -> Bits:
    """Two vectors of 32-bit integers in packed order as words, those beyond 16 bits as the nearest."""
    lanes, name = a.type.count, k.target.traits.words.pack
    if name and lanes == k.target.lanes:
        return Bits(k.b.call(k.intrinsic(name, words(2 * lanes), [a.type, a.type]), [a, b]))
    parts = [k.b.trunc(clamp(k, each, -(2**15), 2**15 - 1), words(lanes)) for each in (a, b)]
    return _shuffle(k, parts[0], parts[1], _unpacked(lanes))


def narrow_words(k: Kernel, a: Bits, b: Bits) -> Bits:
    """Two vectors of words as unsigned bytes, eight of one and eight of the other in turn, as a vector of words, for
    machines that have the instruction.
    """
    kind = ir.VectorType(I8, 2 * a.type.count)
    found = k.b.call(k.intrinsic(k.target.traits.words.narrow, kind, [a.type, a.type]), [a, b])
    return Bits(k.b.bitcast(Value(found), a.type))


def clamp(k: Kernel, value: Bits, low: int, high: int) -> Bits:
    """Integers with those outside of two limits replaced by them."""
    return clamp_between(k, value, *(Bits(k.splat(limit, value.type)) for limit in (low, high)))


def clamp_between(k: Kernel, value: Bits, low: Bits, high: Bits) -> Bits:
    """The same with vectors of limits."""
    for operation, limit in (("smax", low), ("smin", high)):
        value = cast("Bits", k.call(operation, cast("Value", value), cast("Value", limit)))
    return value


def add_saturated(k: Kernel, a: Bits, b: Bits) -> Bits:
    """Sums of words, those beyond 16 bits as the nearest."""
    return cast("Bits", k.call("sadd.sat", cast("Value", a), cast("Value", b)))


def multiply_scaled(k: Kernel, a: Bits, b: Bits) -> Bits:
    """Products of words, divided by ``2 ** 15`` and rounded, halves up, for machines that have the instruction."""
    return Bits(k.b.call(k.intrinsic(k.target.traits.words.scaled, a.type, [a.type, a.type]), [a, b]))


def clamp_float(k: Kernel, value: Value, low: float, high: float) -> Value:
    """The same of floats; NaN becomes ``low``."""
    return k.smaller(k.larger(value, k.splat(low, value.type)), k.splat(high, value.type))


def spread_word(k: Kernel, pointer: Pointer, offset: Index, lanes: int) -> Bits:
    """One word in all lanes of a vector."""
    first = load_words(k, pointer, offset, 1)
    return _take(k, first, [0] * lanes)


def _unpacked(lanes: int) -> list[int]:
    """For the places of two vectors of so many numbers, which of those in packed order belongs there."""
    found = [0] * (2 * lanes)
    for half, order in enumerate(packed_order(lanes)):
        for lane, place in enumerate(order):
            found[place] = half * lanes + lane
    return found


def _take(k: Kernel, value: Bits, places: list[int]) -> Bits:
    return _shuffle(k, value, Bits(ir.undefined(value.type)), places)


def _shuffle(k: Kernel, a: Bits, b: Bits, places: list[int]) -> Bits:
    return cast("Bits", k.b.shuffle_vector(cast("Value", a), cast("Value", b), places))
