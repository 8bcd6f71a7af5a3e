"""Where the elements of a value lie: strides in elements over the logical, channels-first shape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from omniconv.errors import UnsupportedError
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.target.model import Target


class Grid(NamedTuple):
    """A value seen as N x C x D x H x W: sizes and strides [elements]."""

    n: int
    c: int
    sizes: tuple[int, int, int]
    sn: int
    sc: int
    strides: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes and strides of one value inside its buffer.

    Attributes:
        shape: logical shape, channels first.
        strides: distance between neighbours along each logical axis [elements].
        tail: the lanes that follow the last channel, up to a whole vector, belong to this value: they may be
            written with anything. (Every arena buffer may be *read* a vector past its end.)
        readable: whole vectors may be read even where they reach past the last channel.
        channels: storage position of each logical channel, in units of the channel stride; ``None`` when in order.
    """

    shape: Shape
    strides: Shape
    tail: bool = False
    readable: bool = False
    channels: tuple[int, ...] | None = None

    @property
    def channels_last(self) -> bool:
        """Whether neighbouring channels are neighbours in memory."""
        return len(self.shape) >= 2 and (self.strides[1] == 1 or self.shape[1] == 1)

    @property
    def plain(self) -> bool:
        """Whether elements lie in row-major order without gaps, channels in order."""
        steps = zip(self.shape, self.strides, row_major(self.shape).strides, strict=True)
        return self.channels is None and all(size == 1 or step == want for size, step, want in steps)

    @property
    def grid(self) -> Grid:
        """The five-axis view.

        Raises:
            UnsupportedError: a rank that has none.
        """
        dims = len(self.shape) - 2
        if not 0 <= dims <= 3:
            raise UnsupportedError(f"shape {self.shape} has {len(self.shape)} axes", need="(N, C, ...) of 2 to 5 axes")
        sizes, strides = (1,) * (3 - dims) + self.shape[2:], (0,) * (3 - dims) + self.strides[2:]
        return Grid(
            self.shape[0],
            self.shape[1],
            (sizes[0], sizes[1], sizes[2]),
            self.strides[0],
            self.strides[1] if self.shape[1] > 1 else 1,
            (strides[0], strides[1], strides[2]),
        )

    @property
    def extent(self) -> int:
        """Elements from the first to one past the last."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    def with_rank(self, rank: int) -> Layout:
        """The same storage seen with ``rank`` axes or more: axes of size 1 in front, as values broadcast."""
        missing = (0,) * (rank - len(self.shape))
        return replace(self, shape=(1,) * len(missing) + self.shape, strides=missing + self.strides)

    def ordered(self) -> Layout:
        """The same storage with its channels in storage order."""
        return replace(self, channels=None)


def plan_pitch(channels: int, target: Target) -> int:
    """Distance between pixels [elements]: whole vectors, and never a multiple of 1 KiB (which would alias in the
    L1).
    """
    pitch = ceil_div(channels, target.lanes) * target.lanes
    return pitch + target.lanes if pitch * target.element.bytes % 1024 == 0 else pitch


def channels_last(shape: Shape, pitch: int | None = None, *, owned: bool = False) -> Layout:
    """Channels last, ``pitch`` elements a pixel (default: the channels)."""
    pitch = shape[1] if pitch is None else pitch
    strides = [pitch] * len(shape)
    for axis in range(len(shape) - 2, 1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    strides[0] = pitch * math.prod(shape[2:])
    strides[1] = 1
    return Layout(shape, tuple(strides), tail=owned, readable=owned)


def row_major(shape: Shape) -> Layout:
    """Plain C order over the logical shape."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return Layout(shape, tuple(strides))
