r"""Depthwise layers of integers: words of neighbouring taps interleaved, each channel in a lane of its own.

Two taps one above the other share a pair, so that a pixel pair, once interleaved, serves all taps of their rows; in a
kernel of one row two taps side by side do. An odd tap shares its pair with a weight of zero.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import add_pairs, interleave, load_words, shift_words, store_words, words
from omniconv.compiler.emit.machine import Bits, Index, Pointer
from omniconv.compiler.kernels.quantised.taps import WEIGHTS, Rows, TapRun, TapWalk, in_packed_order
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

Tap: TypeAlias = tuple[int, int, int]
TapPlace: TypeAlias = tuple[int, int, int] | None
"""Row, along D and along H, and column that a tap of a tile reads; ``None`` outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedLane:
    """The recipe of one depthwise layer without multiplier: everything its code depends on.

    Attributes:
        walk: positions and taps.
        channels: how many.
        tail: whether whole vectors may be written past the last channel.
    """

    walk: TapWalk
    channels: int
    tail: bool

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.units

    @property
    def width(self) -> int:
        """Channels of a block: two vectors of sums."""
        return 2 * self.walk.lanes

    @property
    def blocks(self) -> int:
        """Blocks of channels."""
        return ceil_div(self.channels, self.width)

    @property
    def tap_pairs(self) -> list[tuple[Tap, Tap | None]]:
        """The taps in pairs, W innermost."""
        depth, height, width = (axis.kernel for axis in self.walk.axes)
        if height > 1:
            return [
                ((d, h, w), (d, h + 1, w) if h + 1 < height else None)
                for d in range(depth)
                for h in range(0, height, 2)
                for w in range(width)
            ]
        return [((d, 0, w), (d, 0, w + 1) if w + 1 < width else None) for d in range(depth) for w in range(0, width, 2)]

    def pack(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Weights ``(C, 1, *kernel)`` as the kernel reads them: by block, pair of taps, channel in packed order, and
        which of the pair.
        """
        pairs = self.tap_pairs
        cube = w.reshape(self.channels, *(axis.kernel for axis in self.walk.axes))
        padded = np.zeros((self.blocks * self.width, len(pairs), 2), np.int16)
        for number, pair in enumerate(pairs):
            for which, tap in enumerate(pair):
                if tap is not None:
                    padded[: self.channels, number, which] = cube[(slice(None), *tap)]
        by_block = padded.reshape(self.blocks, self.width, len(pairs), 2).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(in_packed_order(by_block, self.walk.lanes).transpose(0, 1, 3, 2)).reshape(-1)

    def pack_outputs(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One number for each channel as the kernel reads them."""
        padded = np.zeros(self.blocks * self.width, array.dtype)
        padded[: self.channels] = array
        return in_packed_order(padded, self.walk.lanes)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        ragged = 0 if self.tail else self.channels % self.width
        whole = self.blocks - 1 if ragged else self.blocks
        for y, rows, part in self.walk.emit_units(k):
            if whole:
                with k.loop(whole) as block:
                    self._block(k, y, rows, part, block, None)
            if ragged:
                self._block(k, y, rows, part, whole, ragged)
        return k.finish()

    def _block(self, k: Kernel, y: Pointer, rows: Rows, part: Index, block: Index, count: int | None) -> None:
        pairs = self.tap_pairs
        weights = shift_words(k, k.arg(WEIGHTS), k.mul(block, len(pairs) * 2 * self.width))
        place = k.mul(block, self.width)
        inputs = {tap: shift_words(k, row, place) for tap, row in rows.items()}
        result = shift_words(k, y, place)
        for run, first in self.walk.emit_tiles(k, part):
            for i, totals in enumerate(self._tile(k, inputs, weights, place, run, first)):
                value = self.walk.finish(k, totals, place)
                store_words(k, value, result, k.mul(k.add(first, i), self.walk.y_strides[3]), count)

    def _tile(
        self, k: Kernel, rows: Rows, weights: Pointer, place: Index, run: TapRun, first: Index
    ) -> list[tuple[Bits, Bits]]:
        walk, width = self.walk, self.walk.axes[2]
        left = k.add(k.mul(first, width.stride), -width.before)
        sources = {tap: k.anchor(shift_words(k, row, k.mul(left, walk.x_strides[3]))) for tap, row in rows.items()}

        def reads(i: int, tap: Tap | None) -> TapPlace:
            """Row and column, counted from the tile's, that a tap reads; ``None`` outside."""
            if tap is None or not run.inside[i][tap[2]]:
                return None
            return tap[0], tap[1], i * width.stride + tap[2] * width.dilation

        uses: dict[tuple[TapPlace, TapPlace], list[tuple[int, int]]] = {}
        for number, (a, b) in enumerate(self.tap_pairs):
            for i in range(run.size):
                here, there = reads(i, a), reads(i, b)
                # Of two taps side by side the first may be outside alone: it has a weight, and reads zeros.
                if here is not None or there is not None:
                    uses.setdefault((here, there), []).append((i, number))
        start = walk.start(k, place)
        totals = [start] * run.size
        zero = cast("Bits", k.splat(0, words(self.width)))

        def load(at: TapPlace) -> Bits:
            if at is None:
                return zero
            return load_words(k, sources[at[0], at[1]], at[2] * walk.x_strides[3], self.width)

        def column(pair: tuple[TapPlace, TapPlace]) -> int:
            return next(at[2] for at in pair if at is not None)

        for pair in sorted(uses, key=column):
            halves = interleave(k, load(pair[0]), load(pair[1]))
            for i, number in uses[pair]:
                factors = [load_words(k, weights, (2 * number + half) * self.width, self.width) for half in range(2)]
                low, high = (add_pairs(k, *each) for each in zip(totals[i], halves, factors, strict=True))
                totals[i] = low, high
        return totals
