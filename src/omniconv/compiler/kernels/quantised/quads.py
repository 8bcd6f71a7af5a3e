r"""Pointwise layers of integers by bytes: quads of input channels broadcast against vectors of outputs.

One instruction multiplies twice as many bytes as words and adds neighbours in 16 bits, where they saturate: with inputs
from 0 to 255 no sum does as long as each two weights keep to 64 or so, see :func:`fits`. A second one adds neighbours
of these sums, so that four inputs cost three instructions instead of four.

The inputs of a unit are made bytes first, in memory of the thread, which all outputs read. What they are less than the
distance from the least integer is in the biases. Two vectors of words become one of bytes that takes turns between
them; weights follow that order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import add_quads, load_words, shift_sums, shift_words, store_words, words
from omniconv.compiler.emit.machine import Bits, Index, Pointer
from omniconv.compiler.kernels.quantised.panel import QuantisedPanel
from omniconv.compiler.kernels.quantised.taps import ROOM, Rows, in_packed_order
from omniconv.program.levels import Levels
from omniconv.records import dataclass

QUAD = 4
"""Bytes of a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedQuads(QuantisedPanel):
    """The recipe of one layer without padding, whose positions are a single axis, of one group.

    Attributes:
        least: the least integer of x.
    """

    least: int

    @property
    def chunks(self) -> list[int]:
        """Channels that are made bytes together: whole vectors, then less and less."""
        found, left = (
            [4 * self.walk.lanes] * (self.inputs // (4 * self.walk.lanes)),
            self.inputs % (4 * self.walk.lanes),
        )
        while left > 0:
            found.append(max(QUAD, 1 << (left.bit_length() - 1)))
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

    def pack(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Weights as the kernel reads them: by block, quad, output in packed order, and which of the quad, as bytes."""
        padded = np.zeros((self.panels * self.width, QUAD * self.pairs), np.int8)
        padded[: self.outputs] = self.arrange(w)
        by_panel = padded.reshape(self.panels, self.width, self.pairs, QUAD).transpose(0, 2, 3, 1)
        ordered = in_packed_order(by_panel, self.walk.lanes)
        return np.ascontiguousarray(ordered.transpose(0, 1, 3, 2)).reshape(-1).view(np.int16)

    def pack_bias(self, w: npt.NDArray[np.int16], b: npt.NDArray[np.integer]) -> npt.NDArray[np.generic]:
        """Biases of sums over bytes, modulo ``2 ** 32`` as the sums are."""
        moved = b.astype(np.int64) + self.least * w.reshape(self.outputs, -1).astype(np.int64).sum(1)
        return self.pack_outputs(moved.astype(np.int32))

    def _stage(self, k: Kernel, rows: Rows, block: Index) -> Rows:
        """Make bytes of the inputs of a unit."""
        walk, (row,) = self.walk, rows.values()
        room = shift_sums(k, k.arg(ROOM), k.mul(k.thread, self.room))
        begin = k.mul(block, walk.block * walk.tile)
        end = k.min(k.add(begin, walk.block * walk.tile), walk.axes[2].result)
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
        store_words(k, k.b.add(joined, Bits(k.splat(-257 * self.least, kind))), result, place)

    def _add(self, k: Kernel, total: Bits, value: Bits, factor: Bits) -> Bits:
        return add_quads(k, total, value, factor)


def order_bytes(w: npt.NDArray[np.int16], chunks: list[int]) -> npt.NDArray[np.int16]:
    """The last axis in the order of bytes: of each chunk the two halves take turns."""
    padded = np.zeros((len(w), sum(chunks)), np.int16)
    padded[:, : w.shape[1]] = w
    parts = np.split(padded, np.cumsum(chunks)[:-1], axis=1)
    return np.concatenate([part.reshape(len(w), 2, -1).transpose(0, 2, 1).reshape(len(w), -1) for part in parts], 1)


def fits(arranged: npt.NDArray[np.int16], levels: Levels) -> bool:
    """Whether weights are bytes, and the sum of no two neighbours times inputs of such levels is beyond 16 bits."""
    if np.abs(arranged).max(initial=0) > 127:
        return False
    pairs, span = arranged.reshape(len(arranged), -1, 2).astype(np.int64), levels.high - levels.low
    most, least = np.maximum(pairs, 0).sum(2).max(initial=0), np.minimum(pairs, 0).sum(2).min(initial=0)
    return bool(span <= 255 and most * span < 2**15 and least * span >= -(2**15))
