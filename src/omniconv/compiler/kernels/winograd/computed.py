r"""Winograd filtering with weights that are a value: transformed at every call, and without harm from values that are
not finite.

.. math:: U = G\, g\, G^T

Rows of G are whole numbers times one factor: whole numbers are combined first and multiplied once, so that what divides
stays exact.

Both read the weights *laid out*: ``[group][input][tap][output]``, taps as in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid
from omniconv.compiler.kernels.winograd.matrices import emit_data
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradWeights:
    """The recipe of G g G^T for weights laid out: to what the products of ``[group][point]`` read.

    Args of the kernel: the weights laid out, and the transformed ones.

    Attributes:
        axes: the blocks along each axis; their sizes do not matter.
        groups: of the layer.
        inputs, outputs: channels of a group.
        columns: weights of a product for one input channel, spare lanes included.
        panel: vectors of output channels that lie together.
        flip: whether taps are taken from the last to the first.
    """

    axes: tuple[BlockAxis, BlockAxis, BlockAxis]
    groups: int
    inputs: int
    outputs: int
    columns: int
    panel: int
    flip: bool
    lanes: int

    def opened(self, _opener: Opener) -> WinogradWeights:
        """The same kernel: weights are those of images of any size."""
        return self

    @property
    def units(self) -> int:
        """Input channels of all groups."""
        return self.groups * self.inputs

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def planes(self) -> int:
        """Taps that are summed directly."""
        return self.axes[0].r if self.axes[0].direct else 1

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        width, depth = self.panel * self.lanes, self.planes * self.inputs
        product, points = depth * self.columns, math.prod(axis.points for axis in self.axes)
        whole = self.outputs // width
        rest, wide = self.outputs - whole * width, self.columns - whole * width
        with k.loop(k.end, start=k.begin) as unit:
            group, channel = k.split(unit, self.groups, self.inputs)
            weights = k.shift(k.arg(0), k.mul(unit, self.taps * self.outputs))
            target_group = k.shift(k.arg(1), k.mul(group, points * product))
            for plane in range(self.planes):
                source = k.shift(weights, self._numbers(plane)[0] * self.outputs)
                line = k.add(plane * self.inputs, channel)
                with k.loop(whole) as index:
                    first = k.mul(index, width)
                    place = k.shift(target_group, k.add(k.mul(first, depth), k.mul(line, width)))
                    self._panel(k, k.shift(source, first), place, width, width)
                if rest:
                    place = k.shift(target_group, k.add(whole * width * depth, k.mul(line, wide)))
                    self._panel(k, k.shift(source, whole * width), place, rest, wide)
        return k.finish()

    def _numbers(self, plane: int) -> range:
        """The taps of a plane as they are numbered, in the order of what is filtered."""
        each = self.taps // self.planes
        plane = self.planes - 1 - plane if self.flip else plane
        return range(plane * each, (plane + 1) * each)

    def _panel(self, k: Kernel, source: Pointer, place: Pointer, outputs: int, wide: int) -> None:
        """The transformed weights of one panel for one input channel; lanes behind the last output are zeros."""
        depth, across = (self.axes[0] if self.axes[0].filtered else self.axes[1]), self.axes[2]
        product = self.planes * self.inputs * self.columns
        for first in range(0, wide, self.lanes):
            count = max(0, min(self.lanes, outputs - first))
            taps = [k.load(source, tap * self.outputs + first, count=count) for tap in range(self.taps // self.planes)]
            if self.flip:
                taps.reverse()
            columns = [_transform(k, depth, taps[column :: across.r]) for column in range(across.r)]
            point = 0
            for row in zip(*columns, strict=True):
                for value in _transform(k, across, row):
                    k.store(value, place, point * product + first, count=min(self.lanes, wide - first))
                    point += 1


def _transform(k: Kernel, axis: BlockAxis, values: Sequence[Value]) -> Sequence[Value]:
    """``G @ values``."""
    if not axis.filtered:
        return values
    sums = emit_data(k, axis.filtering.powers, values)
    return [
        value if factor == 1 else k.b.fmul(value, k.splat(factor))
        for value, factor in zip(sums, axis.filtering.factors, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSums:
    """Direct sums of the outputs of one block, from the input and the weights laid out.

    A value that is not finite would reach, through the transforms, outputs whose windows do not hold it.

    Attributes:
        x, w: positions of the input and of the weights laid out in ``args``.
        x_strides: N, D, H, W strides [elements].
        inputs, outputs: channels of a group.
        flip: whether taps are taken from the last to the first.
    """

    x: int
    w: int
    x_strides: tuple[int, int, int, int]
    inputs: int
    outputs: int
    flip: bool

    def opened(self, opener: Opener) -> DirectSums:
        """The same for images of any size."""
        n, d, h, w = self.x_strides
        return replace(self, x_strides=(opener(n), opener(d), opener(h), w))

    def emit_vector(self, k: Kernel, blocks: BlockGrid, place: Position, bias: Value, count: int | None) -> Value:
        """One vector of output channels at a position."""
        sn, *strides = self.x_strides
        count_taps = math.prod(axis.kernel for axis in blocks.axes)
        group, within = k.divmod(place.c, self.outputs)
        image = k.shift(k.arg(self.x), k.add(k.mul(place.n, sn), k.mul(group, self.inputs)))
        weights = k.shift(k.arg(self.w), k.add(k.mul(group, self.inputs * count_taps * self.outputs), within))
        total = k.variable(k.vector_type(), bias)
        with ExitStack() as loops:
            taps = [loops.enter_context(k.loop(axis.kernel)) for axis in blocks.axes]
            reads = [
                _read(k, axis, output, tap)
                for axis, output, tap in zip(blocks.axes, (place.d, place.h, place.w), taps, strict=True)
            ]
            inside: Condition = True
            pixel, number = image, taps[0]
            for axis, read, stride in zip(blocks.axes, reads, strides, strict=True):
                inside = k.both(inside, axis.pointwise or k.within(read, axis.size))
                pixel = k.shift(pixel, k.mul(read, stride))
            for axis, tap in zip(blocks.axes[1:], taps[1:], strict=True):
                number = k.add(k.mul(number, axis.kernel), tap)
            if self.flip:
                number = k.sub(count_taps - 1, number)
            with k.when(inside):
                row = k.shift(weights, k.mul(number, self.outputs))
                with k.loop(self.inputs) as channel:
                    w = k.load(row, k.mul(channel, count_taps * self.outputs), count=count)
                    k.set(total, k.fma(k.load_splat(pixel, channel), w, k.get(total)))
        return k.get(total)


def _read(k: Kernel, axis: BlockAxis, output: Index, tap: Index) -> Index:
    """The input position that an output reads through a tap."""
    return k.add(k.sub(k.mul(output, axis.stride), axis.before), k.mul(tap, axis.dilation))
