"""How the elements of all channels are visited: in blocks, whose sums are made in one order.

Where channels lie last, a unit of work is some neighbouring vectors of channels in a block of positions: several lines
of memory of each position, since single ones in large steps are foreseen by no processor. Where they lie first, it is
one channel in a block of images, and vectors run along its positions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import count_groups, emit_fold, emit_vectors
from omniconv.integers import ceil_div
from omniconv.records import dataclass

_LEAST_ROWS: Final = 128
"""Positions in a block at least, so that few sums are left to be added up."""
_AHEAD: Final = 2**11
"""How far ahead a unit asks for memory [bytes of its own channels]."""
_ELEMENTS: Final = 2**13
"""Elements of a channel in a block of images, about: a block is read twice, from the second-level cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The elements of ``(N, C, positions)``.

    Attributes:
        images, channels, positions: sizes.
        pitches: where channels lie last, the distance between positions in each array [elements]; else empty.
        lanes: of a vector.
    """

    images: int
    channels: int
    positions: int
    pitches: tuple[int, ...]
    lanes: int

    @property
    def last(self) -> bool:
        """Whether channels lie last."""
        return bool(self.pitches)

    @property
    def size(self) -> int:
        """Elements of a channel."""
        return self.images * self.positions

    @property
    def lines(self) -> int:
        """What blocks are made of: positions of all images, or images."""
        return self.size if self.last else self.images

    @property
    def block(self) -> int:
        """Lines in a block. The number of blocks, and of lines in one, grow with the root of that of all."""
        if self.last:
            return min(self.size, max(_LEAST_ROWS, 1 << math.isqrt(self.size).bit_length()))
        return min(self.images, max(1, _ELEMENTS // self.positions))

    @property
    def blocks(self) -> int:
        """Blocks of each channel."""
        return ceil_div(self.lines, self.block)

    @property
    def counts(self) -> tuple[int, int]:
        """Elements of a channel in a block, and in the last one."""
        each = self.block * (1 if self.last else self.positions)
        return each, self.size - (self.blocks - 1) * each

    @property
    def pitch(self) -> int:
        """Distance between rows with a number for each channel, in memory of the kernels [elements]."""
        return ceil_div(self.channels, self.lanes) * self.lanes

    def count_units(self, group: int) -> int:
        """Units of work, with so many vectors of channels in one."""
        return self.blocks * (count_groups(self.channels, self.lanes, group) if self.last else self.channels)


@dataclass(frozen=True, slots=True)
class Spot:
    """A vector of elements: where it is in each array, and how many there are where it is not full."""

    k: Kernel
    offsets: tuple[Index, ...]
    count: int | None

    def load(self, array: int) -> Value:
        """The vector in an array."""
        return self.k.load(self.k.arg(array), self.offsets[array], count=self.count)

    def store(self, value: Value, array: int, at: int) -> None:
        """Write it to the array at argument ``at``, which lies as ``array`` says."""
        self.k.store(value, self.k.arg(at), self.offsets[array], count=self.count)


Visit: TypeAlias = Callable[[int, int, Spot], None]
"""Gets the running number of a vector within one step of a loop, that of its channels, and its place."""


class Unit(ABC):
    """A unit of work: some channels in a block.

    Attributes:
        block: its number.
        vectors: of channels; one, which stands for a single channel, where channels lie first.
        slots: vectors that one step of its loop visits.
    """

    k: Kernel
    block: Index
    vectors: int
    slots: int

    @abstractmethod
    def read(self, numbers: Pointer) -> list[Value]:
        """For each vector of channels their numbers."""

    @abstractmethod
    def write(self, values: list[Value], numbers: Pointer) -> None:
        """The same, backwards."""

    @abstractmethod
    def join(self, sums: list[Value]) -> list[Value]:
        """For each vector of channels their sums, from those of the lanes."""

    @abstractmethod
    def each(self, visit: Visit) -> None:
        """Visit all elements, those of a channel in order."""

    @abstractmethod
    def count(self) -> Value:
        """Elements of a channel, in every lane."""

    def total(self, many: int, visit: Callable[[int, Spot], list[Value]]) -> list[list[Value]]:
        """``many`` sums for each vector of channels: lanes run on by themselves, and slots are combined at the end."""
        k, zero = self.k, self.k.splat(0.0)
        sums = [[k.variable(zero.type, zero) for _ in range(self.slots)] for _ in range(many)]

        def add(slot: int, v: int, place: Spot) -> None:
            for own, value in zip(sums, visit(v, place), strict=True):
                if place.count is not None:
                    value = k.b.select(k.first_lanes(place.count, k.lanes), value, zero)
                k.set(own[slot], k.b.fadd(k.get(own[slot]), value))

        self.each(add)
        found = []
        for own in sums:
            values = [k.get(slot) for slot in own]
            while len(values) > self.vectors:
                half = len(values) // 2
                values = [k.b.fadd(a, b) for a, b in zip(values[:half], values[half:], strict=True)]
            found.append(self.join(values))
        return found


class _Positions(Unit):
    """Vectors of channels, which lie last, in a block of positions; ``together`` and ``asked`` as in
    :func:`emit_units`.
    """

    def __init__(
        self,
        k: Kernel,
        walk: Walk,
        block: Index,
        channel: Index,
        vectors: int,
        tail: int | None,
        *,
        together: int,
        asked: int,
    ) -> None:
        self._together, self._asked = together, asked
        self.k, self.block, self.vectors, self.slots = k, block, vectors, vectors
        self._pitches = walk.pitches
        self._first = k.mul(block, walk.block)
        self._end = k.min(k.add(self._first, walk.block), walk.lines)
        counts = [None] * (vectors - 1) + [tail]
        self._channels = [(k.add(channel, v * k.lanes), count) for v, count in enumerate(counts)]

    def read(self, numbers: Pointer) -> list[Value]:
        return [self.k.load(numbers, channel, count=count) for channel, count in self._channels]

    def write(self, values: list[Value], numbers: Pointer) -> None:
        for value, (channel, count) in zip(values, self._channels, strict=True):
            self.k.store(value, numbers, channel, count=count)

    def join(self, sums: list[Value]) -> list[Value]:
        return sums

    def each(self, visit: Visit) -> None:
        k, whole = self.k, self._first
        if self._together > 1:
            whole = k.sub(self._end, k.divmod(k.sub(self._end, self._first), self._together)[1])
            with k.loop(whole, start=self._first, step=self._together) as row:
                self._visit(visit, row, self._together)
        with k.loop(self._end, start=whole) as row:
            self._visit(visit, row, 1)

    def _visit(self, visit: Visit, row: Index, many: int) -> None:
        """Some neighbouring positions: those of one vector of channels after another."""
        k = self.k
        line = ceil_div(k.target.traits.line_bytes, k.target.element.bytes)
        rows = max(1, _AHEAD // (k.target.element.bytes * k.lanes * self.vectors))
        starts = [k.mul(row, pitch) for pitch in self._pitches]
        for v, (channel, count) in enumerate(self._channels):
            places = [k.add(start, channel) for start in starts]
            if v * k.lanes % line == 0:
                for array in range(self._asked):
                    k.prefetch(k.arg(array), k.add(places[array], rows * self._pitches[array]))
            for r in range(many):
                offsets = [k.add(at, r * pitch) for at, pitch in zip(places, self._pitches, strict=True)]
                visit(v, v, Spot(k, tuple(offsets), count))

    def count(self) -> Value:
        many = self.k.index(self.k.sub(self._end, self._first))
        return self.k.spread(self.k.b.sitofp(many, self.k.scalar))


class _Runs(Unit):
    """One channel, whose positions are neighbours, in a block of images."""

    vectors = 1

    def __init__(self, k: Kernel, walk: Walk, block: Index, channel: Index, run: int) -> None:
        self.k, self._walk, self.block, self._channel = k, walk, block, channel
        self.slots = min(run, 1 << (ceil_div(walk.positions, walk.lanes) - 1).bit_length())
        self._first = k.mul(block, walk.block)
        self._end = k.min(k.add(self._first, walk.block), walk.images)

    def read(self, numbers: Pointer) -> list[Value]:
        return [self.k.load_splat(numbers, self._channel)]

    def write(self, values: list[Value], numbers: Pointer) -> None:
        self.k.store_scalar(self.k.b.extract_element(values[0], 0), numbers, self._channel)

    def join(self, sums: list[Value]) -> list[Value]:
        return [self.k.spread(emit_fold(self.k, self.k.b.fadd, sums[0]))]

    def each(self, visit: Visit) -> None:
        k, walk = self.k, self._walk
        with k.loop(self._end, start=self._first) as image:
            start = k.mul(k.add(k.mul(image, walk.channels), self._channel), walk.positions)

            def body(at: Index, vectors: int, tail: int | None) -> None:
                for v in range(vectors):
                    offset = k.add(start, k.add(at, v * k.lanes))
                    visit(v, 0, Spot(k, (offset,) * 3, tail if v == vectors - 1 else None))

            emit_vectors(k, walk.positions, body, group=self.slots)

    def count(self) -> Value:
        many = self.k.mul(self.k.sub(self._end, self._first), self._walk.positions)
        return self.k.spread(self.k.b.sitofp(self.k.index(many), self.k.scalar))


def emit_units(
    k: Kernel, walk: Walk, group: int, run: int, body: Callable[[Unit], None], *, together: int = 1, asked: int = 0
) -> None:
    """Run ``body`` on this thread's units.

    Args:
        k: the kernel.
        walk: the elements.
        group: vectors of channels in a unit, where channels lie last.
        run: vectors of positions in a step, where they lie first, a power of two.
        body: emits the work on a unit.
        together: positions in a step, where channels lie last: what the registers do not hold for each channel is read
            and written once for all of them.
        asked: so many of the first arrays are asked for before they are needed, where channels lie last; where they lie
            first, the processor foresees them.
    """
    with k.loop(k.end, start=k.begin) as index:
        if walk.last:
            parts = count_groups(walk.channels, walk.lanes, group)
            block, part = k.split(index, walk.blocks, parts)

            def emit(channel: Index, vectors: int, tail: int | None) -> None:
                body(_Positions(k, walk, block, channel, vectors, tail, together=together, asked=asked))

            emit_vectors(k, walk.channels, emit, group=group, part=part, parts=parts)
        else:
            block, channel = k.split(index, walk.blocks, walk.channels)
            body(_Runs(k, walk, block, channel, run))
