"""Quantising and giving numbers back where channels become neighbours, or cease to be: one pass over a value instead of
a change of layout and another pass.

Rounding needs no division. With the reciprocal of a scale as a sum of two float32 numbers, h and l,
``fma(x, h, x l)`` is off by no more than the division is, so that the integers can differ only next to the middles
between two of them; these are tried for each scale (:func:`find_reciprocal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    clamp_float,
    join_words,
    load_words,
    pack_words,
    packed_order,
    round_even,
    shift_words,
    store_sums,
    store_words,
    to_float,
    widen_words,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_transpose, emit_transpose_from
from omniconv.compiler.memory.layout import Layout, channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import merge_axes
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.element import INT16
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedConvStep, QuantisedMapStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
_PIXEL = 4
"""Words of a pixel of few channels: as many as are stored at once."""
_BLOCK = 128
"""Positions of a unit."""
_NEAR = 8
"""Floats on either side of a middle between two integers that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTurn:
    """The recipe of one kernel.

    Attributes:
        images, channels, positions: sizes.
        x_strides, y_strides: of images, channels and positions [elements].
        scale: of the integers.
        limits: of the integers, where they are what is made.
        reciprocal: of the scale, as a sum of two numbers; without it, numbers are divided.
        block: positions of a unit.
        lanes: of a vector of floats.
    """

    images: int
    channels: int
    positions: int
    x_strides: tuple[int, int, int]
    y_strides: tuple[int, int, int]
    scale: float
    limits: tuple[int, int] | None
    reciprocal: tuple[float, float] | None
    block: int
    lanes: int

    @property
    def across(self) -> int:
        """Channels of a tile."""
        if self.channels <= _PIXEL:
            return self.channels
        return self.lanes if self.limits is None else 2 * self.lanes

    @property
    def blocks(self) -> int:
        """Units of an image."""
        return ceil_div(self.positions, self.block)

    @property
    def units(self) -> int:
        """Units of work: neighbouring positions of an image."""
        return self.images * self.blocks

    def opened(self, opener: Opener) -> QuantisedTurn:
        """The same kernel for images of any size: where positions are neighbours, planes are that far apart."""
        return replace(
            self,
            images=opener(self.images),
            positions=opener.any(self.positions),
            x_strides=self._open_strides(opener, self.x_strides),
            y_strides=self._open_strides(opener, self.y_strides),
        )

    def _open_strides(self, opener: Opener, strides: tuple[int, int, int]) -> tuple[int, int, int]:
        image, channel, position = strides
        return opener(image), opener(channel), position

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR. The last tile overlaps the one before it."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            n, block = k.split(unit, self.images, self.blocks)
            begin = k.mul(block, self.block)
            end = k.min(k.add(begin, self.block), self.positions)
            with (
                k.loop(self.channels, step=self.across) as channel,
                k.loop(end, start=begin, step=self.lanes) as position,
            ):
                at = (n, k.min(channel, self.channels - self.across), k.min(position, self.positions - self.lanes))
                if self.limits is None:
                    self._give_back(k, *self._places(k, at))
                elif self.channels <= _PIXEL:
                    self._quantise_pixels(k, *self._places(k, at), self.limits)
                else:
                    self._quantise(k, *self._places(k, at), self.limits)
        return k.finish()

    def _places(self, k: Kernel, at: Sequence[Index]) -> tuple[Pointer, Pointer]:
        """Addresses of a tile."""
        offsets: list[Index] = [0, 0]
        for place, strides in enumerate((self.x_strides, self.y_strides)):
            for index, stride in zip(at, strides, strict=True):
                offsets[place] = k.add(offsets[place], k.mul(index, stride))
        if self.limits is None:
            return shift_words(k, k.arg(X), offsets[X]), k.shift(k.arg(Y), offsets[Y])
        return k.shift(k.arg(X), offsets[X]), shift_words(k, k.arg(Y), offsets[Y])

    def _round(self, k: Kernel, value: Value, limits: tuple[int, int]) -> Bits:
        """Numbers as integers of 32 bits."""
        if self.reciprocal is None:
            return round_even(k, clamp_float(k, k.b.fdiv(value, k.splat(self.scale)), *limits))
        high, low = map(k.splat, self.reciprocal)
        inside = clamp_float(k, value, *(float(np.float32(self.scale) * np.float32(limit)) for limit in limits))
        return round_even(k, k.fma(inside, high, k.b.fmul(inside, low)))

    def _quantise(self, k: Kernel, x: Pointer, y: Pointer, limits: tuple[int, int]) -> None:
        """A tile of floats, transposed in two vectors of channels for each position."""
        halves = [
            emit_transpose_from(k, [k.shift(x, place * self.x_strides[1]) for place in order])
            for order in packed_order(self.lanes)
        ]
        for number, pair in enumerate(zip(*halves, strict=True)):
            found = pack_words(k, *(self._round(k, value, limits) for value in pair))
            store_words(k, found, y, number * self.y_strides[2])

    def _quantise_pixels(self, k: Kernel, x: Pointer, y: Pointer, limits: tuple[int, int]) -> None:
        """A tile of few channels: whole pixels, one behind the other."""
        rows = [self._round(k, k.load(x, c * self.x_strides[1]), limits) for c in range(self.channels)]
        rows += [Bits(k.splat(0, rows[0].type))] * (_PIXEL - self.channels)
        first, second = (Value(join_words(k, *rows[at : at + 2])) for at in range(0, _PIXEL, 2))
        order = [place + half * self.lanes for place in range(self.lanes) for half in range(2)]
        for at in range(0, 2 * self.lanes, self.lanes):
            store_sums(k, Bits(k.b.shuffle_vector(first, second, order[at : at + self.lanes])), y, at)

    def _give_back(self, k: Kernel, x: Pointer, y: Pointer) -> None:
        """A tile of words, transposed as floats."""
        rows = [
            to_float(k, widen_words(k, load_words(k, x, number * self.x_strides[2], self.lanes)))
            for number in range(self.lanes)
        ]
        for number, value in enumerate(emit_transpose(k, rows)):
            k.store(k.b.fmul(value, k.splat(self.scale)), y, number * self.y_strides[1])


def find_reciprocal(levels: Levels) -> tuple[float, float] | None:
    """Numbers h and l with ``round(fma(x, h, x l)) == round(x / scale)`` for all float32 x between the ends of the
    levels; ``None`` where there are none.

    Both sides are within a relative distance of ``2 ** -23`` of the quotient. So they agree but where that is as close
    to a middle between two integers, at fewer floats than are tried around each.
    """
    scale = np.float32(levels.scale)
    if not 2.0**-60 < scale < 2.0**60:
        return None
    high = np.float32(1 / np.float64(scale))
    low = np.float32(1 / np.float64(scale) - np.float64(high))
    middles = ((np.arange(levels.low, levels.high) + 0.5) * np.float64(scale)).astype(np.float32)
    near = middles.view(np.int32)[:, None] + np.arange(-_NEAR, _NEAR + 1, dtype=np.int32)
    x = near.view(np.float32)
    # Products of float32 numbers are exact in float64, and so is the sum of these two.
    summed = (x.astype(np.float64) * high + (x * low).astype(np.float64)).astype(np.float32)
    return (float(high), float(low)) if np.array_equal(np.rint(summed), np.rint(x / scale)) else None


def lower_quantised_turn(planner: Planner, step: QuantisedMapStep) -> bool:
    """Whether a step quantises, or gives back, and changes the order of axes, and is lowered as one."""
    shape, lanes = planner.shape(step.y), planner.target.lanes
    if step.post or planner.shape(step.x) != shape or not 3 <= len(shape) <= 5:
        return False
    x, levels = planner.get(step.x), step.levels
    scale = step.x_scale if levels is None else levels.scale if step.x_scale is None else None
    if scale is None or x.layout.channels is not None:
        return False
    y = planner.wanted.get(step.y) if levels is None else None
    layout = _find_layout(planner, step) if y is None else y.layout
    if layout is None or x.layout.channels_last is (levels is not None):
        return False
    images, channels, *sizes = shape
    merged = merge_axes(sizes, x.layout.strides[2:], layout.strides[2:])
    if merged is None or merged[0] < lanes:
        return False
    positions, (xp, yp) = merged
    if (yp if levels is None else xp) != 1 or (channels < (lanes if levels is None else 2 * lanes) and yp != _PIXEL):
        return False
    y = planner.room(layout, INT16) if y is None else y
    planner.stored[step.y] = y
    recipe = QuantisedTurn(
        images=images,
        channels=channels,
        positions=positions,
        x_strides=(x.layout.strides[0], x.layout.strides[1], xp),
        y_strides=(layout.strides[0], layout.strides[1], yp),
        scale=scale,
        limits=None if levels is None else (levels.low, levels.high),
        reciprocal=find_reciprocal(levels) if levels is not None and planner.target.fma else None,
        block=_BLOCK,
        lanes=lanes,
    )
    planner.call(recipe, [x.ref, y.ref], "map", how="with the change of layout")
    return True


def _find_layout(planner: Planner, step: QuantisedMapStep) -> Layout | None:
    """The layout of integers that convolutions read, channels side by side: of few channels, in short pixels."""
    readers = [each for each in planner.program.steps if isinstance(each, QuantisedConvStep) and each.x == step.y]
    if step.levels is None or not readers or step.y in planner.places:
        return None
    shape = planner.shape(step.y)
    if shape[1] <= _PIXEL and all(each.spec.groups == 1 for each in readers):
        return channels_last(shape, _PIXEL)
    return planner.default_layout(shape, INT16)
