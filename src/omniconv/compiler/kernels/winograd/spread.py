"""Blocks of values become values at points: what the transforms of an input and of a gradient of the result share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid
from omniconv.compiler.kernels.winograd.matrices import Matrix, emit_data
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class BlockReach:
    """What a block reads along one axis: so many positions in steps, of ``size`` that there are; whether all are
    ``inside`` is known where it is; and the matrix that makes points of them, ``None`` where they stay as they are.
    """

    count: int
    step: int
    size: int
    inside: bool
    matrix: Matrix | None

    @classmethod
    def of_input(cls, axis: BlockAxis) -> BlockReach:
        """The input of a block, which B^T is for."""
        count = 1 if axis.direct else axis.reads
        return cls(count, axis.spacing, axis.size, axis.pointwise, axis.filtering.data if axis.filtered else None)

    @classmethod
    def of_result(cls, axis: BlockAxis) -> BlockReach:
        """The results of a block, whose gradient A is for."""
        matrix = tuple(zip(*axis.filtering.result, strict=True)) if axis.filtered else None
        return cls(1 if axis.direct else axis.m, axis.dilation, axis.output, axis.whole, matrix)

    def spread(self, k: Kernel, values: Sequence[Value]) -> Sequence[Value]:
        """The values of a block at its points."""
        return values if self.matrix is None else emit_data(k, self.matrix, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpread:
    """The code that spreads one block: to ``[group][point]...[channel of the group]``.

    Attributes:
        blocks: of the layer.
        reaches: along each axis.
        channels: of a group.
        strides: of the positions along each axis [elements].
        stride: distance between points of a group [elements].
        masked: whether a last vector that is not full has to be read as such, and to be ``alone`` written as such.
    """

    blocks: BlockGrid
    reaches: tuple[BlockReach, BlockReach, BlockReach]
    channels: int
    strides: Sequence[int]
    stride: int
    masked: bool
    alone: bool

    def emit(
        self, k: Kernel, image: Pointer, zeros: Pointer, begins: Sequence[Index], row: Pointer, exists: Condition = True
    ) -> None:
        """The block whose first position along each axis is given, to a row of the slab; all zeros where it does not
        exist.
        """
        conditions = [
            [reach.inside or k.within(k.add(begin, i * reach.step), reach.size) for i in range(reach.count)]
            for reach, begin in zip(self.reaches, begins, strict=True)
        ]
        inside = exists
        for line in conditions:
            for condition in {0: line[0], len(line) - 1: line[-1]}.values():
                inside = k.both(inside, condition)
        origin = image
        for begin, stride in zip(begins, self.strides, strict=True):
            origin = k.shift(origin, k.mul(begin, stride))

        def emit(*, checked: bool) -> None:
            places: list[tuple[Index, Condition]] = []
            for position in product(*map(range, map(len, conditions))):
                offset: Index = 0
                there = exists
                for reach, place, stride, line in zip(self.reaches, position, self.strides, conditions, strict=True):
                    offset = k.add(offset, place * reach.step * stride)
                    there = k.both(there, line[place])
                places.append((offset, there))
            pixels = [k.choose(there, k.shift(origin, offset), zeros) for offset, there in places] if checked else []

            def load(channel: Index, count: int | None) -> list[Value]:
                if checked:
                    return [k.load(pixel, channel, count=count) for pixel in pixels]
                here = k.anchor(k.shift(origin, channel))
                return [k.load(here, offset, count=count) for offset, _ in places]

            self._channels(k, load, row)

        if isinstance(inside, bool):
            emit(checked=not inside)
        else:
            with k.branches(inside) as (fast, slow):
                with fast:
                    emit(checked=False)
                with slow:
                    emit(checked=True)

    def _channels(self, k: Kernel, load: Callable[[Index, int | None], list[Value]], row: Pointer) -> None:
        """All channels of a block, whose pixels ``load`` has for some of them."""
        blocks, order = self.blocks, self.blocks.order
        down, across = self.reaches[blocks.axes.index(blocks.down)], self.reaches[2]
        with k.loop(blocks.groups) as group:

            def body(within: Index, _vectors: int, count: int | None) -> None:
                channel = k.add(k.mul(group, self.channels), within)
                loaded = load(channel, count)
                columns = [down.spread(k, loaded[j :: across.count]) for j in range(across.count)]
                target = k.anchor(k.shift(row, k.add(k.mul(group, blocks.points * self.stride), within)))
                for i, line in enumerate(zip(*columns, strict=True)):
                    for j, value in enumerate(across.spread(k, line)):
                        place = order[i * blocks.across.points + j] * self.stride
                        k.store(value, target, place, count=count if self.alone else None)

            emit_vectors(k, self.channels, body, masked=self.masked)
