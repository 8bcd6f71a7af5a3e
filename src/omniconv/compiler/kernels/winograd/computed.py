r"""Winograd filtering with weights that are a value: transformed at every call, and without harm from values that are
not finite.

.. math:: U = G\, g\, G^T

Rows of G are whole numbers times one factor: whole numbers are combined first and multiplied once, so that what divides
stays exact.

Both read the weights *laid out*: ``[group][input][tap][output]``, taps as in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.kernels.winograd.matrices import FILTERINGS, emit_data
from omniconv.compiler.kernels.winograd.slabs import BlockAxis, BlockGrid
from omniconv.open_size import Opener
from omniconv.target.model import Target

TAPS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradWeights:
    """The recipe of G g G^T for weights laid out: to what the products of ``[group][point]`` read.

    Args of the kernel: the weights laid out, and the transformed ones.

    Attributes:
        m: outputs of a block along each axis.
        groups: of the layer.
        inputs, outputs: channels of a group.
        columns: weights of a product for one input channel, spare lanes included.
        panel: vectors of output channels that lie together.
        flip: whether taps are taken from the last to the first.
    """

    m: int
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

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        width, product = self.panel * self.lanes, self.inputs * self.columns
        whole = self.outputs // width
        with k.loop(k.end, start=k.begin) as unit:
            group, channel = k.split(unit, self.groups, self.inputs)
            source = k.shift(k.arg(0), k.mul(unit, TAPS * self.outputs))
            target_group = k.shift(k.arg(1), k.mul(group, (self.m + 2) ** 2 * product))
            with k.loop(whole) as index:
                first = k.mul(index, width)
                place = k.shift(target_group, k.add(k.mul(first, self.inputs), k.mul(channel, width)))
                self._panel(k, k.shift(source, first), place, width, width)
            rest, wide = self.outputs - whole * width, self.columns - whole * width
            if rest:
                place = k.shift(target_group, k.add(whole * width * self.inputs, k.mul(channel, wide)))
                self._panel(k, k.shift(source, whole * width), place, rest, wide)
        return k.finish()

    def _panel(self, k: Kernel, source: Pointer, place: Pointer, outputs: int, wide: int) -> None:
        """The transformed weights of one panel for one input channel; lanes behind the last output are zeros."""
        for first in range(0, wide, self.lanes):
            count = max(0, min(self.lanes, outputs - first))
            taps = [k.load(source, tap * self.outputs + first, count=count) for tap in range(TAPS)]
            if self.flip:
                taps.reverse()
            columns = [_transform(k, self.m, taps[column::3]) for column in range(3)]
            point = 0
            for row in zip(*columns, strict=True):
                for value in _transform(k, self.m, row):
                    k.store(
                        value, place, point * self.inputs * self.columns + first, count=min(self.lanes, wide - first)
                    )
                    point += 1


def _transform(k: Kernel, m: int, values: tuple[Value, ...] | list[Value]) -> list[Value]:
    """``G @ values``."""
    factors = [next(c for c in row if c) for row in FILTERINGS[m].kernel]
    whole = tuple(tuple(c / factor for c in row) for row, factor in zip(FILTERINGS[m].kernel, factors, strict=True))
    sums = emit_data(k, whole, values)
    return [
        value if factor == 1 else k.b.fmul(value, k.splat(factor)) for value, factor in zip(sums, factors, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSums:
    """Direct sums of the outputs of one block, from the input and the weights laid out.

    A value that is not finite would reach, through the transforms, outputs whose windows do not hold it.

    Attributes:
        x, w: positions of the input and of the weights laid out in ``args``.
        x_strides: N, H, W strides [elements].
        inputs, outputs: channels of a group.
        flip: whether taps are taken from the last to the first.
    """

    x: int
    w: int
    x_strides: tuple[int, int, int]
    inputs: int
    outputs: int
    flip: bool

    def opened(self, opener: Opener) -> DirectSums:
        """The same for images of any size."""
        n, h, w = self.x_strides
        return replace(self, x_strides=(opener(n), opener(h), w))

    def emit_vector(self, k: Kernel, blocks: BlockGrid, place: Position, bias: Value, count: int | None) -> Value:
        """One vector of output channels at a position."""
        sn, sh, sw = self.x_strides
        group, within = k.divmod(place.c, self.outputs)
        image = k.shift(k.arg(self.x), k.add(k.mul(place.n, sn), k.mul(group, self.inputs)))
        weights = k.shift(k.arg(self.w), k.add(k.mul(group, self.inputs * TAPS * self.outputs), within))
        total = k.variable(k.vector_type(), bias)
        with k.loop(3) as i, k.loop(3) as j:
            iy, ix = _read(k, blocks.height, place.h, i), _read(k, blocks.width, place.w, j)
            with k.when(k.both(k.within(iy, blocks.height.size), k.within(ix, blocks.width.size))):
                pixel = k.shift(image, k.add(k.mul(iy, sh), k.mul(ix, sw)))
                tap = k.add(k.mul(i, 3), j)
                tap = k.sub(TAPS - 1, tap) if self.flip else tap
                row = k.shift(weights, k.mul(tap, self.outputs))
                with k.loop(self.inputs) as channel:
                    w = k.load(row, k.mul(channel, TAPS * self.outputs), count=count)
                    k.set(total, k.fma(k.load_splat(pixel, channel), w, k.get(total)))
        return k.get(total)


def _read(k: Kernel, axis: BlockAxis, output: Index, tap: Index) -> Index:
    """The input position that an output reads through a tap."""
    return k.add(k.sub(output, axis.before), k.mul(tap, axis.dilation))
