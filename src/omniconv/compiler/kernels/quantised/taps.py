"""What both kernels of quantised layers walk over: positions of the result, taps, and the rows that they read."""

from __future__ import annotations

from collections.abc import Iterator
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


class TapRun(NamedTuple):
    """Neighbouring tiles along W with the same code: the first position, how many, positions of each, and for each of
    them which taps are inside.
    """

    first: int
    tiles: int
    size: int
    inside: tuple[tuple[bool, ...], ...]


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

    def runs(self) -> list[TapRun]:
        """The tiles of a row; the last one may be narrower."""
        width, found = self.axes[2], list[TapRun]()
        for first in range(0, width.result, self.tile):
            size = min(self.tile, width.result - first)
            inside = tuple(tuple(width.inside(first + i, tap) for tap in range(width.kernel)) for i in range(size))
            if found and found[-1][2:] == (size, inside):
                found[-1] = found[-1]._replace(tiles=found[-1].tiles + 1)
            else:
                found.append(TapRun(first, 1, size, inside))
        return found

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
        done = 0
        for run in self.runs():
            low: Index = done
            high: Index = done + run.tiles
            if self.blocks > 1:
                low, high = k.max(low, begin), k.min(high, k.add(begin, self.block))
            # A loop over a tile that may not be in this block runs once, or not at all.
            with k.loop(high, start=low) as tile:
                yield run, k.mul(tile, self.tile)
            done += run.tiles

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
