r"""The lane kernel: each SIMD lane is one output channel, whose inputs lie in the same vector.

.. math:: y_{q, l} = b_l + \sum_t \sum_{j < C_{in}/g} x_{q + \delta_t,\; \lfloor l g / C_{out} \rfloor C_{in}/g + j} \;
w_{t, j, l}

It serves depthwise layers (j = 0 and the lanes of x are the lanes of y), channel multipliers and groups of a few
channels: input j of every group reaches its lanes by a constant permutation of the loaded vector, or by broadcasts
(:mod:`omniconv.compiler.kernels.lane.grouping`).

Taps are looped over, so that neither code nor compile time grows with the kernel or with the phases of a transposed
layer. Short kernels have a faster form, :mod:`omniconv.compiler.kernels.lane.stencil`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Self

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue, open_posts
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Slot, Value
from omniconv.compiler.emit.phases import PhaseTables, PhaseValues
from omniconv.compiler.emit.vectors import emit_share
from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.kernels.lane.tiles import LaneTile
from omniconv.compiler.problem.open_images import open_images
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, is_open, may_exceed
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.target.model import Target

X, W, B, Y, ZERO = range(5)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 5

UNROLLED: Final = 8
"""Taps of the width, at most, that are unrolled all."""
MOST_UNROLLED: Final = 40
"""These taps times the inputs of a group, at most."""
MOST_ROWS: Final = 1024
"""Rows that are put into another order, at most: the order is a table in the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The recipe of one lane kernel: everything its code depends on.

    Attributes:
        batch: images.
        axes: walks along depth, height, width.
        groups: groups; a vector holds as many whole ones as fit.
        inputs, outputs: channels of one group, inputs <= outputs.
        x_strides, y_strides: N, D, H, W strides [elements]; channels are neighbours.
        readable: whether whole vectors of x may be read.
        tail: whether lanes after the last output channel may be written.
        posts: the epilogue.
        halved: whether permutations had better stay inside the halves of a vector.
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
    halved: bool

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.groups * self.outputs

    @property
    def grouping(self) -> Grouping:
        """How groups sit in a vector."""
        return Grouping(self.lanes, self.inputs, self.outputs, self.halved)

    @property
    def vectors(self) -> int:
        """Vectors of output channels."""
        return ceil_div(self.groups, self.grouping.groups)

    @property
    def unrolled(self) -> bool:
        """Whether all taps of the width are unrolled; longer kernels loop over chunks of them."""
        width = self.axes[2]
        return width.static and width.kernel <= UNROLLED and width.kernel * self.inputs <= MOST_UNROLLED

    @property
    def spare(self) -> bool:
        """Whether whole vectors may be read and written at the last channel, of x, y and the operands."""
        return self.readable and self.tail and all(post.readable for post in self.posts)

    @property
    def overlapping(self) -> bool:
        """Whether the last vector is moved back to end with the last channel, and does again what the one before it
        did, because it may not read or write past the end.
        """
        whole = self.grouping.groups
        return self.groups % whole > 0 and self.groups > whole and not self.spare

    @property
    def firsts(self) -> list[int]:
        """The first group of each vector."""
        starts = list(range(0, self.groups, self.grouping.groups))
        if self.overlapping:
            starts[-1] = self.groups - self.grouping.groups
        return starts

    @property
    def blocks(self) -> int:
        """Blocks of tiles along the width."""
        tiles = ceil_div(max(self.axes[2].counts), min(self.tile.columns, *self.axes[2].counts))
        return ceil_div(tiles, self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: images, times parts of the channels, times output rows, times blocks."""
        return self.tile.split * self.batch * self.axes[0].output * self.axes[1].output * self.blocks

    @property
    def order(self) -> list[int]:
        """The output rows in the order in which they are computed, where that is not their own: those of a dilated
        layer that share input rows follow one another.
        """
        axis = self.axes[1]
        if is_open(axis.output):
            return []
        step = axis.ostep if axis.static and axis.in_step == 1 and axis.output <= MOST_ROWS else 1
        return [row for first in range(step) for row in range(first, axis.output, step)] if step > 1 else []

    def opened(self, opener: Opener) -> Self:
        """The same kernel for images of any size."""
        return open_images(
            self,
            opener,
            posts=open_posts(self.posts, opener),
            tile=replace(self.tile, block=opener.any(self.tile.block), split=opener.any(self.tile.split)),
        )

    def shared(self, opener: Opener) -> Self:
        """The same kernel for bands of the layer, wherever they lie. Strides and channels stay in the code: there are
        no registers left for them in loops over vectors of channels.
        """
        depth, height, width = self.axes
        return replace(self, axes=(depth, height.placed(opener), width))

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        tables = (PhaseTables(k, self.axes[0]), PhaseTables(k, self.axes[1]), PhaseTables(k, self.axes[2]))
        with k.loop(k.end, start=k.begin) as unit:
            # Depth runs inside height: neighbouring planes then find each other's rows in the cache.
            # Parts of the channels come one after the other at each image, which they then find in the cache.
            n, part, line, od, block = k.split(
                unit, self.batch, self.tile.split, self.axes[1].output, self.axes[0].output, self.blocks
            )
            Row(self, k, tables, part, n, od, self.row(k, line), block).emit()
        return k.finish()

    def row(self, k: Kernel, line: Index) -> Index:
        """The output row that is computed at a place of the order."""
        order = self.order
        return k.lookup(k.table(order), line) if order else line

    def image(self, k: Kernel, _part: Index, n: Index) -> Pointer:
        """Where an image starts."""
        return k.shift(k.arg(X), k.mul(n, self.x_strides[0]))

    @property
    def packing(self) -> Hashable:
        """All of the recipe that packed weights and biases depend on."""
        taps = tuple(axis.kernel for axis in self.axes)
        return "lane", self.groups, self.inputs, self.outputs, self.lanes, self.halved, self.overlapping, taps

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
        packed = np.zeros((self.vectors, flat.shape[0], self.inputs, self.lanes), w.dtype)
        for vector, part in zip(packed, self._parts(flat), strict=True):
            vector[:, :, list(self.grouping.slots[: part.shape[-1]])] = part
        return packed.reshape(-1)

    def pack_bias(self, b: Array | None) -> Array:
        """Bias of each vector, spare lanes included."""
        packed = np.zeros((self.vectors, self.lanes), np.float32 if b is None else b.dtype)
        if b is not None:
            for vector, part in zip(packed, self._parts(b), strict=True):
                vector[list(self.grouping.slots[: part.size])] = part
        return packed.reshape(-1)

    def _parts(self, values: Array) -> Iterator[Array]:
        """What belongs to each vector of something with the output channels last."""
        for first in self.firsts:
            start = first * self.outputs
            yield values[..., start : start + self.grouping.width]


class ChannelLoop:
    """What tiles of the lane family share: addresses, the loop over channels, inputs, weights and the epilogue."""

    def __init__(self, recipe: Lane, k: Kernel, depth: PhaseTables, part: Index, n: Index, od: Index) -> None:
        self.p, self.k, self.part, self.n, self.od = recipe, k, part, n, od
        self.depth, self.depth_q = depth.at(od)
        self.x = recipe.image(k, part, n)
        self.y = k.shift(k.arg(Y), k.add(k.mul(n, recipe.y_strides[0]), k.mul(od, recipe.y_strides[1])))
        self.zero = k.arg(ZERO)

    def channels(self, tile: Callable[[Index, int | None], None]) -> None:
        """Run ``tile(vector, tail)`` for every vector of this part's channels; the last may hold ``tail`` channels."""
        k, p = self.k, self.p
        ragged = p.channels % p.grouping.width
        masked = bool(ragged) and not p.overlapping and not (p.spare and p.grouping.width == p.lanes)

        def body(v: Index, last: bool) -> None:
            self._vector(tile, v, ragged if last else None)

        emit_share(k, p.vectors, body, ragged=masked, part=self.part, parts=p.tile.split)

    def _vector(self, tile: Callable[[Index, int | None], None], v: Index, tail: int | None) -> None:
        k, p = self.k, self.p
        self.v = v
        taps = p.axes[0].kernel * p.axes[1].kernel * p.axes[2].kernel
        self.weights = k.anchor(k.shift(k.arg(W), k.mul(v, taps * p.inputs * p.lanes)))
        group = k.min(k.mul(v, p.grouping.groups), p.firsts[-1]) if p.overlapping else k.mul(v, p.grouping.groups)
        self.column, self.channel = k.mul(group, p.inputs), k.mul(group, p.outputs)
        self.count = None
        if not p.readable:
            self.count = p.grouping.span if tail is None else (p.groups - p.firsts[-1]) * p.inputs
        tile(v, tail)

    @contextmanager
    def planes(self) -> Iterator[tuple[Pointer, Index]]:
        """Loop over the taps of the depth: the plane of x and the first row of the kernel."""
        k, axis = self.k, self.p.axes[0]
        with k.loop(self.depth.taps) as tap:
            iz = k.add(k.add(k.mul(self.depth_q, axis.in_step), self.depth.first), k.mul(tap, axis.ostep))
            kz = k.add(self.depth.k0, k.mul(tap, axis.kstep))
            with k.when(k.within(iz, axis.size) if axis.bordered else True):
                yield k.shift(self.x, k.mul(iz, self.p.x_strides[1])), k.mul(kz, self.p.axes[1].kernel)

    def bias(self) -> Value:
        """The bias of the current vector."""
        return self.k.load(self.k.arg(B), self.k.mul(self.v, self.p.lanes))

    def inputs(self, pixel: Pointer, inputs: Iterable[int]) -> Iterator[tuple[int, Value]]:
        """Inputs of the groups at a pixel, each in the lanes of its group's outputs."""
        return self.p.grouping.emit_inputs(self.k, pixel, 0, self.count, inputs)

    def weight(self, tap: Index, j: int) -> Value:
        """The weights of one tap and input."""
        k, p = self.k, self.p
        return k.load(self.weights, k.mul(k.add(k.mul(tap, p.inputs), j), p.lanes))

    def target(self, oh: Index, ow: Index) -> Pointer:
        """Where the first result of a tile belongs, for this vector of channels."""
        k, p = self.k, self.p
        where = k.add(k.add(k.mul(oh, p.y_strides[2]), k.mul(ow, p.y_strides[3])), self.channel)
        return k.anchor(k.shift(self.y, where))

    def finish(self, value: Value, oh: Index, ow: Index, tail: int | None, target: Pointer, offset: Index) -> None:
        """Epilogue of one result, and its store so far behind the first of its tile."""
        k, p = self.k, self.p
        slots = p.grouping.slots
        value = k.permute(value, [*slots, *[0] * (p.lanes - len(slots))])
        count = tail or len(slots)
        result = emit_epilogue(k, p.posts, value, Position(self.n, self.od, oh, ow, self.channel), count)
        k.store(result, target, offset, count=None if p.tail and len(slots) == p.lanes else count)


class Row(ChannelLoop):
    """Emission of one unit: tiles of an output row, over a part of the channels."""

    def __init__(
        self,
        recipe: Lane,
        k: Kernel,
        tables: tuple[PhaseTables, PhaseTables, PhaseTables],
        part: Index,
        n: Index,
        od: Index,
        oh: Index,
        block: Index,
    ) -> None:
        super().__init__(recipe, k, tables[0], part, n, od)
        self.oh, self.block, self.width_tables = oh, block, tables[2]
        self.height, self.height_q = tables[1].at(oh)

    def emit(self) -> None:
        """All tiles of the unit."""
        k, axis = self.k, self.p.axes[2]
        tw = min(self.p.tile.columns, *axis.counts)
        with k.loop(axis.phases) as index:
            phase = self.width_tables.phase(index)
            tiles = k.divmod(k.add(phase.count, tw - 1), tw)[0]
            begin = k.mul(self.block, self.p.tile.block)
            end = k.min(tiles, k.add(begin, self.p.tile.block)) if may_exceed(self.p.blocks, 1) else tiles
            if isinstance(tiles, int) and self._edges_known(tw):
                self._known(phase, tw, begin, end, tiles)
            else:
                self._unknown(phase, tw, begin, end)

    def _edges_known(self, tw: int) -> bool:
        """Whether only the first and the last tile of a row touch the border, with all of their taps unrolled: which of
        these land inside is then known while generating, and the others are left out.
        """
        axis = self.p.axes[2]
        if not (axis.bordered and self.p.unrolled):
            return False
        low, high = sorted((axis.first[0], axis.first[0] + (axis.kernel - 1) * axis.ostep))
        before = (axis.output - 1) // tw * tw - tw  # first output of the last tile but one
        return tw * axis.in_step + low >= 0 and (before + tw - 1) * axis.in_step + high < axis.size

    def _known(self, phase: PhaseValues, tw: int, begin: Index, end: Index, tiles: int) -> None:
        """The first tile, those between, and the last, each with code of its own."""
        k = self.k
        with k.when(k.compare("==", begin, 0)):
            self._tile(phase, 0, tw, checked=True)
        if tiles > 2:
            with k.loop(k.min(end, tiles - 1), start=k.max(begin, 1)) as tile:
                self._tile(phase, k.mul(tile, tw), tw, checked=False)
        if tiles > 1:
            with k.when(k.compare("==", end, tiles)):
                self._tile(phase, k.sub(phase.count, tw), tw, checked=True)

    def _unknown(self, phase: PhaseValues, tw: int, begin: Index, end: Index) -> None:
        """Tiles that look on the machine whether they are at the border."""
        k = self.k
        with k.loop(end, start=begin) as tile:
            # The last tile overlaps the one before it instead of being cut.
            q = k.min(k.mul(tile, tw), k.sub(phase.count, tw))
            k.both_ways(self._inside(phase, q, tw), lambda inside: self._tile(phase, q, tw, checked=not inside))

    def _inside(self, phase: PhaseValues, q: Index, tw: int) -> Condition:
        """Whether no tap of the tile leaves the input along the width."""
        k, axis = self.k, self.p.axes[2]
        if not axis.bordered:
            return True
        low, high = phase.first, k.add(phase.first, k.mul(k.sub(phase.taps, 1), axis.ostep))
        if axis.ostep < 0:
            low, high = high, low
        last = k.add(k.mul(k.add(q, tw - 1), axis.in_step), high)
        return k.both(k.compare(">=", k.add(k.mul(q, axis.in_step), low), 0), k.compare("<", last, axis.size))

    def _tile(self, phase: PhaseValues, q: Index, tw: int, *, checked: bool) -> None:
        k, p = self.k, self.p

        def tile(_: Index, tail: int | None) -> None:
            bias = self.bias()
            acc = [k.variable(k.vector_type(), bias) for _ in range(tw)]
            with self.planes() as (plane, line):
                self._taps(plane, line, phase, q, acc, checked=checked)
            step = p.axes[2].out_step
            first = k.add(phase.start, k.mul(q, step))
            target = self.target(self.oh, first)
            for t in range(tw):
                ow = k.add(first, t * step)
                self.finish(k.get(acc[t]), self.oh, ow, tail, target, t * step * p.y_strides[3])

        self.channels(tile)

    def _taps(
        self, plane: Pointer, line: Index, phase: PhaseValues, q: Index, acc: list[Slot], *, checked: bool
    ) -> None:
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
                if p.unrolled:
                    for tap in range(0, width.kernel, chunk):
                        some = min(chunk, width.kernel - tap)
                        if tap:  # else pixels that both chunks meet may stay in registers, and sums move to the stack
                            k.fence()
                        self._chunk(row, start, phase, q, tap, some, acc, checked=checked)
                elif width.static:
                    rounds, rest = divmod(width.kernel, chunk)
                    with k.loop(rounds * chunk, step=chunk) as tw:
                        self._chunk(row, start, phase, q, tw, chunk, acc, checked=checked)
                    if rest:
                        self._chunk(row, start, phase, q, rounds * chunk, rest, acc, checked=checked)
                else:
                    with k.loop(phase.taps) as tw:
                        self._chunk(row, start, phase, q, tw, 1, acc, checked=checked)

    def _chunk(
        self,
        row: Pointer,
        start: Index,
        phase: PhaseValues,
        q: Index,
        tw: Index,
        chunk: int,
        acc: list[Slot],
        *,
        checked: bool,
    ) -> None:
        k, p = self.k, self.p
        width = p.axes[2]
        ix = k.add(k.add(k.mul(q, width.in_step), phase.first), k.mul(tw, width.ostep))
        kx = k.add(phase.k0, k.mul(tw, width.kstep))
        base = k.anchor(k.shift(row, k.add(k.mul(ix, p.x_strides[3]), self.column)))
        values = [k.get(slot) for slot in acc]
        for inputs in self._passes():
            weights = {(c, j): self.weight(k.add(k.add(start, kx), c), j) for c in range(chunk) for j in inputs}
            for dx in sorted({t * width.in_step + c * width.ostep for t in range(len(acc)) for c in range(chunk)}):
                pixel = k.shift(base, dx * p.x_strides[3])
                if checked and width.bordered:
                    inside = k.within(k.add(ix, dx), width.size)
                    if inside is False:
                        continue
                    pixel = k.choose(inside, pixel, self.zero)
                for j, value in self.inputs(pixel, inputs):
                    for t in range(len(acc)):
                        for c in range(chunk):
                            if t * width.in_step + c * width.ostep == dx:
                                values[t] = k.fma(value, weights[c, j], values[t])
        for value, slot in zip(values, acc, strict=True):
            k.set(slot, value)

    def _passes(self) -> Iterator[Iterable[int]]:
        """The inputs of a group that one pass over the pixels serves: all where registers are plenty, else one."""
        k, p = self.k, self.p
        if p.inputs == 1 or k.target.traits.keeps_weights:
            yield range(p.inputs)
            return
        for j in range(p.inputs):
            k.fence()
            yield (j,)
