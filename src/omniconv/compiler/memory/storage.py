"""Buffers, the places of values in them, and the memory plan of an arena."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.compiler.memory.layout import Layout
from omniconv.integers import ceil_div
from omniconv.program.element import BFLOAT16, INT16, Element
from omniconv.records import dataclass
from omniconv.spec import Shape


class BufferRef(NamedTuple):
    """A place in a buffer: its index and an offset, in elements of the value there, by default those of the program."""

    buffer: int
    offset: int = 0
    element: Element | None = None

    def shift(self, elements: int) -> BufferRef:
        """A place so many elements further."""
        return self._replace(offset=self.offset + elements)

    @property
    def bits(self) -> BufferRef:
        """The same place for a kernel that moves numbers as they are."""
        return self._replace(element=INT16) if self.element is BFLOAT16 else self


@dataclass(slots=True)
class Buffer:
    """A block of memory that kernels are given the address of.

    Attributes:
        kind: ``arena`` (planned below), ``input`` and ``output`` (the caller's arrays), ``constant`` (weights and
            tables, made once), ``zero`` (nothing but zeros, shared), ``scratch`` (one of this size for each thread).
        size: bytes.
        index: for inputs and outputs, which one.
        make: for constants, computes the content.
        packed: for weights, how they are arranged: what the content depends on beside the step that they belong to.
        first, last: for arena buffers, the first and last call that touches it.
    """

    kind: str
    size: int
    index: int = 0
    make: Callable[[], npt.NDArray[Any]] | None = None
    packed: Hashable | None = None
    first: int = -1
    last: int = -1

    def touch(self, call: int) -> None:
        """Extend the lifetime to a call."""
        if self.first < 0 or call < self.first:
            self.first = call
        self.last = max(self.last, call)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a value is: a buffer, the offset of its first element [elements], its layout, and its element, where that
    is not the program's.
    """

    buffer: int
    offset: int
    layout: Layout
    element: Element | None = None

    def shift(self, elements: int) -> Stored:
        """The value that begins so many elements further."""
        return replace(self, offset=self.offset + elements)

    @property
    def ref(self) -> BufferRef:
        """The address of the first element."""
        return BufferRef(self.buffer, self.offset, self.element)


def reshape_strides(sizes: Sequence[int], strides: Sequence[int], shape: Shape) -> tuple[int, ...] | None:
    """Strides of ``shape`` as a row-major view of an array of ``sizes`` and ``strides``; ``None`` where it needs a
    copy.
    """
    if math.prod(sizes) != math.prod(shape):
        raise AssertionError(f"reshape of {tuple(sizes)} to {shape}")
    old = [(size, stride) for size, stride in zip(sizes, strides, strict=True) if size != 1]
    new = [size for size in shape if size != 1]
    found: list[int] = []
    i = j = 0
    while i < len(old):
        end_i, end_j, left, right = i + 1, j + 1, old[i][0], new[j]
        while left != right:
            if left < right:
                left, end_i = left * old[end_i][0], end_i + 1
            else:
                right, end_j = right * new[end_j], end_j + 1
        for outer, inner in zip(old[i : end_i - 1], old[i + 1 : end_i], strict=True):
            if outer[1] != inner[0] * inner[1]:
                return None
        stride, part = old[end_i - 1][1], []
        for size in reversed(new[j:end_j]):
            part.append(stride)
            stride *= size
        found += reversed(part)
        i, j = end_i, end_j
    values = iter(found)
    return tuple(0 if size == 1 else next(values) for size in shape)


def common_split(a: Shape, b: Shape) -> Shape | None:
    """The coarsest shape that both row-major shapes are merges of; ``None`` where there is none."""
    left, right = [s for s in a if s != 1], [s for s in b if s != 1]
    found: list[int] = []
    i = j = 0
    x = left[0] if left else 1
    y = right[0] if right else 1
    while i < len(left) and j < len(right):
        small = math.gcd(x, y) if x != y else x
        if small not in (x, y):
            return None
        # The inner factor is peeled last: take the outer part common to both.
        if x == y:
            found.append(x)
            i, j = i + 1, j + 1
            x = left[i] if i < len(left) else 1
            y = right[j] if j < len(right) else 1
        elif x > y:
            found.append(y)
            x //= y
            j += 1
            y = right[j] if j < len(right) else 1
        else:
            found.append(x)
            y //= x
            i += 1
            x = left[i] if i < len(left) else 1
    return tuple(found)


def split_axes(sizes: Sequence[int], strides: Sequence[int], split: Shape) -> list[list[tuple[int, int]]] | None:
    """Each axis of ``split``, a row-major reading of an array of ``sizes`` and ``strides``, as (size, stride) of the
    fewest axes that it consists of in memory; ``None`` where some axis begins or ends inside of a step.

    Example:
        >>> split_axes((4, 6, 5), (1, 40, 8), (4, 30))
        [[(4, 1)], [(30, 8)]]
        >>> split_axes((4, 6, 5), (1, 40, 8), (30, 4)) is None
        True
    """
    whole: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if whole and whole[-1][1] == size * stride:
            whole[-1] = (whole[-1][0] * size, stride)
        else:
            whole.append((size, stride))
    fine = common_split(tuple(size for size, _ in whole), split)
    steps = None if fine is None else reshape_strides(sizes, strides, fine)
    if fine is None or steps is None:
        return None
    rest = list(zip(fine, steps, strict=True))
    found = []
    for size in split:
        part: list[tuple[int, int]] = []
        while math.prod(s for s, _ in part) != size:
            part.append(rest.pop(0))
        found.append(part)
    return found


def merge_axes(sizes: Sequence[int], *strides: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
    """Merge all axes into one, for several arrays at once; ``None`` where some array has a gap."""
    total = 1
    merged: list[int] | None = None
    for axis in range(len(sizes) - 1, -1, -1):
        if sizes[axis] == 1:
            continue
        if merged is None:
            merged = [s[axis] for s in strides]
        elif any(s[axis] != total * m for s, m in zip(strides, merged, strict=True)):
            return None
        total *= sizes[axis]
    return total, tuple(merged or [0] * len(strides))


ALIGNMENT = 64
GUARD = 64
"""Bytes kept free after every arena buffer, so that a whole vector may be read past its end."""


def whole_lines(size: int) -> int:
    """So many bytes that what lies behind them is aligned."""
    return ceil_div(size, ALIGNMENT) * ALIGNMENT


def plan_arena(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Offsets of the arena buffers and the size of the arena [bytes]: best fit by size, largest first."""
    offsets = [-1] * len(buffers)
    order = [i for i, buffer in enumerate(buffers) if buffer.kind == "arena" and buffer.first >= 0]
    order.sort(key=lambda i: (-buffers[i].size, buffers[i].first))
    total = 0
    placed: list[tuple[int, int, int]] = []
    for i in order:
        size = ceil_div(buffers[i].size + GUARD, ALIGNMENT) * ALIGNMENT
        busy = sorted(
            (start, stop)
            for start, stop, j in placed
            if buffers[j].first <= buffers[i].last and buffers[i].first <= buffers[j].last
        )
        best, best_gap, cursor = -1, math.inf, 0
        for start, stop in busy:
            gap = start - cursor
            if size <= gap < best_gap:
                best, best_gap = cursor, gap
            cursor = max(cursor, stop)
        offset = best if best >= 0 else cursor
        offsets[i] = offset
        placed.append((offset, offset + size, i))
        total = max(total, offset + size)
    return offsets, total


def take_channels(layout: Layout, source: Sequence[int]) -> tuple[Layout, int]:
    """A view of some channels in some order, and the offset of its first element [elements]."""
    positions = range(layout.shape[1]) if layout.channels is None else layout.channels
    chosen = [positions[c] for c in source]
    shape = (layout.shape[0], len(chosen), *layout.shape[2:])
    if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        view = replace(layout, shape=shape, channels=None, tail=False)
        return view, chosen[0] * layout.strides[1]
    return replace(layout, shape=shape, channels=tuple(chosen), tail=False), 0


def permutation_of(layout: Layout) -> npt.NDArray[np.int64] | None:
    """Logical channel at each storage position, if the channels are a permutation of a run starting at 0."""
    if layout.channels is None:
        return None
    order = np.argsort(np.asarray(layout.channels))
    if sorted(layout.channels) != list(range(len(layout.channels))):
        return None
    return order
