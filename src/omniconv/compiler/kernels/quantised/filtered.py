r"""Dense 3x3 layers of integers by minimal filtering F(4x4, 3x3): a quarter of the products, and the same integers.

.. math:: y = A^T [ (G w G^T) \odot (B^T x B) ] A

B is of integers, and of x up to 255 it makes words of 16 bits: 255 times 10 times 10. G is not: its rows are made
integers, 24 times as large for a kernel, and A gets what they lack, so that the result is 576 times as large as it is.
It is computed as integers of 32 bits are, modulo :math:`2^{32}`, where no sum on the way has to fit. 576 is 9 times 64:
the inverse of 9 leaves 64 times the result modulo :math:`2^{32}`, which says what it is where it is less than
:math:`2^{25}` in size. Nothing is rounded.

A unit of work is a slab of blocks: its inputs are transformed into memory of the thread, and for two vectors of outputs
at a time the products of all points are summed over the channels and transformed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    add_pairs,
    load_pair,
    load_sums,
    load_words,
    shift_sums,
    shift_words,
    store_sums,
    store_words,
    sums,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.kernels.quantised.taps import ROOM, WEIGHTS, ZEROS, TapWalk, X, Y, in_packed_order
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target

OUTPUTS: Final = 4
"""Outputs of a block along an axis."""
READS: Final = 6
"""Inputs, and points."""
POINTS: Final = READS**2
ROWS: Final = 6
"""Blocks of a tile of products: by two vectors of sums, twelve of sixteen registers."""
MOST: Final = 2**25
"""Sums that are known by what is computed of them are smaller [integers]."""
KERNEL: Final = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
"""G, each row as integers."""
_NINTH = 954437177
"""The inverse of 9 modulo 2**32."""
_LINE = 32
"""Words of a line of a cache."""
_UNROLL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedFilter:
    """The recipe of one layer: everything its code depends on.

    Attributes:
        walk: positions; of its tiles and blocks nothing is used.
        inputs, outputs: channels.
        slab: blocks of a unit, a multiple of :data:`ROWS`.
        most: blocks of a slab that memory of a thread is laid out for, whatever the size of images.
        tail: whether whole vectors may be written past the last output channel.
    """

    walk: TapWalk
    inputs: int
    outputs: int
    slab: int
    most: int
    tail: bool

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks along H and W."""
        _, height, width = self.walk.axes
        return ceil_div(height.result, OUTPUTS), ceil_div(width.result, OUTPUTS)

    @property
    def count(self) -> int:
        """Blocks of all images."""
        return self.walk.batch * self.blocks[0] * self.blocks[1]

    @property
    def multiplications(self) -> int:
        """Products of transformed values."""
        return self.count * POINTS * self.inputs * self.outputs

    @property
    def units(self) -> int:
        """Slabs."""
        return ceil_div(self.count, self.slab)

    @property
    def width(self) -> int:
        """Channels of two vectors of sums, and of a vector of words."""
        return 2 * self.walk.lanes

    @property
    def panels(self) -> int:
        """Two vectors of outputs each."""
        return ceil_div(self.outputs, self.width)

    @property
    def pairs(self) -> int:
        """Pairs of inputs."""
        return ceil_div(self.inputs, 2)

    @property
    def pitch(self) -> int:
        """Transformed inputs of a block at a point [words]."""
        return ceil_div(self.inputs, self.width) * self.width

    @property
    def apart(self) -> int:
        """Distance between points of the transformed inputs: an odd number of lines, so that they share no set of a
        cache [words].
        """
        return (ceil_div(self.most * self.pitch, _LINE) | 1) * _LINE

    @property
    def made(self) -> int:
        """Distance between points of sums [integers]."""
        return (ceil_div(2 * self.most * self.width, _LINE) | 1) * _LINE // 2

    @property
    def room(self) -> int:
        """Memory of a thread: transformed inputs, sums, half a transform, and what is written of outputs that do not
        exist [integers of 32 bits].
        """
        return POINTS * (self.apart // 2 + self.made) + (2 * OUTPUTS * READS + 1) * self.walk.lanes + self.width

    def opened(self, opener: Opener) -> QuantisedFilter:
        """The same kernel for images of any size."""
        return replace(self, walk=self.walk.opened(opener), slab=opener.any(self.slab))

    def pack(self, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Transformed weights: by panel, point, pair, output in packed order, and which of the pair."""
        points = np.einsum("ai,ocij,bj->oabc", KERNEL, w.astype(np.int64), KERNEL).reshape(len(w), POINTS, -1)
        padded = np.zeros((self.panels * self.width, POINTS, 2 * self.pairs), np.int16)
        padded[: self.outputs, :, : self.inputs] = points
        by_panel = padded.reshape(self.panels, self.width, POINTS, self.pairs, 2).transpose(0, 2, 3, 4, 1)
        ordered = in_packed_order(by_panel, self.walk.lanes)
        return np.ascontiguousarray(ordered.transpose(0, 1, 2, 4, 3)).reshape(-1)

    def pack_outputs(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """One number for each output channel as the kernel reads them."""
        padded = np.zeros(self.panels * self.width, array.dtype)
        padded[: self.outputs] = array
        return in_packed_order(padded, self.walk.lanes)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        spread = k.own(ROOM)
        made = shift_sums(k, spread, POINTS * self.apart // 2)
        half = shift_sums(k, made, POINTS * self.made)
        ragged = 0 if self.tail else self.outputs % self.width
        whole = self.panels - 1 if ragged else self.panels
        with k.loop(k.end, start=k.begin) as unit:
            first = k.mul(unit, self.slab)
            with k.loop(k.min(self.slab, k.sub(self.count, first))) as block:
                self._spread(k, spread, half, k.add(first, block), block)
            if whole:
                with k.loop(whole) as panel:
                    self._panel(k, (spread, made, half), first, panel, None)
            if ragged:
                self._panel(k, (spread, made, half), first, whole, ragged)
        return k.finish()

    def _find(self, k: Kernel, block: Index) -> tuple[Index, Index, Index]:
        """Image, and first row and column of a block."""
        n, h, w = k.split(block, self.walk.batch, *self.blocks)
        return n, k.mul(h, OUTPUTS), k.mul(w, OUTPUTS)

    def _spread(self, k: Kernel, spread: Pointer, half: Pointer, block: Index, place: Index) -> None:
        """Transform the inputs of a block."""
        _, height, width = self.walk.axes
        n, row, column = self._find(k, block)
        image, _, down, across = self.walk.x_strides
        x = shift_words(k, k.arg(X), k.mul(n, image))
        sources = []
        for i in range(READS):
            h = k.add(row, i - height.before)
            for j in range(READS):
                w = k.add(column, j - width.before)
                at = shift_words(k, x, k.add(k.mul(h, down), k.mul(w, across)))
                inside = k.both(k.within(h, height.size), k.within(w, width.size))
                sources.append(k.choose(inside, at, k.arg(ZEROS)))
        result = shift_words(k, spread, k.mul(place, self.pitch))
        with k.loop(self.pitch // self.width) as chunk:
            first = k.mul(chunk, self.width)
            for j in range(READS):
                k.fence()
                column_of = [load_words(k, sources[i * READS + j], first, self.width) for i in range(READS)]
                for i, value in enumerate(_transform(k, column_of)):
                    store_words(k, value, half, (i * READS + j) * self.width)
            for i in range(READS):
                k.fence()
                row_of = [load_words(k, half, (i * READS + j) * self.width, self.width) for j in range(READS)]
                for j, value in enumerate(_transform(k, row_of)):
                    store_words(k, value, result, k.add(first, (i * READS + j) * self.apart))

    def _panel(
        self, k: Kernel, room: tuple[Pointer, Pointer, Pointer], first: Index, panel: Index, count: int | None
    ) -> None:
        """Two vectors of outputs of a slab, or the ``count`` that there are."""
        spread, made, half = room
        weights = shift_words(k, k.arg(WEIGHTS), k.mul(panel, POINTS * self.pairs * 2 * self.width))
        with k.loop(POINTS) as point:
            there = shift_words(k, weights, k.mul(point, self.pairs * 2 * self.width))
            with k.loop(self.slab // ROWS) as tile:
                here = k.add(k.mul(point, self.apart), k.mul(tile, ROWS * self.pitch))
                result = shift_sums(k, made, k.add(k.mul(point, self.made), k.mul(tile, ROWS * self.width)))
                self._products(k, shift_words(k, spread, here), there, result)
        with k.loop(k.min(self.slab, k.sub(self.count, first))) as block:
            source = shift_sums(k, made, k.mul(block, self.width))
            self._gather(k, source, half, k.add(first, block), k.mul(panel, self.width), count)

    def _products(self, k: Kernel, source: Pointer, weights: Pointer, result: Pointer) -> None:
        """Sums over the channels for a tile of blocks."""
        kind = sums(self.walk.lanes)
        slots = [[k.variable(kind, k.splat(0, kind)) for _ in range(2)] for _ in range(ROWS)]

        def step(here: Pointer, there: Pointer, pair: int) -> None:
            factors = [load_words(k, there, (2 * pair + side) * self.width, self.width) for side in range(2)]
            for i in range(ROWS):
                value = load_pair(k, here, i * self.pitch + 2 * pair, self.walk.lanes)
                for slot, factor in zip(slots[i], factors, strict=True):
                    k.set(slot, Value(add_pairs(k, Bits(k.get(slot)), value, factor)))

        turns = self.pairs // _UNROLL
        if turns:
            with k.loop(turns) as turn:
                here = shift_words(k, source, k.mul(turn, 2 * _UNROLL))
                there = shift_words(k, weights, k.mul(turn, _UNROLL * 2 * self.width))
                for pair in range(_UNROLL):
                    step(here, there, pair)
        for pair in range(turns * _UNROLL, self.pairs):
            step(source, weights, pair)
        for i, both in enumerate(slots):
            for side, slot in enumerate(both):
                store_sums(k, Bits(k.get(slot)), result, (2 * i + side) * self.walk.lanes)

    def _gather(self, k: Kernel, source: Pointer, half: Pointer, block: Index, place: Index, count: int | None) -> None:
        """Transform the sums of a block back, and store its outputs."""
        lanes, (_, height, width) = self.walk.lanes, self.walk.axes
        n, row, column = self._find(k, block)
        for side in range(2):
            for j in range(READS):
                k.fence()
                column_of = [
                    load_sums(k, source, (i * READS + j) * self.made + side * lanes, lanes) for i in range(READS)
                ]
                for i, value in enumerate(_transform_back(k, column_of)):
                    store_sums(k, value, half, ((side * OUTPUTS + i) * READS + j) * lanes)
        image, _, down, across = self.walk.y_strides
        y = shift_words(k, k.arg(Y), k.add(k.mul(n, image), place))
        nowhere = shift_sums(k, half, 2 * OUTPUTS * READS * lanes)
        start = self.walk.start(k, place)
        for i in range(OUTPUTS):
            k.fence()
            h = k.add(row, i)
            made = []
            for side in range(2):
                row_of = [load_sums(k, half, ((side * OUTPUTS + i) * READS + j) * lanes, lanes) for j in range(READS)]
                made.append([self._settle(k, value, start[side]) for value in _transform_back(k, row_of)])
            for j, totals in enumerate(zip(*made, strict=True)):
                w = k.add(column, j)
                at = shift_words(k, y, k.add(k.mul(h, down), k.mul(w, across)))
                exists = k.both(k.within(h, height.result), k.within(w, width.result))
                store_words(k, self.walk.finish(k, totals, place), k.choose(exists, at, nowhere), 0, count)

    def _settle(self, k: Kernel, value: Bits, bias: Bits) -> Bits:
        """The sum of which ``value`` is 576 times as much, modulo 2**32, and the bias."""
        exact = k.b.ashr(_scale(k, value, _NINTH), cast("Bits", k.splat(6, value.type)))
        return k.b.add(exact, bias)


def _scale(k: Kernel, value: Bits, factor: int) -> Bits:
    return k.b.imul(value, cast("Bits", k.splat(factor, value.type)))


def _transform(k: Kernel, d: Sequence[Bits]) -> list[Bits]:
    """B^T d, of words."""
    add, sub = k.b.add, k.b.sub
    even, odd = sub(d[4], _scale(k, d[2], 4)), sub(d[3], _scale(k, d[1], 4))
    near, far = sub(d[4], d[2]), _scale(k, sub(d[3], d[1]), 2)
    return [
        add(sub(_scale(k, d[0], 4), _scale(k, d[2], 5)), d[4]),
        add(even, odd),
        sub(even, odd),
        add(near, far),
        sub(near, far),
        add(sub(_scale(k, d[1], 4), _scale(k, d[3], 5)), d[5]),
    ]


def _transform_back(k: Kernel, m: Sequence[Bits]) -> list[Bits]:
    """24 times A^T m, where the rows of G are those of :data:`KERNEL`."""
    add, sub = k.b.add, k.b.sub
    a, b = _scale(k, add(m[1], m[2]), -4), _scale(k, sub(m[1], m[2]), -4)
    c, d = add(m[3], m[4]), sub(m[3], m[4])
    return [
        add(add(_scale(k, m[0], 6), a), c),
        add(b, _scale(k, d, 2)),
        add(a, _scale(k, c, 4)),
        add(add(b, _scale(k, d, 8)), _scale(k, m[5], 24)),
    ]
