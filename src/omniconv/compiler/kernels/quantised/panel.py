r"""Dense, pointwise and grouped layers of integers: pairs of input channels broadcast against vectors of outputs.

A tile of positions by two vectors of sums stays in registers. A step reads two neighbouring input channels of a
position into all pairs of a vector, and multiplies them with two weights of each output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    add_pairs,
    load_pair,
    load_words,
    shift_words,
    store_ordered,
    store_words,
    sums,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Slot, Value
from omniconv.compiler.kernels.quantised.taps import WEIGHTS, ZEROS, Rows, TapRun, TapWalk, in_packed_order
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target

Slots: TypeAlias = list[list[Slot]]
"""Two vectors of sums for each position of a tile."""
Sources: TypeAlias = dict[int, tuple[Pointer, int]]
"""For each position of a tile an address, and how many words behind it what a tap reads lies."""
_UNROLL = 4
"""Pairs of channels in a turn of the inner loop, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedPanel:
    """The recipe of one layer: everything its code depends on.

    Attributes:
        walk: positions and taps.
        groups: of channels; ``inputs`` and ``outputs`` are those of one.
        tail: whether whole vectors may be written past the last output channel of a group.
    """

    walk: TapWalk
    groups: int
    inputs: int
    outputs: int
    tail: bool

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.units

    @property
    def pairs(self) -> int:
        """Pairs of input channels of a group."""
        return ceil_div(self.inputs, 2)

    @property
    def deep(self) -> int:
        """Pairs of a step."""
        return 1

    @property
    def width(self) -> int:
        """Output channels of a block: two vectors of sums."""
        return 2 * self.walk.lanes

    @property
    def panels(self) -> int:
        """Blocks of a group."""
        return ceil_div(self.outputs, self.width)

    @property
    def panel_words(self) -> int:
        """Packed weights of a block [elements]."""
        return len(self.walk.taps) * self.pairs * 2 * self.width

    @property
    def pitch(self) -> int:
        """Distance between neighbouring positions in what is read [words]."""
        return self.walk.x_strides[3]

    def opened(self, opener: Opener) -> Self:
        """The same kernel for images of any size."""
        return replace(self, walk=self.walk.opened(opener))

    def pack(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Weights in PyTorch's shape as the kernel reads them: by group, block, tap, pair, output in packed order, and
        which of the pair.
        """
        taps = int(np.prod(w.shape[2:], dtype=np.int64))
        padded = np.zeros((self.groups, self.panels * self.width, 2 * self.pairs, taps), np.int16)
        padded[:, : self.outputs, : self.inputs] = w.reshape(self.groups, self.outputs, self.inputs, taps)
        by_output = padded.reshape(self.groups, self.panels, self.width, self.pairs, 2, taps)
        ordered = in_packed_order(by_output.transpose(0, 1, 5, 3, 4, 2), self.walk.lanes)
        return np.ascontiguousarray(ordered.transpose(0, 1, 2, 3, 5, 4)).reshape(-1)

    def pack_outputs(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One number for each output channel as the kernel reads them."""
        padded = np.zeros((self.groups, self.panels * self.width), array.dtype)
        padded[:, : self.outputs] = array.reshape(self.groups, self.outputs)
        return in_packed_order(padded, self.walk.lanes).reshape(-1)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        ragged = 0 if self.tail else self.outputs % self.width
        whole = self.panels - 1 if ragged else self.panels
        for y, found, block in self.walk.emit_units(k):
            rows = self._stage(k, found, block)
            with k.loop(self.groups) as group:
                inputs = {tap: shift_words(k, row, k.mul(group, self.inputs)) for tap, row in rows.items()}
                if whole:
                    with k.loop(whole) as panel:
                        self._panel(k, y, inputs, block, group, panel, None)
                if ragged:
                    self._panel(k, y, inputs, block, group, whole, ragged)
        return k.finish()

    def _stage(self, k: Kernel, rows: Rows, block: Index) -> Rows:
        """Where the inputs of a unit are read: where they are."""
        del k, block
        return rows

    def _add(self, k: Kernel, total: Bits, values: Sequence[Bits], factors: Sequence[Bits]) -> Bits:
        """A vector of sums and the products of two vectors of pairs, for each pair of a step."""
        for value, factor in zip(values, factors, strict=True):
            total = add_pairs(k, total, value, factor)
        return total

    def _add_more(self, k: Kernel, slots: Slots, sources: Sources, number: Index) -> None:
        """What is added to the sums of a tile besides the steps; ``number`` is that of the block."""

    def _panel(
        self, k: Kernel, y: Pointer, rows: Rows, block: Index, group: Index, panel: Index, count: int | None
    ) -> None:
        number = k.add(k.mul(group, self.panels), panel)
        weights = shift_words(k, k.arg(WEIGHTS), k.mul(number, self.panel_words))
        place = k.mul(number, self.width)
        channel = k.add(k.mul(group, self.outputs), k.mul(panel, self.width))
        result = shift_words(k, y, k.mul(channel, self.walk.y_words))
        for run, first in self.walk.emit_tiles(k, block):
            totals = self._tile(k, rows, weights, number, run, first)
            for i, pair in enumerate(totals):
                there = shift_words(k, result, k.mul(k.add(first, i), self.walk.y_strides[3]))
                if self.walk.limits is None:
                    store_ordered(k, self.walk.scale(k, pair, place), there, count)
                else:
                    store_words(k, self.walk.finish(k, pair, place), there, 0, count)

    def _tile(
        self, k: Kernel, rows: Rows, weights: Pointer, number: Index, run: TapRun, first: Index
    ) -> list[tuple[Bits, Bits]]:
        walk = self.walk
        kind = sums(walk.lanes)
        start = walk.start(k, k.mul(number, self.width))
        slots = [[k.variable(kind, Value(half)) for half in start] for _ in range(run.size)]
        for tap, (td, th, tw) in enumerate(walk.taps):
            sources = self._find_sources(k, rows[td, th], run, first, tw)
            if not sources:
                continue
            part = shift_words(k, weights, tap * self.pairs * 2 * self.width)
            unroll, steps = max(1, _UNROLL // self.deep), self.pairs // self.deep
            turns = steps // unroll
            if turns:
                with k.loop(turns) as turn:
                    here = shift_sources(k, sources, k.mul(turn, 2 * unroll * self.deep))
                    there = shift_words(k, part, k.mul(turn, unroll * self.deep * 2 * self.width))
                    for step in range(unroll):
                        self._step(k, slots, here, there, self._pairs(step))
            for step in range(turns * unroll, steps):
                self._step(k, slots, sources, part, self._pairs(step))
            self._add_more(k, slots, sources, number)
        return [(Bits(k.get(low)), Bits(k.get(high))) for low, high in slots]

    def _find_sources(self, k: Kernel, row: Pointer, run: TapRun, first: Index, tap: int) -> Sources:
        """Where the positions of a tile that have a tap along W read its first input."""
        width = self.walk.axes[2]
        column = k.add(k.mul(first, width.stride), tap * width.dilation - width.before)
        places = {i: i * width.stride for i in range(run.size) if run.inside is None or run.inside[i][tap]}
        source = k.anchor(shift_words(k, row, k.mul(column, self.pitch)))
        if run.inside is not None:
            return {i: (source, place * self.pitch) for i, place in places.items()}
        return {
            i: (
                k.choose(
                    k.within(k.add(column, place), width.size),
                    shift_words(k, source, place * self.pitch),
                    k.arg(ZEROS),
                ),
                0,
            )
            for i, place in places.items()
        }

    def _pairs(self, step: int) -> range:
        """The pairs of a step."""
        return range(step * self.deep, (step + 1) * self.deep)

    def _step(self, k: Kernel, slots: Slots, sources: Sources, weights: Pointer, pairs: range) -> None:
        """Some pairs of input channels of each position of a tile."""
        factors = [
            [load_words(k, weights, (2 * n + half) * self.width, self.width) for n in pairs] for half in range(2)
        ]
        for i, (source, place) in sources.items():
            values = [load_pair(k, source, place + 2 * n, self.walk.lanes) for n in pairs]
            for slot, factor in zip(slots[i], factors, strict=True):
                k.set(slot, Value(self._add(k, Bits(k.get(slot)), values, factor)))


def shift_sources(k: Kernel, sources: Sources, offset: Index) -> Sources:
    """Addresses so many words further."""
    moved = {pointer: shift_words(k, pointer, offset) for pointer, _ in sources.values()}
    return {i: (moved[pointer], place) for i, (pointer, place) in sources.items()}
