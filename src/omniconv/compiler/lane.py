r"""The lane kernel: each SIMD lane is one output channel, whose inputs lie in the same vector.

.. math:: y_{q, l} = b_l + \sum_t \sum_{j < C_{in}/g} x_{q + \delta_t,\; \lfloor l g / C_{out} \rfloor C_{in}/g + j} \;
w_{t, j, l}

It serves depthwise layers (j = 0 and the lanes of x are the lanes of y), channel multipliers and groups of a few
channels: input j of every group reaches its lanes by one constant permutation of the loaded vector, made once and used
by all taps.

Short kernels are unrolled into a tile of output rows and columns, in which each input vector is loaded once and serves
every tap that needs it. Longer kernels, and the phases of transposed ones, loop over their taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from omniconv.compiler.epilogue import Position, Post, emit_epilogue
from omniconv.compiler.ir import Index, Kernel, Value
from omniconv.compiler.program import Array
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk, Phase, PhaseTables

X, W, B, Y, ZERO = range(5)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 5


@dataclass(frozen=True, slots=True)
class LaneTile:
    """Sizes chosen by the schedule.

    Attributes:
        rows, columns: output positions in a tile.
        unrolled: whether all taps of height and width are unrolled (single-phase axes only).
        chunk: taps of the width unrolled together where they are looped over.
        block: tiles of a row in one unit of work.
        split: parts that the channels are divided into, as units of work.
    """

    rows: int
    columns: int
    unrolled: bool
    chunk: int
    block: int
    split: int


@dataclass(frozen=True, slots=True)
class Lane:
    """The recipe of one lane kernel: everything its code depends on.

    Attributes:
        batch: images.
        axes: walks along depth, height, width.
        groups: groups; ``outputs`` channels of each divide the vector.
        inputs, outputs: channels of one group, inputs <= outputs.
        x_strides, y_strides: N, D, H, W strides [elements]; channels are neighbours.
        readable: whether whole vectors of x may be read.
        tail: whether lanes after the last output channel may be written.
        posts: the epilogue.
    """

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    readable: bool
    tail: bool
    posts: tuple[Post, ...]
    tile: LaneTile
    lanes: int

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.groups * self.outputs

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return -(self.channels // -self.lanes)

    @property
    def span(self) -> int:
        """Input channels behind one vector of output channels."""
        return self.lanes // self.outputs * self.inputs

    @property
    def rows(self) -> int:
        """Tiles along the height."""
        return -(self.axes[1].output // -self.tile.rows)

    @property
    def blocks(self) -> int:
        """Blocks of tiles along the width."""
        tiles = -(max(self.axes[2].counts) // -min(self.tile.columns, *self.axes[2].counts))
        return -(tiles // -self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: parts of the channels, times tile rows, times blocks."""
        return self.tile.split * self.batch * self.axes[0].output * self.rows * self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        tables = (PhaseTables(k, self.axes[0]), PhaseTables(k, self.axes[1]), PhaseTables(k, self.axes[2]))
        with k.loop(k.end, start=k.begin) as unit:
            part, n, od, row, block = k.split(
                unit, self.tile.split, self.batch, self.axes[0].output, self.rows, self.blocks
            )
            _Tiles(self, k, tables, part, n, od, row, block).emit()
        return k.finish()

    def pack_weights(self, w: Array, *, transposed: bool, flip: bool) -> Array:
        """Weights in reading order: vector, tap, input of the group, lane; zeros in spare lanes."""
        taps = tuple(axis.kernel for axis in self.axes)
        if transposed:
            w = w.reshape(self.groups, self.inputs, self.outputs, *taps).transpose(3, 4, 5, 1, 0, 2)
        else:
            w = w.reshape(self.groups, self.outputs, self.inputs, *taps).transpose(3, 4, 5, 2, 0, 1)
        if flip:
            w = w[::-1, ::-1, ::-1]
        flat = w.reshape(-1, self.inputs, self.channels)
        packed = np.zeros((self.vectors, flat.shape[0], self.inputs, self.lanes), np.float32)
        for v in range(self.vectors):
            part = flat[:, :, v * self.lanes : (v + 1) * self.lanes]
            packed[v, :, :, : part.shape[2]] = part
        return packed.reshape(-1)

    def pack_bias(self, b: Array | None) -> Array:
        """Bias padded to whole vectors."""
        packed = np.zeros(self.vectors * self.lanes, np.float32)
        if b is not None:
            packed[: self.channels] = b
        return packed


class _Tiles:
    """Emission of one unit: a row of tiles, over a part of the channels."""

    def __init__(
        self, recipe: Lane, k: Kernel, tables: tuple[PhaseTables, PhaseTables, PhaseTables],
        part: Index, n: Index, od: Index, row: Index, block: Index,
    ) -> None:  # fmt: skip
        self.p, self.k, self.part, self.n, self.od, self.block = recipe, k, part, n, od, block
        self.depth, self.depth_q = tables[0].at(od)
        # The last tile row overlaps the one before it instead of being cut.
        self.th = min(recipe.tile.rows, recipe.axes[1].output)
        self.oh = k.min(k.mul(row, self.th), recipe.axes[1].output - self.th)
        self.height, self.height_q = tables[1].at(self.oh)
        self.width_tables = tables[2]
        self.x = k.shift(k.arg(X), k.mul(n, recipe.x_strides[0]))
        self.y = k.shift(k.arg(Y), k.add(k.mul(n, recipe.y_strides[0]), k.mul(od, recipe.y_strides[1])))
        self.zero = k.arg(ZERO)

    def emit(self) -> None:
        """All tiles of the unit."""
        k, axis = self.k, self.p.axes[2]
        tw = min(self.p.tile.columns, *axis.counts)
        with k.loop(axis.phases) as index:
            phase = self.width_tables.phase(index)
            tiles = k.divmod(k.add(phase.count, tw - 1), tw)[0]
            begin = k.mul(self.block, self.p.tile.block)
            end = k.min(tiles, k.add(begin, self.p.tile.block)) if self.p.blocks > 1 else tiles
            with k.loop(end, start=begin) as tile:
                q = k.min(k.mul(tile, tw), k.sub(phase.count, tw))
                inside = self._inside(phase, q, tw)
                if isinstance(inside, bool):
                    self._channels(phase, q, tw, checked=not inside)
                else:
                    with k.branches(inside) as (fast, slow):
                        with fast:
                            self._channels(phase, q, tw, checked=False)
                        with slow:
                            self._channels(phase, q, tw, checked=True)

    def _inside(self, phase: Phase, q: Index, tw: int) -> Value | bool:
        """Whether no tap of the tile leaves the input along the width (and the height, where that is unrolled)."""
        k = self.k
        conditions = [(self.p.axes[2], phase, q, tw)]
        if self.p.tile.unrolled:
            conditions.append((self.p.axes[1], self.height, self.height_q, self.th))
        result: Value | bool = True
        for axis, numbers, first, count in conditions:
            if not axis.bordered:
                continue
            low, high = numbers.first, k.add(numbers.first, k.mul(k.sub(numbers.taps, 1), axis.ostep))
            if axis.ostep < 0:
                low, high = high, low
            result = k.both(result, k.compare(">=", k.add(k.mul(first, axis.in_step), low), 0))
            last = k.add(k.mul(k.add(first, count - 1), axis.in_step), high)
            result = k.both(result, k.compare("<", last, axis.size))
        return result

    def _channels(self, phase: Phase, q: Index, tw: int, *, checked: bool) -> None:
        k, p = self.k, self.p
        ragged = p.channels % p.lanes
        masked = bool(ragged) and not (p.tail and p.readable)
        whole = p.vectors - 1 if masked else p.vectors
        begin: Index = 0
        end: Index = whole
        if p.tile.split > 1:
            begin = k.divmod(k.mul(self.part, p.vectors), p.tile.split)[0]
            end = k.divmod(k.mul(k.add(self.part, 1), p.vectors), p.tile.split)[0]
            last = end
            end = k.min(end, whole)
        if whole:
            with k.loop(end, start=begin) as v:
                self._tile(phase, q, tw, v, None, checked=checked)
        if masked:
            with k.when(True if p.tile.split == 1 else k.compare("==", last, p.vectors)):
                self._tile(phase, q, tw, p.vectors - 1, ragged, checked=checked)

    def _tile(self, phase: Phase, q: Index, tw: int, v: Index, tail: int | None, *, checked: bool) -> None:
        k, p = self.k, self.p
        bias = k.load(k.arg(B), k.mul(v, p.lanes))
        acc = [[k.variable(k.vector_type(), bias) for _ in range(tw)] for _ in range(self.th)]
        self.taps = p.axes[0].kernel * p.axes[1].kernel * p.axes[2].kernel
        self.weights = k.shift(k.arg(W), k.mul(v, self.taps * p.inputs * p.lanes))
        self.column = k.mul(v, p.span)
        self.count = None
        if not p.readable:
            left = p.groups * p.inputs - (p.vectors - 1) * p.span
            self.count = p.span if tail is None else min(left, p.lanes)
        depth, height = p.axes[0], p.axes[1]
        with k.loop(self.depth.taps) as td:
            iz = k.add(k.add(k.mul(self.depth_q, depth.in_step), self.depth.first), k.mul(td, depth.ostep))
            kz = k.add(self.depth.k0, k.mul(td, depth.kstep))
            with k.when(k.within(iz, depth.size) if depth.bordered else True):
                plane = k.shift(self.x, k.mul(iz, p.x_strides[1]))
                line = k.mul(kz, height.kernel)
                if p.tile.unrolled:
                    self._unrolled(plane, line, phase, q, acc, checked=checked)
                else:
                    self._looped(plane, line, phase, q, acc[0], checked=checked)
        for r in range(self.th):
            oh = k.add(self.oh, r)
            for t in range(tw):
                ow = k.add(phase.start, k.mul(k.add(q, t), p.axes[2].out_step))
                channel = k.mul(v, p.lanes)
                at = Position(self.n, self.od, oh, ow, channel)
                value = emit_epilogue(k, p.posts, k.get(acc[r][t]), at, tail)
                where = k.add(k.add(k.mul(oh, p.y_strides[2]), k.mul(ow, p.y_strides[3])), channel)
                k.store(value, self.y, where, count=None if p.tail else tail)

    def _inputs(self, pixel: Value) -> Iterator[tuple[int, Value]]:
        """The loaded vector, permuted for each input j of the groups."""
        k, p = self.k, self.p
        loaded = k.load(pixel, self.column, count=self.count)
        for j in range(p.inputs):
            yield j, k.permute(loaded, [lane // p.outputs * p.inputs + j for lane in range(p.lanes)])

    def _weight(self, tap: Index, j: int) -> Value:
        k, p = self.k, self.p
        return k.load(self.weights, k.mul(k.add(k.mul(tap, p.inputs), j), p.lanes))

    def _unrolled(
        self, plane: Value, line: Index, phase: Phase, q: Index, acc: list[list[Value]], *, checked: bool
    ) -> None:
        """Every input position of the tile once, used by every tap that needs it."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        tw = len(acc[0])
        values = [[k.get(slot) for slot in row] for row in acc]
        ys = sorted({r * height.in_step + i * height.ostep for r in range(self.th) for i in range(height.kernel)})
        xs = sorted({t * width.in_step + i * width.ostep for t in range(tw) for i in range(width.kernel)})
        iy0 = k.add(k.mul(self.height_q, height.in_step), self.height.first)
        ix0 = k.add(k.mul(q, width.in_step), phase.first)
        origin = k.shift(plane, k.add(k.mul(iy0, p.x_strides[2]), k.mul(ix0, p.x_strides[3])))
        for dy in ys:
            users = [
                (r, i) for r in range(self.th) for i in range(height.kernel)
                if r * height.in_step + i * height.ostep == dy
            ]  # fmt: skip
            weights = {
                (i, c, j): self._weight(k.add(k.mul(k.add(line, i), width.kernel), c), j)
                for i in sorted({i for _, i in users}) for c in range(width.kernel) for j in range(p.inputs)
            }  # fmt: skip
            for dx in xs:
                pixel = k.shift(origin, dy * p.x_strides[2] + dx * p.x_strides[3])
                if checked:
                    inside = k.both(
                        k.within(k.add(iy0, dy), height.size) if height.bordered else True,
                        k.within(k.add(ix0, dx), width.size) if width.bordered else True,
                    )
                    pixel = k.choose(inside, pixel, self.zero)
                taps = [
                    (t, c) for t in range(tw) for c in range(width.kernel)
                    if t * width.in_step + c * width.ostep == dx
                ]  # fmt: skip
                for j, value in self._inputs(pixel):
                    for t, c in taps:
                        for r, i in users:
                            values[r][t] = k.fma(value, weights[i, c, j], values[r][t])
        for row, slots in zip(values, acc, strict=True):
            for value, slot in zip(row, slots, strict=True):
                k.set(slot, value)

    def _looped(self, plane: Value, line: Index, phase: Phase, q: Index, acc: list[Value], *, checked: bool) -> None:
        """Loops over the taps, ``chunk`` of the width at a time."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        with k.loop(self.height.taps) as th:
            iy = k.add(k.add(k.mul(self.height_q, height.in_step), self.height.first), k.mul(th, height.ostep))
            with k.when(k.within(iy, height.size) if height.bordered else True):
                row = k.shift(plane, k.mul(iy, p.x_strides[2]))
                ky = k.add(self.height.k0, k.mul(th, height.kstep))
                start = k.mul(k.add(line, ky), width.kernel)
                chunk = min(p.tile.chunk, width.kernel) if width.static else 1
                rounds, rest = divmod(width.kernel, chunk)
                if width.static:
                    if rounds:
                        with k.loop(rounds * chunk, step=chunk) as tw:
                            self._chunk(row, start, phase, q, tw, chunk, acc, checked=checked)
                    if rest:
                        self._chunk(row, start, phase, q, rounds * chunk, rest, acc, checked=checked)
                else:
                    with k.loop(phase.taps) as tw:
                        self._chunk(row, start, phase, q, tw, 1, acc, checked=checked)

    def _chunk(
        self, row: Value, start: Index, phase: Phase, q: Index, tw: Index, chunk: int, acc: list[Value],
        *, checked: bool,
    ) -> None:  # fmt: skip
        k, p = self.k, self.p
        width = p.axes[2]
        ix = k.add(k.add(k.mul(q, width.in_step), phase.first), k.mul(tw, width.ostep))
        kx = k.add(phase.k0, k.mul(tw, width.kstep))
        weights = {(c, j): self._weight(k.add(k.add(start, kx), c), j) for c in range(chunk) for j in range(p.inputs)}
        base = k.shift(row, k.mul(ix, p.x_strides[3]))
        values = [k.get(slot) for slot in acc]
        for dx in sorted({t * width.in_step + c * width.ostep for t in range(len(acc)) for c in range(chunk)}):
            pixel = k.shift(base, dx * p.x_strides[3])
            if checked and width.bordered:
                pixel = k.choose(k.within(k.add(ix, dx), width.size), pixel, self.zero)
            for j, value in self._inputs(pixel):
                for t in range(len(acc)):
                    for c in range(chunk):
                        if t * width.in_step + c * width.ostep == dx:
                            values[t] = k.fma(value, weights[c, j], values[t])
        for value, slot in zip(values, acc, strict=True):
            k.set(slot, value)
