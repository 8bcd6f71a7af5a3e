r"""Depthwise layers, multipliers and small groups of integers: each output channel in a lane of its own.

A vector of sums holds whole groups. Where groups have an even number of inputs, two neighbouring inputs are a pair,
as they lie in memory, and one permutation brings a pair of each group to the lanes of its outputs.

Otherwise two taps are a pair: of two taps one above the other a pixel pair, once interleaved, serves all taps of their
rows. In the last of an odd number of rows two taps side by side are; an odd tap shares its pair with a weight of zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    add_pairs,
    load_words,
    packed_order,
    pair_words,
    shift_words,
    store_words,
    words,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.kernels.quantised.taps import WEIGHTS, ZEROS, Rows, TapRun, TapWalk, in_packed_order
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target

QUARTER = 4
"""Pairs that are moved among each other at no more than one instruction: 16 bytes."""
_MOST_ROWS = 6
"""Rows of taps whose addresses stay in registers beside those of weights, biases, factors and the result."""
Tap: TypeAlias = tuple[int, int, int]
TapPlace: TypeAlias = tuple[int, int, int] | None
"""Row, along D and along H, and column that a tap of a tile reads; ``None`` outside."""
Halves: TypeAlias = Sequence[tuple[Bits, ...]]
"""For each of two vectors of sums what is multiplied for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedLane:
    """The recipe of one layer: everything its code depends on.

    Attributes:
        walk: positions and taps.
        groups: how many.
        inputs, outputs: channels of a group.
        tail: whether whole vectors may be written past the last channel.
    """

    walk: TapWalk
    groups: int
    inputs: int
    outputs: int
    tail: bool

    @property
    def skips(self) -> bool:
        """Whether taps outside of x are left out, where they are known."""
        return True

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.units

    @property
    def lanes(self) -> int:
        """Two vectors of sums: one of words."""
        return 2 * self.walk.lanes

    @property
    def held(self) -> int:
        """Groups of a block."""
        return count_held(self.walk.lanes, self.inputs, self.outputs)

    @property
    def loaded(self) -> int:
        """Words that are loaded of a pixel: those of a block of groups, as a power of two."""
        return 1 << (self.held * self.inputs - 1).bit_length()

    @property
    def blocks(self) -> int:
        """Blocks of groups."""
        return ceil_div(self.groups, self.held)

    @property
    def by_channel(self) -> bool:
        """Whether two inputs are a pair, and not two taps."""
        return self.inputs % 2 == 0

    @property
    def turns(self) -> int:
        """Pairs of each output channel for a tap, or a pair of taps."""
        return self.inputs // 2 if self.by_channel else self.inputs

    @property
    def tile_by_tile(self) -> bool:
        """Whether all blocks of a tile follow each other, and read whole lines in the order of memory. Where addresses
        of rows of taps would not stay in registers, all tiles of a block do instead.
        """
        depth, height, _ = self.walk.axes
        return depth.kernel * height.kernel <= _MOST_ROWS

    @property
    def block_words(self) -> int:
        """Packed weights of a block [elements]."""
        return len(self.tap_pairs) * self.turns * 2 * self.lanes

    @property
    def tap_pairs(self) -> list[tuple[Tap, Tap | None]]:
        """The taps in pairs, or each for itself, W innermost."""
        depth, height, width = (axis.kernel for axis in self.walk.axes)
        if self.by_channel:
            return [(tap, None) for tap in self.walk.taps]
        found: list[tuple[Tap, Tap | None]] = []
        for d in range(depth):
            for h in range(0, height - 1, 2):
                found += [((d, h, w), (d, h + 1, w)) for w in range(width)]
            if height % 2:
                h = height - 1
                found += [((d, h, w), (d, h, w + 1) if w + 1 < width else None) for w in range(0, width, 2)]
        return found

    def opened(self, opener: Opener) -> QuantisedLane:
        """The same kernel for images of any size."""
        return replace(self, walk=self.walk.opened(opener))

    def pack(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Weights in PyTorch's shape as the kernel reads them: by block, tap or pair of taps, pair of inputs, output in
        packed order, and which of the pair.
        """
        taps, turns = self.tap_pairs, self.turns
        cube = w.reshape(self.groups, self.outputs, self.inputs, *(axis.kernel for axis in self.walk.axes))
        padded = np.zeros((self.blocks * self.held, self.outputs, len(taps), turns, 2), np.int16)
        for number, pair in enumerate(taps):
            for which, tap in enumerate(pair):
                if tap is not None:
                    here = cube[(..., *tap)]
                    if self.by_channel:
                        padded[: self.groups, :, number] = here.reshape(*here.shape[:2], turns, 2)
                    else:
                        padded[: self.groups, :, number, :, which] = here
        by_block = padded.reshape(self.blocks, -1, len(taps), turns, 2).transpose(0, 2, 3, 4, 1)
        ordered = in_packed_order(self._fill(by_block), self.walk.lanes)
        return np.ascontiguousarray(ordered.transpose(0, 1, 2, 4, 3)).reshape(-1)

    def pack_outputs(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One number for each channel as the kernel reads them."""
        padded = np.zeros(self.blocks * self.held * self.outputs, array.dtype)
        padded[: array.size] = array
        return in_packed_order(self._fill(padded.reshape(self.blocks, -1)), self.walk.lanes).reshape(-1)

    def _fill(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Outputs of a block along the last axis, and zeros for what a vector holds beyond them."""
        return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, self.lanes - array.shape[-1])])

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        for y, rows, part in self.walk.emit_units(k):
            if self.tile_by_tile:
                for run, first in self.walk.emit_tiles(k, part):
                    for block, count in self._emit_blocks(k):
                        self._block(k, y, rows, run, first, block, count)
            else:
                for block, count in self._emit_blocks(k):
                    for run, first in self.walk.emit_tiles(k, part):
                        self._block(k, y, rows, run, first, block, count)
        return k.finish()

    def _emit_blocks(self, k: Kernel) -> Iterator[tuple[Index, int | None]]:
        """Run what follows for each block: its number, and how many outputs are stored where these are not all."""
        full = self.held * self.outputs == self.lanes
        ragged = 0 if full and self.tail else self.groups % self.held * self.outputs
        whole = self.blocks - 1 if ragged else self.blocks
        if whole:
            with k.loop(whole) as block:
                yield block, None if full else self.held * self.outputs
        if ragged:
            yield whole, ragged

    def _block(
        self, k: Kernel, y: Pointer, rows: Rows, run: TapRun, first: Index, block: Index, count: int | None
    ) -> None:
        weights = shift_words(k, k.arg(WEIGHTS), k.mul(block, self.block_words))
        place = k.mul(block, self.lanes)
        inputs = {tap: shift_words(k, row, k.mul(block, self.held * self.inputs)) for tap, row in rows.items()}
        result = shift_words(k, y, k.mul(block, self.held * self.outputs))
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
            if tap is None or (run.inside is not None and not run.inside[i][tap[2]]):
                return None
            return tap[0], tap[1], i * width.stride + tap[2] * width.dilation

        uses: dict[tuple[TapPlace, TapPlace], list[tuple[int, int]]] = {}
        for number, (a, b) in enumerate(self.tap_pairs):
            for i in range(run.size):
                here, there = reads(i, a), reads(i, b)
                # Of two taps side by side the first may be outside alone: it has a weight, and reads zeros.
                if here is not None or there is not None or not self.skips:
                    uses.setdefault((here, there), []).append((i, number))
        for here, there in list(uses):
            # A tap that shares its pair with a weight of zero may do so with any pixel.
            other = next((pair for pair in uses if pair[0] == here and pair[1] is not None), None)
            if there is None and other is not None:
                uses[other] += uses.pop((here, there))
        start = walk.start(k, place)
        totals = [start] * run.size
        zero = cast("Bits", k.splat(0, words(self.loaded)))

        def load(at: TapPlace) -> Bits:
            if at is None:
                return zero
            source, place = sources[at[0], at[1]], at[2] * walk.x_strides[3]
            if run.inside is None:
                inside = k.within(k.add(left, at[2]), width.size)
                source, place = k.choose(inside, shift_words(k, source, place), k.arg(ZEROS)), 0
            return load_words(k, source, place, self.loaded)

        def column(pair: tuple[TapPlace, TapPlace]) -> int:
            return next((at[2] for at in pair if at is not None), 0)

        for pair in sorted(uses, key=column):
            for turn, halves in enumerate(self._spread(k, load(pair[0]), load(pair[1]))):
                # Weights are operands from memory each time: LLVM would load them once for all positions, and then
                # store and load them again for want of registers.
                k.fence()
                for i, number in uses[pair]:
                    totals[i] = self._add(k, totals[i], halves, weights, number, turn)
        return totals

    def _add(
        self, k: Kernel, total: tuple[Bits, Bits], halves: Halves, weights: Pointer, number: int, turn: int
    ) -> tuple[Bits, Bits]:
        """Two vectors of sums and the products of a pair of taps, ``number``, and a pair of inputs, ``turn``."""
        at = 2 * (number * self.turns + turn)
        factors = [load_words(k, weights, (at + half) * self.lanes, self.lanes) for half in range(2)]
        low, high = (
            add_pairs(k, each, pairs, factor) for each, (pairs,), factor in zip(total, halves, factors, strict=True)
        )
        return low, high

    def _spread(self, k: Kernel, here: Bits, there: Bits) -> Iterator[Halves]:
        """For each pair of inputs the two vectors that hold it, of every group, in the lanes of its outputs.

        Pairs are brought to the quarters of vectors (of four pairs) where they are wanted, if they fit there, so that
        they are moved inside of quarters from there on.
        """
        wanted = self._wanted()
        firsts = [min(wanted[0][lane], wanted[1][lane]) for lane in range(0, self.walk.lanes, QUARTER)]
        reach = [max(half[lane] - firsts[lane // QUARTER] for half in wanted) for lane in range(self.walk.lanes)]
        staged = max(reach) + self.turns <= QUARTER
        if staged:
            last = self.held * self.turns - 1
            places = [self._words(min(first + lane, last)) for first in firsts for lane in range(QUARTER)]
            here = there = Bits(k.hold(Value(pair_words(k, here, there, places))))
        for turn in range(self.turns):
            halves = list[tuple[Bits, ...]]()
            for half in wanted:
                pairs = [pair + turn for pair in half]
                if staged:
                    inside = [lane // QUARTER * QUARTER + p - firsts[lane // QUARTER] for lane, p in enumerate(pairs)]
                    places = [(2 * lane, 2 * lane + 1) for lane in inside]
                else:
                    places = [self._words(pair) for pair in pairs]
                halves.append((pair_words(k, here, there, places),))
            yield halves

    def _wanted(self) -> list[list[int]]:
        """Which inputs, in pairs, the sums of both vectors read first."""
        return [
            [min(word // self.outputs, self.held - 1) * self.turns for word in order]
            for order in packed_order(self.walk.lanes)
        ]

    def _words(self, pair: int) -> tuple[int, int]:
        """The places of the words of a pair: of a pixel, or, counted on, of a second one."""
        return (2 * pair, 2 * pair + 1) if self.by_channel else (pair, self.loaded + pair)


def count_held(lanes: int, inputs: int, outputs: int) -> int:
    """Groups of such numbers of channels that fit two vectors of sums and a vector of words."""
    return 2 * lanes // max(inputs, outputs)
