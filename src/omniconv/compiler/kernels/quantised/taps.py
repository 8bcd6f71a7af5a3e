"""What both kernels of quantised layers walk over: positions of the result, taps, and the rows that they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    clamp,
    clamp_float,
    load_sums,
    pack_words,
    packed_order,
    round_even,
    shift_words,
    to_float,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.memory.layout import Layout
from omniconv.integers import ceil_div
from omniconv.open_size import Known, Opener, is_open, may_exceed
from omniconv.records import dataclass
from omniconv.spec import Conv

X, Y, WEIGHTS, BIAS, FACTOR, ZEROS, ROOM, MORE = range(8)
"""Positions of the buffers in ``args``: behind a row of zeros the memory of the threads, for kernels that need some,
and where further quads are.
"""

Rows: TypeAlias = dict[tuple[int, int], Pointer]
"""For each tap along D and H the row that it reads."""


class TapAxis(NamedTuple):
    """One axis: sizes of x and y, taps, and the padding before the first position."""

    size: int
    result: int
    kernel: int
    stride: int
    dilation: int
    before: int

    def reads(self, position: int, tap: int) -> int:
        """Where a tap reads for a position of the result."""
        return position * self.stride + tap * self.dilation - self.before

    def inside(self, position: int, tap: int) -> bool:
        """Whether that is inside of x."""
        return 0 <= self.reads(position, tap) < self.size

    @property
    def padded(self) -> bool:
        """Whether some tap of some position is outside."""
        return not (self.inside(0, 0) and self.inside(self.result - 1, self.kernel - 1))

    def opened(self, opener: Opener) -> TapAxis:
        """The same axis for images of any size."""
        if self.size == self.result == self.kernel == 1:
            return self
        return self._replace(size=opener.any(self.size), result=opener.any(self.result))


class TapRun(NamedTuple):
    """Neighbouring tiles along W with the same code.

    Attributes:
        begin, end: the numbers of the first one, and of the one behind the last.
        last: the last position where one may begin, which then overlaps the one before it; ``None`` where all have
            positions of their own.
        size: positions of each.
        inside: for each of them which taps are inside of x; ``None`` where the code looks when it runs.
    """

    begin: Known
    end: Known
    last: Known | None
    size: int
    inside: tuple[tuple[bool, ...], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TapWalk:
    """The positions and taps of one quantised layer, and how its sums become integers.

    Attributes:
        batch: images.
        axes: D, H, W.
        x_strides, y_strides: of N, D, H, W [words].
        tile: positions along W that are computed together.
        block: tiles in a unit of work.
        limits: of the levels of y; ``None`` where y is of floats, each of ``y_words`` words.
        bounded: whether all scaled sums are integers of 32 bits.
        lanes: of a vector of sums.
    """

    batch: int
    axes: tuple[TapAxis, TapAxis, TapAxis]
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    tile: int
    block: int
    limits: tuple[int, int] | None
    bounded: bool
    lanes: int
    y_words: int = 1

    @property
    def tiles(self) -> int:
        """Tiles in a row."""
        return ceil_div(self.axes[2].result, self.tile)

    @property
    def blocks(self) -> int:
        """Units in a row."""
        return ceil_div(self.tiles, self.block)

    @property
    def units(self) -> int:
        """Units of work: rows, or parts of them."""
        return self.batch * self.axes[0].result * self.axes[1].result * self.blocks

    @property
    def taps(self) -> list[tuple[int, int, int]]:
        """All taps, W innermost."""
        return [(d, h, w) for d, h, w in np.ndindex(*(axis.kernel for axis in self.axes))]

    def opened(self, opener: Opener) -> TapWalk:
        """The same walk for images of any size. A row shorter than a tile stays as long as it is."""
        depth, height, width = self.axes
        return replace(
            self,
            batch=opener(self.batch),
            axes=(
                depth.opened(opener),
                height.opened(opener),
                width if width.result < self.tile else width.opened(opener),
            ),
            x_strides=opener.strides(self.x_strides),
            y_strides=opener.strides(self.y_strides),
            block=opener.any(self.block),
        )

    @property
    def last(self) -> Known | None:
        """The last position where a tile may begin: of rows whose length is open all tiles are whole."""
        result = self.axes[2].result
        return result - self.tile if is_open(result) else None

    def runs(self) -> list[TapRun]:
        """The tiles of a row; the last one may be narrower, or overlap the one before it."""
        if self.last is not None:
            return self._open_runs(self.last)
        width, found = self.axes[2], list[TapRun]()
        for number, first in enumerate(range(0, width.result, self.tile)):
            size = min(self.tile, width.result - first)
            inside = tuple(tuple(width.inside(first + i, tap) for tap in range(width.kernel)) for i in range(size))
            if found and found[-1][3:] == (size, inside):
                found[-1] = found[-1]._replace(end=number + 1)
            else:
                found.append(TapRun(number, number + 1, None, size, inside))
        return found

    def _open_runs(self, last: Known) -> list[TapRun]:
        """The tiles of a row whose length is open. Where it is long, the first and the last tile alone are at the
        border, and it is known which taps of these are inside.
        """
        width, size, tiles = self.axes[2], self.tile, self.tiles
        taps, all_inside = range(width.kernel), ((True,) * width.kernel,) * size
        if not width.padded:
            return [TapRun(0, tiles, last, size, all_inside)]
        over = int(width.result * width.stride - width.size)
        before = max(0, ceil_div(width.before, width.stride))
        behind = max(0, (width.reads(0, width.kernel - 1) + over) // width.stride)
        if max(before, behind) > size or width.result < 2 * size + before:
            return [TapRun(0, tiles, last, size, None)]
        low = tuple(tuple(width.reads(i, tap) >= 0 for tap in taps) for i in range(size))
        high = tuple(tuple(width.reads(i, tap) + over < 0 for tap in taps) for i in range(-size, 0))
        return [
            TapRun(0, 1, None, size, low),
            TapRun(1, tiles - 1, last - size, size, all_inside),
            TapRun(tiles - 1, tiles, last, size, high),
        ]

    def span(self, k: Kernel, block: Index) -> tuple[Index, Index]:
        """The positions of a block, from and to (not included)."""
        size = self.block * self.tile
        begin = k.mul(block, size)
        end = k.min(k.add(begin, size), self.axes[2].result)
        return (begin if self.last is None else k.min(begin, self.last)), end

    def emit_units(self, k: Kernel) -> Iterator[tuple[Pointer, Rows, Index]]:
        """Run what follows for each unit: where its row of y begins, the rows of x, and the number of its block."""
        depth, height, _ = self.axes
        with k.loop(k.end, start=k.begin) as unit:
            n, d, h, block = k.split(unit, self.batch, depth.result, height.result, self.blocks)
            xn, xd, xh, _ = self.x_strides
            yn, yd, yh, _ = self.y_strides
            y = shift_words(k, k.arg(Y), k.add(k.mul(n, yn), k.add(k.mul(d, yd), k.mul(h, yh))))
            x, rows = shift_words(k, k.arg(X), k.mul(n, xn)), {}
            for td in range(depth.kernel):
                for th in range(height.kernel):
                    at = [
                        k.add(k.mul(index, axis.stride), tap * axis.dilation - axis.before)
                        for index, axis, tap in ((d, depth, td), (h, height, th))
                    ]
                    row = shift_words(k, x, k.add(k.mul(at[0], xd), k.mul(at[1], xh)))
                    for index, axis in zip(at, (depth, height), strict=True):
                        if axis.padded:
                            row = k.choose(k.within(index, axis.size), row, k.arg(ZEROS))
                    rows[td, th] = row
            yield y, rows, block

    def emit_tiles(self, k: Kernel, block: Index) -> Iterator[tuple[TapRun, Index]]:
        """Run what follows for each tile of a block: the code it needs, and its first position."""
        begin = k.mul(block, self.block)
        for run in self.runs():
            low: Index = run.begin
            high: Index = run.end
            if may_exceed(self.blocks, 1):
                low, high = k.max(low, begin), k.min(high, k.add(begin, self.block))
            # A loop over a tile that may not be in this block runs once, or not at all.
            with k.loop(high, start=low) as tile:
                first = k.mul(tile, self.tile)
                yield run, first if run.last is None else k.min(first, run.last)

    def finish(self, k: Kernel, totals: tuple[Bits, Bits], place: Index) -> Bits:
        """Two vectors of sums, in packed order, as words; ``place`` is that of the first factor."""
        assert self.limits is not None
        low, high = self.limits
        rounded = []
        for value in self.scale(k, totals, place):
            inside = value if self.bounded else clamp_float(k, value, low, high)
            rounded.append(round_even(k, inside))
        return clamp(k, pack_words(k, *rounded), low, high)

    def scale(self, k: Kernel, totals: tuple[Bits, Bits], place: Index) -> tuple[Value, Value]:
        """Two vectors of sums as floats, times the factors."""
        factors = (k.load(k.arg(FACTOR), k.add(place, half * self.lanes), lanes=self.lanes) for half in range(2))
        first, second = (k.b.fmul(to_float(k, total), f) for total, f in zip(totals, factors, strict=True))
        return first, second

    def start(self, k: Kernel, place: Index) -> tuple[Bits, Bits]:
        """The biases of two vectors of sums."""
        first, second = (load_sums(k, k.arg(BIAS), k.add(place, half * self.lanes), self.lanes) for half in range(2))
        return first, second


def list_axes(spec: Conv, x: Layout, y: Layout) -> tuple[TapAxis, TapAxis, TapAxis]:
    """D, H and W of a layer."""
    missing = 3 - spec.dims
    one = TapAxis(1, 1, 1, 1, 1, 0)
    found = [
        TapAxis(size, result, axis.kernel, axis.stride, axis.dilation, axis.padding[0])
        for size, result, axis in zip(x.shape[2:], y.shape[2:], spec.axes(), strict=True)
    ]
    depth, height, width = [one] * missing + found
    return depth, height, width


def in_packed_order(array: npt.NDArray[np.generic], lanes: int) -> npt.NDArray[np.generic]:
    """The last axis, a multiple of two vectors, in packed order."""
    order = [place for half in packed_order(lanes) for place in half]
    blocks = array.reshape(*array.shape[:-1], -1, 2 * lanes)
    return np.ascontiguousarray(blocks[..., order]).reshape(array.shape)


def stays_bounded(largest: npt.NDArray[np.int64], factor: npt.NDArray[np.float32]) -> bool:
    """Whether scaled sums of such sizes are integers of 32 bits, so that limits may follow the rounding."""
    return bool((largest.astype(np.float64) * np.abs(factor.astype(np.float64)) < 2.0**30).all())
