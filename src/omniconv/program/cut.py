r"""`Cut`: a step that computes one box of its result from boxes of what it reads.

A box is one half-open range of positions for each axis. What a box of a result needs is what the dependences of its
step say, as far as it exists: a window that reaches over the border of the whole reads padding there, in a tile as in
the whole, and nowhere else. On an axis that a box covers as a whole, a step stays as it is.

Along one axis, outputs :math:`a \le o < b` of windows with stride s, extent e and p positions of padding before read

.. math:: a s - p \;\le\; i \;<\; (b - 1) s - p + e ,

of which :math:`0 \le i < n` exists and the rest is the padding that remains. Outputs of a transposed convolution read
:math:`\lceil (a + p - e + 1) / s \rceil \le i \le \lfloor (b - 1 + p) / s \rfloor`, and crop so many more outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import UnsupportedError
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape

Interval: TypeAlias = tuple[int, int]
"""Positions from the first to the one after the last."""
Box: TypeAlias = tuple[Interval, ...]
"""A span of each axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One box of a result.

    Attributes:
        step: the step, with the names of the whole, for values that are boxes.
        box: what it computes: at least what was asked for.
        reads: the box that it takes of each value that it reads, in the order of ``step.reads``.
    """

    step: Any
    box: Box
    reads: tuple[Box, ...]


def whole(shape: Sequence[int]) -> Box:
    """The box that is all of a value."""
    return tuple((0, size) for size in shape)


def box_shape(box: Box) -> Shape:
    """The shape of what is in a box."""
    return tuple(stop - first for first, stop in box)


def hull(a: Box, b: Box) -> Box:
    """The smallest box around two."""
    return tuple((min(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))


def take(array: npt.NDArray[Any], box: Box) -> npt.NDArray[Any]:
    """What a box of an array holds; the array itself where that is all of it."""
    if box == whole(array.shape):
        return array
    return np.ascontiguousarray(array[tuple(slice(*span) for span in box)])


def through_broadcast(source: Shape, box: Box) -> Box:
    """What a box demands of a value of shape ``source`` that is repeated, by NumPy's rules."""
    tail = box[len(box) - len(source) :]
    return tuple((0, 1) if size == 1 else span for size, span in zip(source, tail, strict=True))


def refuse_cut(box: Box, shape: Shape, axes: Sequence[int], what: str) -> None:
    """Refuse to cut a result along axes whose positions depend on one another.

    Raises:
        UnsupportedError: the box covers a part of one of them.
    """
    for axis in axes:
        if box[axis] != (0, shape[axis]):
            raise UnsupportedError(
                f"{what} needs all of axis {axis} of a value of shape {tuple(shape)}", need="positions in tiles"
            )


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows along one axis.

    Attributes:
        outputs, reads: what they compute and read.
        padding: positions of padding that remain, before and after.
        last: where the last window ends, counted from the beginning of the whole.
    """

    outputs: Interval
    reads: Interval
    padding: Interval
    last: int


def cut_windows(taps: Axis, size: int, outputs: int, span: Interval, mode: str = "constant") -> Windows:
    """The windows of some outputs, and of more where all that they see is padding.

    Args:
        taps: the windows of the whole; not transposed.
        size, outputs: positions before and after.
        span: the outputs that are asked for.
        mode: what padding holds, as for a `PadStep`.

    Example:
        >>> cut_windows(Axis(3, padding=(1, 1)), 8, 8, (0, 4)).reads
        (0, 5)
        >>> cut_windows(Axis(3, padding=(1, 1)), 8, 8, (3, 6)).padding
        (0, 0)

    Raises:
        UnsupportedError: padding that wraps around.
    """
    before, stride, extent = taps.padding[0], taps.stride, taps.extent
    first, stop = span
    if span == (0, outputs):
        end = (outputs - 1) * stride - before + extent
        return Windows(span, (0, size), taps.padding, end)
    while True:
        low, high = first * stride - before, (stop - 1) * stride - before + extent
        if mode == "wrap" and (low < 0 or high > size):
            raise UnsupportedError("padding that wraps around reads the other end of the axis", need="other padding")
        # Padding that repeats the input is made of so many positions next to the border.
        near = min(size, -low + 1 if mode == "reflect" else 1) if low < 0 else 0
        far = max(0, size - (high - size + 1 if mode == "reflect" else 1)) if high > size else size
        wanted = (
            min(first, max(0, (far + before) // stride)) if low > far else first,
            max(stop, min(outputs, ceil_div(near + before - extent, stride) + 1)) if high < near else stop,
        )
        if wanted == (first, stop):
            break
        first, stop = wanted
    start = min(max(low, 0), size - 1)
    end = max(min(high, size), start + 1, near)
    return Windows((first, stop), (start, end), (start - low, max(high - end, 0)), high)


def cut_transposed(taps: Axis, size: int, span: Interval) -> tuple[Interval, Axis]:
    """What some outputs of a transposed convolution read along one axis, and its axis for them.

    Example:
        >>> cut_transposed(Axis(4, 2, padding=(1, 1), transposed=True), 8, (6, 10))
        ((2, 6), Axis(kernel=4, stride=2, dilation=1, padding=(3, 3), transposed=True, output_padding=0, flip=False))
    """
    if span == (0, taps.infer_output(size)):
        return (0, size), taps
    (first, stop), before, stride = span, taps.padding[0], taps.stride
    low = min(ceil_div(first + before - taps.extent + 1, stride), (first + before) // stride)
    low = min(max(low, 0), size - 1)
    high = max(min((stop - 1 + before) // stride + 1, size), low + 1)
    crop = first + before - low * stride
    rest = (high - low - 1) * stride + taps.extent - crop - (stop - first)
    padding = (crop, max(rest, 0))
    found = Axis(taps.kernel, stride, taps.dilation, padding, True, max(-rest, 0), taps.flip)
    return (low, high), found


def group_axes(shape: Shape, parts: list[int] | Shape) -> list[list[int]] | None:
    """For each axis of ``shape``, the consecutive axes of ``parts`` whose product it is; ``None`` if they overlap."""
    if not shape:
        return []
    groups: list[list[int]] = [[] for _ in shape]
    axis, product = 0, 1
    for number, size in enumerate(parts):
        while axis < len(shape) - 1 and product == shape[axis] and (size > 1 or groups[axis]):
            if size == 1 and shape[axis + 1] != 1:
                break
            axis, product = axis + 1, 1
        product *= size
        groups[axis].append(number)
    fits = all(math.prod(parts[n] for n in group) == size for size, group in zip(shape, groups, strict=True))
    return groups if fits else None
