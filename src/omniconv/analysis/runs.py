"""Sets of positions on one axis, as sorted runs ``(first, last)`` that neither touch nor overlap.

A field without holes is one run however large it is, and a sparse one has as many runs as it has pieces: both stay
small in networks as they are built. Positions may lie outside the axis, where padding is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from omniconv.integers import ceil_div
from omniconv.limits import check_memory
from omniconv.spec import Axis

Runs: TypeAlias = tuple[tuple[int, int], ...]

_RUN_BYTES: Final = 200
"""Memory of one run: a tuple, two integers and its place in the set [bytes]."""


def join(spans: Iterable[tuple[int, int]]) -> Runs:
    """The set that covers all spans.

    Example:
        >>> join([(4, 5), (0, 1), (2, 2)]), join([(3, 4), (0, 1)])
        (((0, 2), (4, 5)), ((0, 1), (3, 4)))
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return tuple(found)


def count(runs: Runs) -> int:
    """Number of positions."""
    return sum(last - first + 1 for first, last in runs)


def contains(runs: Runs, other: Runs) -> bool:
    """Whether every position of ``other`` is one of ``runs``."""
    return runs == other or join(runs + other) == runs


def move(runs: Runs, shift: int) -> Runs:
    """All positions moved."""
    return tuple((first + shift, last + shift) for first, last in runs) if shift else runs


def clip(runs: Runs, size: int) -> Runs:
    """The positions from 0 to ``size - 1``."""
    inside = ((max(first, 0), min(last, size - 1)) for first, last in runs)
    return tuple((first, last) for first, last in inside if first <= last)


def scale(runs: Runs, factor: int, shift: int) -> Runs:
    """``o * factor + shift`` for every position o.

    Example:
        >>> scale(((0, 2),), 2, 1), scale(((0, 2),), -1, 0)
        (((1, 1), (3, 3), (5, 5)), ((-2, 0),))
    """
    if factor == 1:
        return move(runs, shift)
    if factor == -1:
        return tuple((shift - last, shift - first) for first, last in reversed(runs))
    _check(count(runs))
    return join((at := o * factor + shift, at) for first, last in runs for o in range(first, last + 1))


def divide(runs: Runs, divisor: int) -> Runs:
    """The floor of ``o / divisor`` for every position o."""
    return join((first // divisor, last // divisor) for first, last in runs)


def wrap(runs: Runs, size: int) -> Runs:
    """``o mod size`` for every position o.

    Example:
        >>> wrap(((2, 4),), 4)
        ((0, 0), (2, 3))
    """
    spans: list[tuple[int, int]] = []
    for first, last in runs:
        a, b = first % size, last % size
        if last - first + 1 >= size:
            return ((0, size - 1),)
        spans += [(a, b)] if a <= b else [(0, b), (a, size - 1)]
    return join(spans)


def add(runs: Runs, other: Runs) -> Runs:
    """Every sum of a position of ``runs`` and one of ``other``."""
    if len(runs) == len(other) == 1:
        return ((runs[0][0] + other[0][0], runs[0][1] + other[0][1]),)
    _check(len(runs) * len(other))
    return join((a + c, b + d) for a, b in runs for c, d in other)


def read(runs: Runs, axis: Axis) -> Runs:
    r"""What the taps of outputs in ``runs`` read.

    Formula:
        :math:`\{o s + t d - p\}`; transposed :math:`\{(o + p - t d) / s\}`, where that is whole.

    Example:
        >>> read(((0, 1),), Axis(2, stride=3)), read(((0, 4),), Axis(1, stride=3, transposed=True))
        (((0, 1), (3, 4)), ((0, 1),))
        >>> read(((1, 1),), Axis(1, stride=3, transposed=True))
        ()
    """
    k, s, d, p = axis.kernel, axis.stride, axis.dilation, axis.padding[0]
    if axis.transposed:
        _check(len(runs) * k)
        ends = ((ceil_div(a + p - t * d, s), (b + p - t * d) // s) for a, b in runs for t in range(k))
        return join((first, last) for first, last in ends if first <= last)
    if d == 1 or k == 1:
        if s <= k:
            return join((a * s - p, b * s - p + k - 1) for a, b in runs)
        _check(count(runs))
        return join((o * s - p, o * s - p + k - 1) for a, b in runs for o in range(a, b + 1))
    return join(span for t in range(k) for span in scale(runs, s, t * d - p))


def _check(pieces: int) -> None:
    check_memory(_RUN_BYTES * pieces, f"a receptive field of {pieces} pieces")
