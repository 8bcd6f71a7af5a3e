r"""Winograd's minimal filtering for 3x3 kernels of stride 1: fewer multiplications, paid for with additions.

.. math:: Y = A^T \Big[ \sum_c (G\, g_c\, G^T) \odot (B^T d_c\, B) \Big] A

An m x m block of outputs takes :math:`(m + 2)^2` products a channel pair instead of :math:`9 m^2`: a quarter for m = 4.
The products of all blocks are :math:`(m + 2)^2` dense layers, which the panel kernel computes as its groups; here are
the two transforms around it. Dilation d is a stride-1 layer on every d-th position, so only the positions of a block
change.

Blocks are worked off in slabs that stay in the cache. Rounding: the transforms multiply by up to 8 and divide by up to
24; the relative error against the direct sum grows by about 3 for m = 4 (docs/guide/numerics.md).

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue, open_posts
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.winograd.computed import DirectSums
from omniconv.compiler.kernels.winograd.matrices import FILTERINGS, emit_data, emit_result
from omniconv.compiler.kernels.winograd.slabs import BlockAxis, BlockGrid
from omniconv.open_size import Opener, is_open
from omniconv.target.model import Target


class _Walk:
    """The position of one block on the machine."""

    def __init__(self, k: Kernel, blocks: BlockGrid, block: Index) -> None:
        n, y, x = k.split(block, blocks.batch, blocks.height.count, blocks.width.count)
        self.n = n
        self.y = self._start(k, blocks.height, y)
        self.x = self._start(k, blocks.width, x)

    def fits(self, k: Kernel, blocks: BlockGrid) -> Condition:
        """Whether all outputs of the block exist; a Python bool where that is known."""
        found: Condition = True
        for axis, start in ((blocks.height, self.y), (blocks.width, self.x)):
            if is_open(axis.output) or max(axis.starts) + axis.reach >= axis.output:
                found = k.both(found, k.compare("<", k.add(start, axis.reach), axis.output))
        return found

    def _start(self, k: Kernel, axis: BlockAxis, index: Index) -> Index:
        if axis.dilation == 1:
            return k.mul(index, axis.m)
        steps = {b - a for a, b in zip(axis.starts, axis.starts[1:], strict=False)}
        if len(steps) <= 1:
            return k.mul(index, steps.pop()) if steps else axis.starts[0]
        return k.lookup(k.table(list(axis.starts)), index)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradInput:
    """The recipe of B^T d B for a slab of blocks: x to ``[group][point][block][channel of the group]``.

    Args of the kernel: x, the transformed slab, zeros, and a table with the first block and the first channel of the
    slab.
    """

    blocks: BlockGrid
    channels: int
    x_strides: tuple[int, int, int]
    readable: bool
    pitch: int
    lanes: int

    def opened(self, opener: Opener) -> WinogradInput:
        """The same kernel for images of any size."""
        n, h, w = self.x_strides
        return replace(self, blocks=self.blocks.opened(opener), x_strides=(opener(n), opener(h), w))

    @property
    def units(self) -> int:
        """Blocks in a slab."""
        return self.blocks.slab

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        blocks, (sn, sh, sw) = self.blocks, self.x_strides
        first, channel = k.lookup(k.arg(3), 0), k.lookup(k.arg(3), 1)
        size, step = blocks.m + 2, blocks.width.dilation
        with k.loop(k.end, start=k.begin) as unit:
            # Past the last block of the layer, the last one is transformed again.
            at = _Walk(k, blocks, k.min(k.add(first, unit), blocks.count - 1))
            iy, ix = k.sub(at.y, blocks.height.before), k.sub(at.x, blocks.width.before)
            image = k.shift(k.arg(0), k.add(k.mul(at.n, sn), channel))
            origin = k.shift(image, k.add(k.mul(iy, sh), k.mul(ix, sw)))
            target_row = k.shift(k.arg(1), k.mul(unit, self.pitch))
            rows = [k.within(k.add(iy, i * blocks.height.dilation), blocks.height.size) for i in range(size)]
            columns = [k.within(k.add(ix, j * step), blocks.width.size) for j in range(size)]
            inside = rows[0]
            for condition in (rows[-1], columns[0], columns[-1]):
                inside = k.both(inside, condition)

            def emit(*, checked: bool) -> None:
                pixels = [
                    [
                        k.choose(k.both(rows[i], columns[j]), pixel, k.arg(2)) if checked else pixel
                        for j in range(size)
                        for pixel in [k.shift(origin, i * blocks.height.dilation * sh + j * step * sw)]
                    ]
                    for i in range(size)
                ]
                self._channels(k, pixels, target_row)

            if isinstance(inside, bool):
                emit(checked=not inside)
            else:
                with k.branches(inside) as (fast, slow):
                    with fast:
                        emit(checked=False)
                    with slow:
                        emit(checked=True)
        return k.finish()

    def _channels(self, k: Kernel, pixels: list[list[Pointer]], row: Pointer) -> None:
        data, stride = FILTERINGS[self.blocks.m].data, self.blocks.stride(self.pitch)
        with k.loop(self.blocks.groups) as group:

            def body(within: Index, _vectors: int, count: int | None) -> None:
                channel = k.add(k.mul(group, self.channels), within)
                columns = [
                    emit_data(k, data, [k.load(pixel, channel, count=count) for pixel in column])
                    for column in zip(*pixels, strict=True)
                ]
                target = k.shift(row, k.add(k.mul(group, self.blocks.points * stride), within))
                for i, line in enumerate(zip(*columns, strict=True)):
                    for j, value in enumerate(emit_data(k, data, line)):
                        k.store(value, target, (i * len(line) + j) * stride)

            # Lanes behind the last channel of a group may hold anything: the products do not read them.
            emit_vectors(k, self.channels, body, masked=not self.readable)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradOutput:
    """The recipe of A^T m A, bias and epilogue for a slab of blocks: ``[group][point][block][channel]`` to y.

    Args of the kernel: the products, bias, y, and a table with the first block and the first channel of the slab; then
    what direct sums read, and the epilogue's operands.

    Attributes:
        direct: how outputs are computed that do not come out finite; ``None`` where they stay as they are.
    """

    blocks: BlockGrid
    channels: int
    pitch: int
    y_strides: tuple[int, int, int]
    tail: bool
    posts: tuple[Post, ...]
    lanes: int
    direct: DirectSums | None = None

    def opened(self, opener: Opener) -> WinogradOutput:
        """The same kernel for images of any size."""
        n, h, w = self.y_strides
        return replace(
            self,
            blocks=self.blocks.opened(opener),
            y_strides=(opener(n), opener(h), w),
            posts=open_posts(self.posts, opener),
            direct=self.direct and self.direct.opened(opener),
        )

    @property
    def units(self) -> int:
        """Blocks in a slab."""
        return self.blocks.slab

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        blocks = self.blocks
        first, channel = k.lookup(k.arg(3), 0), k.lookup(k.arg(3), 1)
        with k.loop(k.min(k.end, k.sub(blocks.count, first)), start=k.begin) as unit:
            at = _Walk(k, blocks, k.add(first, unit))
            source = k.shift(k.arg(0), k.mul(unit, self.pitch))
            k.both_ways(at.fits(k, blocks), lambda inside: self._channels(k, at, source, channel, inside=inside))
        return k.finish()

    def _channels(self, k: Kernel, at: _Walk, source: Pointer, first: Index, *, inside: bool) -> None:
        with k.loop(self.blocks.groups) as group:
            channel = k.add(first, k.mul(group, self.channels))
            products = k.shift(source, k.mul(group, self.blocks.points * self.blocks.stride(self.pitch)))

            def body(within: Index, _vectors: int, count: int | None) -> None:
                self._vector(k, at, k.shift(products, within), k.add(channel, within), count, inside=inside)

            emit_vectors(k, self.channels, body)

    def _vector(
        self, k: Kernel, at: _Walk, source: Pointer, channel: Index, count: int | None, *, inside: bool
    ) -> None:
        blocks, (sn, sh, sw) = self.blocks, self.y_strides
        size, stride, matrix = blocks.m + 2, blocks.stride(self.pitch), FILTERINGS[blocks.m].result
        columns = [
            emit_result(k, matrix, [k.load(source, (i * size + j) * stride) for i in range(size)]) for j in range(size)
        ]
        bias = k.load(k.arg(1), channel)
        image = k.shift(k.arg(2), k.mul(at.n, sn))

        def finish(value: Value, oh: Index, ow: Index) -> None:
            result = emit_epilogue(k, self.posts, value, Position(at.n, 0, oh, ow, channel), count)
            where = k.add(k.add(k.mul(oh, sh), k.mul(ow, sw)), channel)
            k.store(result, image, where, count=None if self.tail else count)

        zero = k.splat(0.0)
        sums = [zero] * blocks.m
        for i, line in enumerate(zip(*columns, strict=True)):
            oh = k.add(at.y, i * blocks.height.dilation)
            values = emit_result(k, matrix, line)
            if self.direct is not None:  # 0 times all of them adds up to 0 where all are finite
                sums = [k.fma(value, zero, total) for value, total in zip(values, sums, strict=True)]
            with k.when(True if inside else k.compare("<", oh, blocks.height.output)):
                for j, value in enumerate(values):
                    ow = k.add(at.x, j * blocks.width.dilation)
                    with k.when(True if inside else k.compare("<", ow, blocks.width.output)):
                        finish(k.b.fadd(value, bias), oh, ow)
        if self.direct is None:
            return
        odd = k.b.fcmp_unordered("!=", reduce(k.b.fadd, sums), zero)
        if count is not None:
            odd = k.b.and_(odd, k.first_lanes(count, k.lanes))
        with k.when(k.any(odd)), k.loop(blocks.m) as row, k.loop(blocks.m) as column:
            oh = k.add(at.y, k.mul(row, blocks.height.dilation))
            ow = k.add(at.x, k.mul(column, blocks.width.dilation))
            with k.when(k.both(k.compare("<", oh, blocks.height.output), k.compare("<", ow, blocks.width.output))):
                place = Position(at.n, 0, oh, ow, channel)
                finish(self.direct.emit_vector(k, blocks, place, bias, count), oh, ow)
