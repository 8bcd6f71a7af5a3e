r"""Pointwise layers of integers by bytes: quads of input channels broadcast against vectors of outputs.

One instruction multiplies twice as many bytes as words and adds neighbours in 16 bits, where they saturate; sums of one
or two quads are added there, then a second one adds neighbours in 32 bits. With inputs from 0 to 255 no sum saturates
as long as the positive weights that it adds are 128 or less together, and so are the negative ones. What is beyond goes
into further quads, which read the same inputs again (:func:`split_weights`): the sums are exact for all weights.
Machines that add products of four bytes in 32 bits need neither: one instruction takes all weights of a quad.

The inputs of a unit are made bytes first, in memory of the thread, which all outputs read. What they are less than the
distance from the least integer is in the biases. Two vectors of words become one of bytes that takes turns between
them; weights follow that order. Where the instruction takes signed bytes, each is 128 less.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    add_exact_quads,
    add_quads,
    load_words,
    shift_words,
    store_words,
    words,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer
from omniconv.compiler.kernels.quantised.panel import QuantisedPanel, Slots, Sources, shift_sources
from omniconv.compiler.kernels.quantised.taps import MORE, ROOM, WEIGHTS, Rows, in_packed_order
from omniconv.program.levels import Levels
from omniconv.records import dataclass

QUAD = 4
"""Bytes of a sum."""
_SIGN = 128
"""What a signed byte is less than an unsigned one of the same bits but for the highest."""


class SplitWeights(NamedTuple):
    """Weights in quads whose sums cannot saturate.

    Attributes:
        quads: weights of each quad, by output of its block and by input: first those of all blocks, one behind the
            other, then further ones.
        blocks, sources: of each further quad, the block, in ascending order, and the quad whose inputs it reads again.
    """

    quads: npt.NDArray[np.int16]
    blocks: npt.NDArray[np.intp]
    sources: npt.NDArray[np.intp]


class PackedQuads(NamedTuple):
    """Such weights as the kernel reads them.

    Attributes:
        weights: by block, quad, output in packed order, and which of the quad, as bytes; behind them those of further
            quads.
        places: where these are: for each block the number of its first one, and of the one behind its last; then for
            each of them how far its inputs are [words].
        more: how many there are.
        moved: of each output what its bias is more where inputs are counted from the least integer.
    """

    weights: npt.NDArray[np.int16]
    places: npt.NDArray[np.int32]
    more: int
    moved: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedQuads(QuantisedPanel):
    """The recipe of one layer without padding, whose positions are a single axis, of one group.

    Attributes:
        least: the least integer of x.
        depth: quads of a step, whose products are added in 16 bits.
        split: whether there are further quads.
        exact: whether products of a quad are added in 32 bits.
        signed: whether bytes of x are signed.
    """

    least: int
    depth: int
    split: bool = False
    exact: bool = False
    signed: bool = False

    @property
    def deep(self) -> int:
        """Quads of a step."""
        return self.depth

    @property
    def chunks(self) -> list[int]:
        """Channels that are made bytes together: whole vectors, then less and less."""
        found, left = (
            [4 * self.walk.lanes] * (self.inputs // (4 * self.walk.lanes)),
            self.inputs % (4 * self.walk.lanes),
        )
        while left > 0:
            found.append(max(QUAD * self.depth, 1 << (left.bit_length() - 1)))
            left -= found[-1]
        return found

    @property
    def pairs(self) -> int:
        """Quads of inputs: as many bits as a pair of words has."""
        return sum(self.chunks) // QUAD

    @property
    def pitch(self) -> int:
        """Bytes of a position [words]."""
        return 2 * self.pairs

    @property
    def room(self) -> int:
        """Bytes of a unit, in the memory of a thread [integers of 32 bits]."""
        return self.walk.block * self.walk.tile * self.pairs

    def arrange(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Weights by output and input, and zeros for inputs that are not there, in the order of the bytes."""
        return order_bytes(w.reshape(self.outputs, self.inputs), self.chunks)

    def split_weights(self, w: npt.NDArray[np.int16], levels: Levels) -> SplitWeights | None:
        """See :func:`split_weights`; all of them where sums are exact."""
        padded = np.zeros((self.panels * self.width, QUAD * self.pairs), np.int16)
        padded[: self.outputs] = self.arrange(w)
        return split_weights(padded, self.depth, self.width, levels, exact=self.exact)

    def packing(self, levels: Levels) -> Hashable:
        """What weights are packed by, beside themselves."""
        return type(self).__name__, self.walk.lanes, self.depth, self.exact, self.signed, levels

    def pack_split(self, w: npt.NDArray[np.int16], levels: Levels) -> PackedQuads | None:
        """Weights as the kernel reads them; ``None`` where weights or inputs are no bytes."""
        split = self.split_weights(w, levels)
        if split is None:
            return None
        by_input = split.quads.astype(np.int8).swapaxes(1, 2)
        ordered = in_packed_order(by_input, self.walk.lanes).swapaxes(1, 2)
        starts = np.searchsorted(split.blocks, np.arange(self.panels + 1))
        places = np.concatenate([starts, 2 * split.sources]).astype(np.int32)
        zero = self.least + _SIGN * self.signed
        moved = zero * w.reshape(self.outputs, -1).sum(1, dtype=np.int64)
        return PackedQuads(np.ascontiguousarray(ordered).reshape(-1).view(np.int16), places, len(split.blocks), moved)

    def _stage(self, k: Kernel, rows: Rows, block: Index) -> Rows:
        """Make bytes of the inputs of a unit."""
        walk, (row,) = self.walk, rows.values()
        room = k.own(ROOM)
        begin, end = walk.span(k, block)
        base = shift_words(k, room, k.mul(begin, -self.pitch))
        whole = self.inputs // (4 * walk.lanes)
        with k.loop(end, start=begin) as position:
            source = shift_words(k, row, k.mul(position, walk.x_strides[3]))
            result = shift_words(k, base, k.mul(position, self.pitch))
            if whole:
                with k.loop(whole) as chunk:
                    first = k.mul(chunk, 4 * walk.lanes)
                    self._narrow(k, shift_words(k, source, first), result, k.mul(chunk, 2 * walk.lanes), 2 * walk.lanes)
            done = whole * 4 * walk.lanes
            for size in self.chunks[whole:]:
                self._narrow(k, shift_words(k, source, done), result, done // 2, size // 2)
                done += size
        return dict.fromkeys(rows, base)

    def _narrow(self, k: Kernel, source: Pointer, result: Pointer, place: Index, half: int) -> None:
        """Bytes that take turns between two vectors of words."""
        low, high = (load_words(k, source, first, half) for first in (0, half))
        kind = words(half)
        joined = k.b.add(low, k.b.shl(high, Bits(k.splat(8, kind))))
        joined = k.b.add(joined, Bits(k.splat(-257 * self.least, kind)))
        if self.signed:
            joined = k.b.xor(joined, Bits(k.splat(257 * _SIGN, kind)))
        store_words(k, joined, result, place)

    def _add(self, k: Kernel, total: Bits, values: Sequence[Bits], factors: Sequence[Bits]) -> Bits:
        if not self.exact:
            return add_quads(k, total, values, factors)
        for value, factor in zip(values, factors, strict=True):
            total = add_exact_quads(k, total, value, factor)
        return total

    def _add_more(self, k: Kernel, slots: Slots, sources: Sources, number: Index) -> None:
        if not self.split:
            return
        places, begin = k.arg(MORE), self.panels * self.panel_words
        first, last = (k.lookup_word(places, k.add(number, end)) for end in range(2))
        with k.loop(last, start=first) as quad:
            here = shift_sources(k, sources, k.lookup_word(places, k.add(quad, self.panels + 1)))
            there = shift_words(k, k.arg(WEIGHTS), k.add(k.mul(quad, 2 * self.width), begin))
            self._step(k, slots, here, there, range(1))


def order_bytes(w: npt.NDArray[np.int16], chunks: list[int]) -> npt.NDArray[np.int16]:
    """The last axis in the order of bytes: of each chunk the two halves take turns."""
    padded = np.zeros((len(w), sum(chunks)), np.int16)
    padded[:, : w.shape[1]] = w
    parts = np.split(padded, np.cumsum(chunks)[:-1], axis=1)
    return np.concatenate([part.reshape(len(w), 2, -1).transpose(0, 2, 1).reshape(len(w), -1) for part in parts], 1)


def split_weights(
    arranged: npt.NDArray[np.int16], depth: int, width: int, levels: Levels, *, exact: bool = False
) -> SplitWeights | None:
    """Weights that add up to what is given, so that no sum of neighbours in ``depth`` quads, times inputs of such
    levels, is beyond 16 bits, unless sums are ``exact``; ``None`` where weights or inputs are no bytes.

    A sum takes as much as it may of its weights, one after the other; what is left goes into further quads.
    """
    span = levels.high - levels.low
    if span > 255 or arranged.min(initial=0) < -128 or arranged.max(initial=0) > 127:
        return None
    left = arranged.reshape(-1, width, arranged.shape[1] // QUAD, QUAD).swapaxes(1, 2)
    found, places = list[npt.NDArray[np.int16]](), list[npt.NDArray[np.intp]]()
    while not found or left.any():
        taken = left if exact else _take_fitting(left, 1 if found else depth, max(span, 1))
        left = left - taken
        where = taken.any((2, 3)) if found else np.ones(taken.shape[:2], np.bool_)
        places.append(np.argwhere(where))
        found.append(taken[where])
    more, quads = np.concatenate([places[0][:0], *places[1:]]), np.concatenate([found[0][:0], *found[1:]])
    order = np.argsort(more[:, 0], kind="stable")
    return SplitWeights(np.concatenate([found[0], quads[order]]), more[order, 0], more[order, 1])


def _take_fitting(left: npt.NDArray[np.int16], depth: int, span: int) -> npt.NDArray[np.int16]:
    """Of weights by block, quad, output and input as much as the sums of ``depth`` quads hold."""
    blocks, quads, width, _ = left.shape
    # By block, step, output, which of two sums, and what that adds.
    sums = np.moveaxis(left.reshape(blocks, quads // depth, depth, width, 2, 2), 2, -2)
    adds = sums.reshape(*sums.shape[:-2], 2 * depth)
    positive, negative = (
        np.diff(np.minimum(np.cumsum(np.maximum(part, 0), -1), most), prepend=0)
        for part, most in ((adds, (2**15 - 1) // span), (-adds, 2**15 // span))
    )
    taken: npt.NDArray[np.int16] = (positive - negative).astype(np.int16)
    return np.moveaxis(taken.reshape(sums.shape), -2, 2).reshape(left.shape)
