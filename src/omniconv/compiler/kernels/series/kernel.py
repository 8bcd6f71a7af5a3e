r"""The series kernel: each SIMD lane is one output position along the width, all lanes of one channel.

.. math:: y_{c, q} = b_c + \sum_t x_{\lfloor c / m \rfloor,\; q s + \delta_t} \; w_{c, t}

It serves depthwise layers (with a multiplier m) on arrays in which the width, not the channels, has its elements side
by side: NCW and NCHW. A weight is one number in all lanes; an input vector is an unaligned load that serves every tap
and row of the tile that needs it. Rows are read from a padded copy of a block of the channel, which stays in the
first-level cache and belongs to the thread (:mod:`omniconv.compiler.kernels.series.window`).

Taps that lie a whole vector apart share their loads: of a long kernel, ``across`` taps ``step`` apart are taken
together, such that the input of one for a vector of outputs is that of the next for the vector before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue
from omniconv.compiler.emit.machine import Index, Pointer, Slot, Value
from omniconv.compiler.kernels.series.tiles import SeriesTile, Span, spans
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
class Series:
    """The recipe of one series kernel: everything its code depends on.

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
    tile: SeriesTile

    @property
    def lanes(self) -> int:
        """Lanes of a vector."""
        return self.tile.lanes

    @property
    def taps(self) -> int:
        """Weights of a channel."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks along height and width."""
        (rows, columns), (_, height, width) = self.tile.block, self.axes
        return height.output // rows, ceil_div(width.output, columns)

    @property
    def units(self) -> int:
        """Units of work: blocks of the planes of all channels."""
        return self.batch * self.channels * math.prod(self.blocks) * (1 if self.deep else self.axes[0].output)

    @property
    def deep(self) -> bool:
        """Whether a unit holds several planes, because an output needs more than one."""
        return self.axes[0].kernel > 1

    @property
    def rows(self) -> int:
        """Output rows of the last block, which has those that are left over, too."""
        return self.axes[1].output - (self.blocks[0] - 1) * self.tile.block[0]

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
        columns = max(self.tile.block[1], self.lanes) + (width.kernel - 1) * width.ostep // width.in_step
        return PaddedWindow(
            planes=depth.size if self.deep else 1,
            rows=(self.rows - 1) * height.in_step + (height.kernel - 1) * height.ostep + 1,
            columns=columns,
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

    def _block(self, k: Kernel, unit: Index) -> _Block:
        planes = 1 if self.deep else self.axes[0].output
        places = k.split(unit, self.batch, self.channels, planes, *self.blocks)
        return _Block(self, k, self.room(k, k.divmod(unit, 2)[1]), *places)

    def pack_weights(self, w: Array, *, flip: bool) -> Array:
        """Weights in reading order: output channel, tap."""
        w = w.reshape(self.channels * self.multiplier, *(axis.kernel for axis in self.axes))
        return np.ascontiguousarray(w[:, ::-1, ::-1, ::-1] if flip else w).reshape(-1)

    def pack_bias(self, b: Array | None) -> Array:
        """Bias of each channel."""
        return np.zeros(self.channels * self.multiplier, np.float32) if b is None else b


class _Block:
    """Emission of one unit: a block of outputs of all channels that one input channel has."""

    def __init__(
        self, recipe: Series, k: Kernel, room: Pointer, n: Index, c: Index, od: Index, row: Index, column: Index
    ) -> None:
        self.p, self.k, self.room, self.n, self.c, self.od = recipe, k, room, n, c, od
        rows, columns = recipe.tile.block
        last = recipe.blocks[0] - 1
        self.oh = k.mul(row, rows) if last else 0
        self.rows = k.choose(k.compare("==", row, last), k.index(recipe.rows), k.index(rows)) if last else recipe.rows
        # The last block along the width lies over the one before it.
        self.ow = k.min(k.mul(column, columns), recipe.axes[2].output - columns) if recipe.blocks[1] > 1 else 0
        self.window = recipe.window

    def fill(self) -> None:
        """Fill the window."""
        k, p = self.k, self.p
        depth, height, width = p.axes
        x = k.shift(k.arg(X), k.add(k.mul(self.n, p.x_strides[0]), k.mul(self.c, p.x_strides[1])))
        top = k.add(k.mul(self.oh, height.in_step), height.first[0])
        left = k.add(k.mul(self.ow, width.in_step), width.first[0])
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
                self._rows()

    def _rows(self) -> None:
        """All tiles of a plane. Every ``spread`` of them fill rows side by side; the last lie over those before."""
        k, tile = self.k, self.p.tile
        extent = tile.rows * tile.spread
        groups, rest = k.divmod(self.rows, extent)
        whole = k.mul(groups, tile.spread)
        tiles = k.add(whole, k.min(rest, tile.spread))
        with k.loop(tiles) as index:
            group, residue = k.divmod(index, tile.spread)
            last = k.add(k.sub(index, tiles), k.sub(self.rows, extent - tile.spread))
            oh = k.choose(k.compare("<", index, whole), k.index(k.add(k.mul(group, extent), residue)), k.index(last))
            rounds, width = self._down(oh), tile.vectors * self.p.lanes
            with k.loop(self.p.column_tiles) as column:
                ow = k.min(k.mul(column, width), tile.block[1] - width) if self.p.column_tiles > 1 else 0
                self._tile(oh, ow, rounds)

    def _tile(self, oh: Index, ow: Index, rounds: list[tuple[Index, Index, int]]) -> None:
        k, p = self.k, self.p
        acc = [[k.variable(k.vector_type(), self.bias) for _ in p.starts] for _ in range(p.tile.rows)]
        with self._planes() as (plane, line):
            for first, last, down in rounds:
                with k.loop(last, start=first, step=p.tile.down) as ky:
                    row = k.add(k.mul(oh, p.axes[1].in_step), k.mul(ky, p.axes[1].ostep))
                    base = k.shift(plane, k.add(k.mul(row, self.window.pitch), ow))
                    self._across(base, k.mul(k.add(line, ky), p.axes[2].kernel), down, acc)
        narrow = p.tile.block[1] if p.tile.block[1] < p.lanes else None
        for r, slots in enumerate(acc):
            y = k.add(k.add(self.oh, oh), r * p.tile.spread)
            for start, slot in zip(p.starts, slots, strict=True):
                self._store(k.get(slot), y, k.add(k.add(self.ow, ow), start), narrow)

    def _store(self, value: Value, oh: Index, ow: Index, count: int | None) -> None:
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

    @contextmanager
    def _planes(self) -> Iterator[tuple[Pointer, Index]]:
        """Loop over the taps of the depth that land inside: the plane and the first row of the kernel."""
        k, p = self.k, self.p
        depth = p.axes[0]
        with k.loop(depth.kernel) as kz:
            iz = k.add(k.add(k.mul(self.od, depth.in_step), depth.first[0]), k.mul(kz, depth.ostep))
            with k.when(k.within(iz, depth.size) if p.deep and depth.bordered else True):
                yield k.shift(self.room, k.mul(iz, self.window.plane) if p.deep else 0), k.mul(kz, p.axes[1].kernel)

    def _down(self, oh: Index) -> list[tuple[Index, Index, int]]:
        """Loops over the taps of the height, as (first, end, taps of a round). Rounds without a row inside are left
        out.
        """
        k, p = self.k, self.p
        height, down = p.axes[1], p.tile.down
        whole, rest = height.kernel // down * down, height.kernel % down
        first: Index = 0
        last: Index = height.kernel
        if height.kernel > down and height.bordered:
            top = k.add(k.mul(k.add(self.oh, oh), height.in_step), height.first[0])
            above = k.add(top, (p.tile.rows - 1) * p.tile.spread * height.in_step)
            # First round that reaches row 0, and one past the last tap at or above the last row.
            first = k.divmod(k.sub(0, k.min(above, 0)), height.ostep * down)[0]
            first = k.mul(first, down)
            below = k.add(k.sub(height.size - 1, top), height.ostep)
            last = k.min(k.divmod(k.sub(0, k.min(k.sub(0, below), 0)), height.ostep)[0], height.kernel)
        found: list[tuple[Index, Index, int]] = [(first, k.min(last, whole), down)] if whole else []
        return [*found, (whole, k.min(last, whole + 1), rest)] if rest else found

    def _across(self, base: Pointer, line: Index, down: int, acc: list[list[Slot]]) -> None:
        """Loops over the taps of the width."""
        k, width = self.k, self.p.axes[2]
        for span in spans(width.kernel, self.p.tile.across, self.p.tile.step):
            with k.loop(span.outer) as i, k.loop(span.inner) as j:
                # Whole rounds are whole numbers of strides, so that the residue of a tap is known.
                at = k.add(k.mul(i, span.outer_step * width.ostep // width.in_step), k.mul(j, width.ostep))
                tap = k.add(k.add(k.mul(i, span.outer_step), j), span.first)
                self._taps(k.shift(base, at), k.add(line, tap), down, span, acc)

    def _taps(self, base: Pointer, tap: Index, down: int, span: Span, acc: list[list[Slot]]) -> None:
        """Multiply-adds of ``down`` times ``span.taps`` taps: every input vector is loaded once."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        users: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for t in range(span.taps):
            index, part = divmod((span.first + t * span.step) * width.ostep, width.in_step)
            for v, start in enumerate(p.starts):
                for i in range(down):
                    for r in range(p.tile.rows):
                        dy = r * p.tile.spread * height.in_step + i * height.ostep
                        users.setdefault((index + start + part * self.window.part, dy), []).append((r, v, i, t))
        weights = {
            (i, t): k.load_splat(self.weights, k.add(tap, i * width.kernel + t * span.step))
            for i in range(down)
            for t in range(span.taps)
        }
        values = [[k.get(slot) for slot in row] for row in acc]
        base = k.anchor(base)
        for (dx, dy), uses in users.items():
            value = k.load(base, dy * self.window.pitch + dx)
            for r, v, i, t in uses:
                values[r][v] = k.fma(value, weights[i, t], values[r][v])
        for row, slots in zip(values, acc, strict=True):
            for value, slot in zip(row, slots, strict=True):
                k.set(slot, value)
