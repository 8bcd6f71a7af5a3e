"""Copies between two strided arrays: layout changes, transposes, slices and gathers.

Axes are merged where both arrays allow it and ordered as y stores them. What is left decides the method:

- *vector*: some axis has neighbouring elements in x and in y; vectors run along it.
- *transpose*: neighbours in x lie along one axis and neighbours in y along another; square tiles of vectors are
  transposed in registers. The last tile overlaps the one before it instead of being cut. Where the shorter of the two
  axes is shorter than a vector and packed, whole vectors are shuffled instead.
- *scalar*: anything else.

x and y must be different buffers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Final

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_gather, emit_transpose, emit_transpose_from, emit_vectors
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, ask
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y, MAP = range(3)
"""Positions of the buffers in ``args``; MAP holds 64-bit integers, the x offset of each index of the mapped axis."""
ARGS = 3

_BLOCK: Final = 1024
"""Elements in a unit of work, at least, where there are that many."""
_LANES: Final = 8
"""Lanes of the vectors of a transpose, at most: wider ones gain nothing."""
_RUN: Final = 64
"""Elements in a run of tiles: whole cache lines of the array that has its neighbours along the run, while what the
other array has of the run, a line for each of its rows, stays in the first-level cache."""
_LINE: Final = 16
"""Elements of a cache line."""
_SETS: Final = 64
"""Sets of the first-level cache."""
_FREE: Final = 4
"""Lines in one set that do no harm."""
_RUNS: Final = 256
"""Elements across the runs of a unit."""


@dataclass(frozen=True, slots=True)
class CopyAxis:
    """One axis: its size and its strides [elements]; the offsets in x of a mapped one come from the table."""

    size: int
    x: int
    y: int
    mapped: bool = False

    def opened(self, opener: Opener) -> CopyAxis:
        """The same axis, of any size from a vector on: a shorter one is code of its own."""
        size = self.size if self.size < _LINE else opener(self.size)
        return replace(self, size=size, x=opener(self.x), y=opener(self.y))


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The recipe of one copy: everything its code depends on.

    Attributes:
        outer: the axes that are looped over, in y's order.
        inner: the axis of the vectors, of the scalars, or of y's neighbours.
        across: the axis of x's neighbours in a transpose.
        vector: whether ``inner`` has neighbours in both.
        along: whether runs of tiles of a transpose go along y's neighbours, through as many rows of x, and not along
            those of x: the rows that fall into more sets of the cache, or else the closer ones, are better met again by
            the next run.
        readable, tail: whether whole vectors may be read past the end of x's neighbours and written past that of y's.
        lanes: of a vector.
    """

    outer: tuple[CopyAxis, ...]
    inner: CopyAxis
    across: CopyAxis | None
    vector: bool
    along: bool
    readable: bool
    tail: bool
    lanes: int

    @classmethod
    def of(
        cls,
        dims: tuple[tuple[int, int, int], ...],
        lanes: int,
        *,
        mapped: int | None = None,
        readable: bool = False,
        tail: bool = False,
    ) -> Copy:
        """The recipe for (size, x stride, y stride) of each axis, in any order; ``mapped`` is the axis with a table."""
        axes = merge_axes([CopyAxis(*dim, mapped=place == mapped) for place, dim in enumerate(dims)])
        units = [axis for axis in axes if axis.x == 1 and not axis.mapped]
        along = next((axis for axis in units if axis.y == 1), None)
        across = None
        if along is None:
            inner = next((axis for axis in axes if axis.y == 1), None)
            if inner is not None and units:
                across = units[-1]
            else:
                inner = axes[-1]
        else:
            inner = along
        rest = tuple(axis for axis in axes if axis is not inner and axis is not across)
        lanes = lanes if across is None else min(lanes, _LANES)
        return cls(
            outer=rest,
            inner=inner,
            across=across,
            vector=along is not None,
            along=across is not None and not inner.mapped and ask(_crowds_less, inner.x, across.y),
            readable=readable,
            tail=tail,
            lanes=lanes,
        )

    @property
    def _work(self) -> int:
        return self.inner.size * (self.across.size if self.across else 1)

    @property
    def block(self) -> int:
        """Indices of the last outer axis in a unit."""
        last = self.outer[-1].size if self.outer else 1
        return min(last, ceil_div(_BLOCK, max(self._work, 1)))

    def opened(self, opener: Opener) -> Copy:
        """The same copy of values of any size."""
        return replace(
            self,
            outer=tuple(axis.opened(opener) for axis in self.outer),
            inner=self.inner.opened(opener),
            across=None if self.across is None else self.across.opened(opener),
        )

    def shared(self, opener: Opener) -> Copy:
        """The same, for several copies in one network."""
        return self.opened(opener)

    @property
    def _tiles(self) -> tuple[int, int]:
        """Tiles along a run, and runs."""
        assert self.across is not None
        wide, long = ceil_div(self.across.size, self.lanes), ceil_div(self.inner.size, self.lanes)
        return (long, wide) if self.along else (wide, long)

    @property
    def _tile_blocks(self) -> tuple[int, int]:
        """Tiles of a run and runs in a unit."""
        length, runs = self._tiles
        runs = min(runs, _RUNS // self.lanes)
        return min(length, max(_RUN // self.lanes, _BLOCK // (runs * self.lanes**2))), runs

    @property
    def _counts(self) -> tuple[int, ...]:
        """Radix of the units."""
        sizes = [axis.size for axis in self.outer]
        if sizes:
            sizes[-1] = ceil_div(sizes[-1], self.block)
        if self.across is None:
            return *sizes, max(1, self.inner.size // (2 * _BLOCK))
        (length, runs), (some, few) = self._tiles, self._tile_blocks
        return *sizes, ceil_div(length, some), ceil_div(runs, few)

    @property
    def units(self) -> int:
        """Units of work: blocks of the outer axes, times parts of the inner ones."""
        return math.prod(self._counts) if all(axis.size for axis in (*self.outer, self.inner)) else 0

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target, self.lanes)
        with k.loop(k.end, start=k.begin) as unit:
            digits = k.split(unit, *self._counts)
            x, y = k.arg(X), k.arg(Y)
            for axis, index in zip(self.outer[:-1], digits, strict=False):
                x, y = _move(k, axis, index, x, y)
            if not self.outer:
                self._body(k, x, y, digits)
            else:
                axis, first = self.outer[-1], k.mul(digits[len(self.outer) - 1], self.block)
                with k.loop(k.min(k.add(first, self.block), axis.size), start=first) as row:
                    self._body(k, *_move(k, axis, row, x, y), digits[len(self.outer) :])
        return k.finish()

    def _body(self, k: Kernel, x: Pointer, y: Pointer, digits: list[Index]) -> None:
        if self.across is not None:
            self._transposed(k, x, y, self.across, digits[0], digits[1])
        elif self.vector:
            self._vectors(k, x, y, digits[0])
        else:
            size, parts = self.inner.size, self._counts[-1]
            begin: Index = 0
            end: Index = size
            if parts > 1:
                begin = k.divmod(k.mul(digits[0], size), parts)[0]
                end = k.divmod(k.mul(k.add(digits[0], 1), size), parts)[0]
            with k.loop(end, start=begin) as i:
                px, py = _move(k, self.inner, i, x, y)
                k.store_scalar(k.load_scalar(px), py)

    def _vectors(self, k: Kernel, x: Pointer, y: Pointer, part: Index) -> None:
        size = self.inner.size

        def body(c: Index, vectors: int, tail: int | None) -> None:
            values = []
            for v in range(vectors):
                at, count = k.add(c, v * self.lanes), tail if v == vectors - 1 else None
                if count is not None and size >= self.lanes:
                    at, count = size - self.lanes, None
                values.append((at, count, k.load(x, at, count=None if self.readable else count)))
            for at, count, value in values:
                k.store(value, y, at, count=None if self.tail else count)

        masked = not (self.readable and self.tail)
        emit_vectors(k, size, body, group=4, masked=masked, part=part, parts=self._counts[-1])

    def _transposed(self, k: Kernel, x: Pointer, y: Pointer, across: CopyAxis, part: Index, block: Index) -> None:
        (length, runs), (some, few) = self._tiles, self._tile_blocks
        first, start = k.mul(part, some), k.mul(block, few)
        with (
            k.loop(k.min(k.add(start, few), runs), start=start) as run,
            k.loop(k.min(k.add(first, some), length), start=first) as step,
        ):
            ti, tj = (run, step) if self.along else (step, run)
            i = k.min(k.mul(ti, self.lanes), max(0, across.size - self.lanes))
            j = k.min(k.mul(tj, self.lanes), max(0, self.inner.size - self.lanes))
            self._tile(k, k.shift(x, i), k.shift(y, k.add(k.mul(i, across.y), j)), across, j)

    def _tile(self, k: Kernel, x: Pointer, y: Pointer, across: CopyAxis, j: Index) -> None:
        inner, lanes = self.inner, self.lanes
        if inner.size < lanes <= across.size and across.y == inner.size:
            rows = [k.load(_move(k, inner, r, x, y)[0]) for r in range(inner.size)]
            for m in range(inner.size):
                wanted = [((m * lanes + lane) % inner.size, (m * lanes + lane) // inner.size) for lane in range(lanes)]
                k.store(emit_gather(k, rows, wanted), y, m * lanes)
            return
        if across.size < lanes <= inner.size and inner.x == across.size and not inner.mapped:
            base = k.shift(x, k.mul(j, inner.x))
            loaded = [k.load(base, m * lanes) for m in range(across.size)]
            for i in range(across.size):
                wanted = [divmod(lane * across.size + i, lanes) for lane in range(lanes)]
                k.store(emit_gather(k, loaded, wanted), y, i * across.y)
            return
        short, wide = min(inner.size, lanes), min(across.size, lanes)
        if short == wide == lanes:
            sources = [_move(k, inner, k.add(j, r), x, y)[0] for r in range(lanes)]
            for i, value in enumerate(emit_transpose_from(k, sources)):
                k.store(value, y, i * across.y)
            return
        count = None if self.readable or wide == lanes else wide
        rows = [k.load(_move(k, inner, k.add(j, r), x, y)[0], count=count) for r in range(short)]
        rows += [Value(ir.undefined(k.vector_type()))] * (lanes - short)
        for i, value in enumerate(emit_transpose(k, rows)[:wide]):
            k.store(value, y, i * across.y, count=None if self.tail or short == lanes else short)


def _move(k: Kernel, axis: CopyAxis, index: Index, x: Pointer, y: Pointer) -> tuple[Pointer, Pointer]:
    """The addresses at one index of an axis."""
    offset = k.lookup(k.arg(MAP), index) if axis.mapped else k.mul(index, axis.x)
    return k.shift(x, offset), k.shift(y, k.mul(index, axis.y))


def _crowds_less(a: int, b: int) -> bool:
    """Whether rows so far apart share the cache better than others."""
    return _crowding(a) < _crowding(b)


@lru_cache(maxsize=256)
def _crowding(stride: int) -> tuple[int, int]:
    """How badly the rows of a run share the cache: the most cache lines in one of its sets, and their distance."""
    sets = [row * abs(stride) // _LINE % _SETS for row in range(_RUN)]
    return max(_FREE, *map(sets.count, set(sets))), abs(stride)


def merge_axes(axes: list[CopyAxis]) -> list[CopyAxis]:
    """The same copy with as few axes as possible, in the order in which y stores them; at least one."""
    kept = sorted((axis for axis in axes if axis.size != 1 or axis.mapped), key=lambda axis: -abs(axis.y))
    merged: list[CopyAxis] = []
    for axis in kept:
        if merged and not axis.mapped and not merged[-1].mapped:
            last = merged[-1]
            if last.x == axis.size * axis.x and last.y == axis.size * axis.y:
                merged[-1] = replace(axis, size=last.size * axis.size)
                continue
        merged.append(axis)
    return merged or [CopyAxis(1, 1, 1)]
