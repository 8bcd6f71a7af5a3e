r"""Minimal filtering: fewer multiplications, paid for with additions.

.. math:: Y = A^T \Big[ \sum_c (G\, g_c\, G^T) \odot (B^T d_c\, B) \Big] A

for two axes, each with matrices of its own; along one axis there is one pass of each transform. An m x m block of
outputs of a kernel of r x r taps takes :math:`(m + r - 1)^2` products a channel pair instead of :math:`r^2 m^2`: a
quarter for m = 4, r = 3. The products of all blocks are as many dense layers, which the panel kernel computes as its
groups; here are the two transforms around it. Dilation d is a stride-1 layer on every d-th position, so only the
positions of a block change. A kernel of several parts (:mod:`omniconv.compiler.kernels.winograd.blocks`) is one with as
many times the input channels. Along a depth that is summed directly the products have a kernel of their own.

Blocks are worked off in slabs that stay in the cache. Rounding: the transforms multiply by up to 16 and divide by up to
24 (docs/guide/numerics.md).

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import reduce
from itertools import product

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue, open_posts
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid
from omniconv.compiler.kernels.winograd.computed import DirectSums
from omniconv.compiler.kernels.winograd.matrices import emit_result
from omniconv.compiler.kernels.winograd.spread import BlockReach, BlockSpread
from omniconv.compiler.kernels.winograd.walk import BlockWalk
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradInput:
    """The recipe of B^T d B for a slab of blocks: x to ``[group][point][plane][block][part][channel of the group]``.

    Args of the kernel: x, the transformed slab, zeros, and a table with the first block and the first channel of the
    slab.

    Attributes:
        x_strides: N, D, H, W strides [elements].
    """

    blocks: BlockGrid
    channels: int
    x_strides: tuple[int, int, int, int]
    readable: bool
    pitch: int
    lanes: int

    def opened(self, opener: Opener) -> WinogradInput:
        """The same kernel for images of any size."""
        n, d, h, w = self.x_strides
        return replace(self, blocks=self.blocks.opened(opener), x_strides=(opener(n), opener(d), opener(h), w))

    @property
    def units(self) -> int:
        """Blocks in a slab, one for each plane."""
        return self.blocks.slab * self.blocks.planes[0]

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        blocks, (sn, *strides) = self.blocks, self.x_strides
        depth, height, width = map(BlockReach.of_input, blocks.axes)
        # Lanes behind the last channel of a group may hold anything: the products do not read them. Behind a part there
        # is the next one.
        several = blocks.parts > 1
        spread = BlockSpread(
            blocks=blocks,
            reaches=(depth, height, width),
            channels=self.channels,
            strides=strides,
            stride=blocks.stride(self.pitch, blocks.planes[0]),
            masked=not self.readable or several,
            alone=several,
        )
        first, channel = k.lookup(k.arg(3), 0), k.lookup(k.arg(3), 1)
        with k.loop(k.end, start=k.begin) as unit:
            plane, index = k.divmod(unit, blocks.slab) if blocks.planes[0] > 1 else (0, unit)
            # Past the last block of the layer, the last one is transformed again.
            at = BlockWalk.to(k, blocks, k.min(k.add(first, index), blocks.count - 1))
            image = k.shift(k.arg(0), k.add(k.mul(at.n, sn), channel))
            target_row = k.shift(k.arg(1), k.mul(unit, self.pitch))
            origins = [
                k.sub(k.mul(start, axis.stride), axis.before)
                for axis, start in zip(blocks.axes, at.starts, strict=True)
            ]
            if blocks.axes[0].direct:
                origins[0] = k.add(origins[0], k.mul(plane, blocks.axes[0].spacing))
            with ExitStack() as loops:
                part: Index = 0
                for number, axis in enumerate(blocks.axes):
                    if axis.parts > 1:
                        index = loops.enter_context(k.loop(axis.parts))
                        part = k.add(k.mul(part, axis.parts), index)
                        origins[number] = k.add(origins[number], k.mul(index, axis.between))
                if blocks.slots != tuple(range(blocks.parts)):
                    part = k.lookup(k.table(blocks.slots), part)
                spread.emit(k, image, k.arg(2), origins, k.shift(target_row, k.mul(part, self.channels)))
        return k.finish()


def _exists(k: Kernel, axis: BlockAxis, position: Index) -> Condition:
    """Whether there is an output at a position that a block gets to."""
    if not axis.filtered:
        return True
    return k.within(position, axis.output) if axis.phases > 1 else k.compare("<", position, axis.output)


def _gather(k: Kernel, axis: BlockAxis, points: range, values: Sequence[Value]) -> Sequence[Value]:
    """``A^T @ values``, where there are products at some points only."""
    if not axis.filtered:
        return values
    return emit_result(k, [row[points.start : points.stop] for row in axis.filtering.result], values)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradOutput:
    """The recipe of A^T m A, bias and epilogue for a slab of blocks: ``[group][point][plane][block][channel]``
    to y.

    Args of the kernel: the products, bias, y, and a table with the first block and the first channel of the slab; then
    what direct sums read, and the epilogue's operands.

    Attributes:
        y_strides: N, D, H, W strides [elements].
        direct: how outputs are computed that do not come out finite; ``None`` where they stay as they are.
    """

    blocks: BlockGrid
    channels: int
    pitch: int
    y_strides: tuple[int, int, int, int]
    tail: bool
    posts: tuple[Post, ...]
    lanes: int
    direct: DirectSums | None = None

    def opened(self, opener: Opener) -> WinogradOutput:
        """The same kernel for images of any size."""
        n, d, h, w = self.y_strides
        return replace(
            self,
            blocks=self.blocks.opened(opener),
            y_strides=(opener(n), opener(d), opener(h), w),
            posts=open_posts(self.posts, opener),
            direct=self.direct and self.direct.opened(opener),
        )

    @property
    def _stride(self) -> int:
        """Distance between the points of a group [elements]."""
        return self.blocks.stride(self.pitch, self.blocks.planes[1])

    @property
    def units(self) -> int:
        """Blocks in a slab, one for each plane of products."""
        return self.blocks.slab * self.blocks.planes[1]

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        blocks = self.blocks
        first, channel = k.lookup(k.arg(3), 0), k.lookup(k.arg(3), 1)
        if blocks.planes[1] == 1:
            with k.loop(k.min(k.end, k.sub(blocks.count, first)), start=k.begin) as unit:
                self._block(k, BlockWalk.to(k, blocks, k.add(first, unit)), unit, channel)
            return k.finish()
        depth = blocks.axes[0]
        with k.loop(k.end, start=k.begin) as unit:
            plane, index = k.divmod(unit, blocks.slab)
            block = k.add(first, index)
            with k.when(k.compare("<", block, blocks.count)):
                at = BlockWalk.to(k, blocks, block)
                at = replace(at, starts=(k.add(at.starts[0], k.mul(plane, depth.dilation)), *at.starts[1:]))
                with k.when(k.compare("<", at.starts[0], depth.output)):
                    self._block(k, at, unit, channel)
        return k.finish()

    def _block(self, k: Kernel, at: BlockWalk, unit: Index, channel: Index) -> None:
        """All phases of the outputs of a block."""
        axes = self.blocks.axes
        source = k.shift(k.arg(0), k.mul(unit, self.pitch))
        if self.blocks.uneven:
            for phases in product(*(range(axis.phases) for axis in axes)):
                points = [axis.find_points(phase) for axis, phase in zip(axes, phases, strict=True)]
                self._phase(k, at, source, channel, phases, points)
            return
        with ExitStack() as loops:
            each = [loops.enter_context(k.loop(axis.phases)) if axis.phases > 1 else 0 for axis in axes]
            self._phase(k, at, source, channel, each, [range(axis.points) for axis in axes])

    def _phase(
        self,
        k: Kernel,
        at: BlockWalk,
        source: Pointer,
        channel: Index,
        phases: Sequence[Index],
        points: Sequence[range],
    ) -> None:
        """The outputs of one phase, which has products at some points along each axis."""
        number: Index = 0
        for axis, phase in zip(self.blocks.axes, phases, strict=True):
            number = k.add(k.mul(number, axis.phases), phase)
        source, at = k.shift(source, k.mul(number, self.channels)), at.move(k, self.blocks, phases)
        k.both_ways(
            at.fits(k, self.blocks), lambda inside: self._channels(k, at, source, channel, points, inside=inside)
        )

    def _channels(
        self, k: Kernel, at: BlockWalk, source: Pointer, first: Index, points: Sequence[range], *, inside: bool
    ) -> None:
        with k.loop(self.blocks.groups) as group:
            channel = k.add(first, k.mul(group, self.channels))
            products = k.shift(source, k.mul(group, self.blocks.points * self._stride))

            def body(within: Index, _vectors: int, count: int | None) -> None:
                self._vector(k, at, k.shift(products, within), k.add(channel, within), points, count, inside=inside)

            emit_vectors(k, self.channels, body)

    def _vector(
        self,
        k: Kernel,
        at: BlockWalk,
        source: Pointer,
        channel: Index,
        points: Sequence[range],
        count: int | None,
        *,
        inside: bool,
    ) -> None:
        blocks, (sn, *strides) = self.blocks, self.y_strides
        order = blocks.order
        down = blocks.axes.index(blocks.down)
        source = k.anchor(source)
        columns = [
            _gather(
                k,
                blocks.down,
                points[down],
                [k.load(source, order[i * blocks.across.points + j] * self._stride) for i in points[down]],
            )
            for j in points[2]
        ]
        bias = k.load(k.arg(1), channel)
        image = k.shift(k.arg(2), k.mul(at.n, sn))

        def find(place: Sequence[Index]) -> Index:
            where: Index = channel
            for position, stride in zip(place, strides, strict=True):
                where = k.add(where, k.mul(position, stride))
            return where

        def finish(value: Value, place: Sequence[Index], target: Pointer, offset: Index) -> None:
            od, oh, ow = place
            result = emit_epilogue(k, self.posts, value, Position(at.n, od, oh, ow, channel), count)
            k.store(result, target, offset, count=None if self.tail else count)

        zero = k.splat(0.0)
        sums = [zero] * blocks.across.m
        target = k.anchor(k.shift(image, find(at.starts)))
        steps = blocks.down.apart * strides[down], blocks.across.apart * strides[2]
        for i, line in enumerate(zip(*columns, strict=True)):
            place = list(at.starts)
            place[down] = k.add(place[down], i * blocks.down.apart)
            values = _gather(k, blocks.across, points[2], line)
            if self.direct is not None:  # 0 times all of them adds up to 0 where all are finite
                sums = [k.fma(value, zero, total) for value, total in zip(values, sums, strict=True)]
            with k.when(inside or _exists(k, blocks.down, place[down])):
                for j, value in enumerate(values):
                    ow = k.add(at.starts[2], j * blocks.across.apart)
                    with k.when(inside or _exists(k, blocks.across, ow)):
                        finish(k.b.fadd(value, bias), (*place[:2], ow), target, i * steps[0] + j * steps[1])
        if self.direct is None:
            return
        odd = k.b.fcmp_unordered("!=", reduce(k.b.fadd, sums), zero)
        if count is not None:
            odd = k.b.and_(odd, k.first_lanes(count, k.lanes))
        with k.when(k.any(odd)), k.loop(blocks.down.m) as row, k.loop(blocks.across.m) as column:
            place = list(at.starts)
            for axis, index in ((down, row), (2, column)):
                place[axis] = k.add(place[axis], k.mul(index, blocks.axes[axis].dilation))
            here = k.compare("<", place[down], blocks.down.output)
            with k.when(k.both(here, k.compare("<", place[2], blocks.across.output))):
                od, oh, ow = place
                position = Position(at.n, od, oh, ow, channel)
                finish(self.direct.emit_vector(k, blocks, position, bias, count), place, image, find(place))
