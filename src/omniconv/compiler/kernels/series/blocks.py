"""Depthwise layers between channels-first arrays, block by block: what the kernels of the family share.

A unit of work is a block of outputs of one input channel. The rows that it reads are copied into a padded window of
the thread's (:mod:`omniconv.compiler.kernels.series.window`), one unit ahead.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.kernels.series.tiles import PhasedTile, SeriesTile
from omniconv.compiler.kernels.series.window import PaddedWindow, pieces
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.target.model import Target

X, W, B, Y, SCRATCH = range(5)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesBlocks(ABC):
    """The recipe of one kernel between channels-first arrays: everything its code depends on.

    Attributes:
        batch: images.
        axes: walks along depth, height, width.
        channels: input channels.
        multiplier: output channels for each of them.
        dims: spatial axes of the layer.
        x_strides, y_strides: N, C, D, H strides [elements]; positions along the width are neighbours.
        posts: the epilogue; the vectorised axis of its operands is the width.
    """

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    channels: int
    multiplier: int
    dims: int
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    posts: tuple[Post, ...]
    tile: SeriesTile | PhasedTile

    @property
    def lanes(self) -> int:
        """Lanes of a vector."""
        return self.tile.lanes

    @property
    def taps(self) -> int:
        """Weights of a channel."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of outputs, those of all phases at one place taken as one."""
        return self.axes[1].counts[0], self.axes[2].counts[0]

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks along height and width."""
        (rows, columns), (height, width) = self.tile.block, self.grid
        return height // rows, ceil_div(width, columns)

    @property
    def units(self) -> int:
        """Units of work: blocks of the planes of all channels."""
        return self.batch * self.channels * math.prod(self.blocks) * (1 if self.deep else self.axes[0].output)

    @property
    def deep(self) -> bool:
        """Whether a unit holds several planes, because an output needs more than one, or not all the same."""
        return self.axes[0].kernel > 1 or not self.axes[0].static

    @property
    def rows(self) -> int:
        """Output rows of the last block, which has those that are left over, too."""
        return self.grid[0] - (self.blocks[0] - 1) * self.tile.block[0]

    @property
    def column_tiles(self) -> int:
        """Tiles of a block, along the width; the last lies over the one before it."""
        return ceil_div(self.tile.block[1], self.tile.vectors * self.lanes)

    @property
    def starts(self) -> list[int]:
        """First output of each vector of a tile: in a single tile, the last one lies over the one before it."""
        columns, lanes = self.tile.block[1], self.lanes
        if self.column_tiles > 1:
            return [v * lanes for v in range(self.tile.vectors)]
        return [min(v * lanes, max(0, columns - lanes)) for v in range(ceil_div(columns, lanes))]

    @property
    def window(self) -> PaddedWindow:
        """What a block of outputs reads."""
        depth, height, width = self.axes
        return PaddedWindow(
            planes=depth.size if self.deep else 1,
            rows=(self.rows - 1) * height.in_step + height.span,
            columns=max(self.tile.block[1], self.lanes) + (width.span - 1) // width.in_step,
            stride=width.in_step,
            height=height.size,
            width=width.size,
            source=self.x_strides[3],
            lanes=self.lanes,
        )

    @property
    def scratch(self) -> int:
        """Memory of a thread [elements]: two windows."""
        return 2 * self.window.elements

    def room(self, k: Kernel, number: Index) -> Pointer:
        """The place of one of this thread's windows."""
        return k.shift(k.own(SCRATCH), k.mul(number, self.window.elements))

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target, self.lanes)
        for number in (0, 1):
            self.window.emit_clear(k, self.room(k, number))
        # The window of a unit is filled before the tiles of the unit before it run: a load of two neighbouring vectors
        # that have just been stored would wait for them.
        with k.loop(k.add(k.end, 1), start=k.begin) as unit:
            with k.when(k.compare("<", unit, k.end)):
                self._block(k, unit).fill()
            with k.when(k.compare(">", unit, k.begin)):
                self._block(k, k.sub(unit, 1)).emit()
        return k.finish()

    def _block(self, k: Kernel, unit: Index) -> SeriesBlock:
        planes = 1 if self.deep else self.axes[0].output
        places = k.split(unit, self.batch, self.channels, planes, *self.blocks)
        return self.block(self, k, self.room(k, k.divmod(unit, 2)[1]), *places)

    @property
    @abstractmethod
    def block(self) -> Callable[[Any, Kernel, Pointer, Index, Index, Index, Index, Index], SeriesBlock]:
        """What emits a unit: made from recipe, kernel, window, image, channel, plane, and block of rows and columns."""

    def pack_weights(self, w: Array, *, flip: bool) -> Array:
        """Weights in reading order: output channel, tap."""
        w = w.reshape(self.channels * self.multiplier, *(axis.kernel for axis in self.axes))
        return np.ascontiguousarray(w[:, ::-1, ::-1, ::-1] if flip else w).reshape(-1)

    def pack_bias(self, b: Array | None) -> Array:
        """Bias of each channel."""
        return np.zeros(self.channels * self.multiplier, np.float32) if b is None else b


class SeriesBlock(ABC):
    """Emission of one unit: a block of outputs of all channels that one input channel has."""

    def __init__(
        self, recipe: SeriesBlocks, k: Kernel, room: Pointer, n: Index, c: Index, od: Index, row: Index, column: Index
    ) -> None:
        self.p, self.k, self.room, self.n, self.c, self.od = recipe, k, room, n, c, od
        rows, columns = recipe.tile.block
        last = recipe.blocks[0] - 1
        self.oh = k.mul(row, rows) if last else 0
        self.rows = k.choose(k.compare("==", row, last), k.index(recipe.rows), k.index(rows)) if last else recipe.rows
        # The last block along the width lies over the one before it.
        self.ow = k.min(k.mul(column, columns), recipe.grid[1] - columns) if recipe.blocks[1] > 1 else 0
        self.window = recipe.window

    def fill(self) -> None:
        """Fill the window."""
        k, p = self.k, self.p
        depth, height, width = p.axes
        x = k.shift(k.arg(X), k.add(k.mul(self.n, p.x_strides[0]), k.mul(self.c, p.x_strides[1])))
        top = k.add(k.mul(self.oh, height.in_step), height.low)
        left = k.add(k.mul(self.ow, width.in_step), width.low)
        with k.loop(self.window.planes) as plane:
            iz = plane if p.deep else k.add(k.mul(self.od, depth.in_step), depth.first[0])
            room = k.shift(self.room, k.mul(plane, self.window.plane))

            def fill(inside: bool) -> None:
                source = k.shift(x, k.mul(iz, p.x_strides[2])) if inside else None
                self.window.emit_fill(k, source, room, top, left)

            k.both_ways(k.within(iz, depth.size) if depth.bordered and not p.deep else True, fill)

    def emit(self) -> None:
        """All tiles."""
        k, p = self.k, self.p
        with k.loop(p.multiplier) as m:
            self.channel = k.add(k.mul(self.c, p.multiplier), m)
            self.weights = k.shift(k.arg(W), k.mul(self.channel, p.taps))
            self.bias = k.load_splat(k.arg(B), self.channel)
            with k.loop(p.axes[0].output if p.deep else 1) as z:
                self.od = z if p.deep else self.od
                self.plane()

    @abstractmethod
    def plane(self) -> None:
        """All outputs of a plane of a channel."""

    def store(self, value: Value, oh: Index, ow: Index, count: int | None) -> None:
        """A vector of outputs, or so many of its first lanes."""
        k, p = self.k, self.p
        # For the operands, which are in row-major order, the width is in the place of the channels.
        c = self.channel
        d, h, w = {1: (0, 0, c), 2: (0, c, oh), 3: (c, self.od, oh)}[p.dims]
        value = emit_epilogue(k, p.posts, value, Position(self.n, d, h, w, ow), count)
        at = ow
        for index, stride in zip((self.n, self.channel, self.od, oh), p.y_strides, strict=True):
            at = k.add(at, k.mul(index, stride))
        if count is None:
            k.store(value, k.arg(Y), at)
            return
        for first, lanes in pieces(count):
            part = k.permute(value, list(range(first, first + lanes)))
            if lanes == 1:
                k.store_scalar(k.b.extract_element(part, 0), k.arg(Y), k.add(at, first))
            else:
                k.store(part, k.arg(Y), k.add(at, first))
