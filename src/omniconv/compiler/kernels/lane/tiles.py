"""Tiles of the lane family, and what each is expected to cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple, TypeAlias, cast

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index
from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.problem.candidate import (
    FEWEST,
    Candidate,
    Sizes,
    count_tiles_in_unit,
    find_cheapest,
)
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.open_size import is_open, most
from omniconv.records import dataclass
from omniconv.target.model import Target

WHOLE: Final = "a whole group fits one vector"
"""Why a layer is not left to the panel kernel."""


def list_lanes(problem: Problem, target: Target) -> tuple[Iterator[Candidate[LaneTile]], ...]:
    """Every tile of the stencil, and every tile of the lane kernel, whose costs have another unit."""
    return list_stencils(problem, target), list_rows(problem, target)


def list_rows(problem: Problem, target: Target) -> Iterator[Candidate[LaneTile]]:
    """Every tile of the lane kernel: a row of outputs with loops over the taps."""
    width = problem.axes[2]
    count = min(width.counts)
    chunk, wide = _size_row(problem, target)
    parts, vectors = _split_rows(problem, target), _count_vectors(problem, target)
    for columns in range(1, min(wide, count) + 1):
        block, split = _share(problem, vectors, problem.axes[1].output, ceil_div(count, columns))
        yield Candidate(_cost_row(target, count, columns), LaneTile(columns, chunk, block, max(split, parts)))


def _size_row(problem: Problem, target: Target) -> tuple[int, int]:
    """Taps of the width that are unrolled together, and the most sums that fit the registers beside them."""
    width = problem.axes[2]
    chunk = min(4, width.kernel)
    if not target.traits.keeps_weights:
        # One input of a group is served at a time, so that its weights and an input stay beside the sums.
        return chunk, target.registers - 2 - chunk
    # The weights of a chunk stay in registers beside the sums, and so do the inputs of a few pixels if LLVM reads them
    # ahead.
    room = target.registers - 1 - (3 * problem.inputs if target.traits.gathers_loads and problem.inputs > 1 else 0)
    if problem.inputs > 1:
        chunk = width.kernel if room - width.kernel * problem.inputs >= 7 else 1
    return chunk, min(14, max(7, room - chunk * problem.inputs))


def _cost_row(target: Target, count: int, columns: int) -> float:
    """Cost of one output: what overlapping tiles compute twice, and what a tile costs beside its outputs."""
    busy = max(columns, target.traits.row_sums)
    return ceil_div(count, columns) * (busy + 1.5) / count


def _split_rows(problem: Problem, target: Target) -> int:
    """Parts of the channels whose rows under the kernel stay in the first-level cache, where all channels' do not: each
    part is then computed over all positions before the next. Parts stay at least two lines wide; large images, which
    come from a far cache, are read in order.
    """
    depth, height, width = problem.axes
    row = target.element.bytes * width.size * problem.groups
    window = row * depth.kernel * height.kernel
    image = row * depth.size * height.size
    if target.traits.second_level_keeps_up or problem.inputs > 1 or height.in_step > 1 or height.kernel == 1:
        return 1
    if window <= target.l1_bytes or image > 4 * target.cache_bytes:
        return 1
    narrowest = 2 * target.traits.line_bytes // target.element.bytes
    return max(1, min(problem.groups // narrowest, ceil_div(window, target.l1_bytes // 3)))


def list_stencils(problem: Problem, target: Target) -> Iterator[Candidate[StencilTile]]:
    """Every tile of the stencil; none where the kernel is too long or a group has several input channels."""
    for sides in _weigh_stencils(problem, target):
        yield Candidate(sides.cost, _make_stencil(problem, target, sides))


def _find_stencil(problem: Problem, target: Target) -> StencilTile | None:
    """The cheapest of them: of the many that are compared, only this one has to be made."""
    found = find_cheapest(_weigh_stencils(problem, target))
    return None if found is None else _make_stencil(problem, target, found)


def _weigh_stencils(problem: Problem, target: Target) -> Iterator[_Sides]:
    """What every tile of the stencil costs."""
    height, width = problem.axes[1], problem.axes[2]
    if max(height.taps) * max(width.taps) > 9 or problem.inputs > 1:
        return
    most = target.traits.stencil_sums
    wide = _list_sides(width, most)
    for tall in _list_sides(height, 4):
        for side in wide:
            if side.axis.count > max(wide[0].axis.count, most // tall.axis.count):
                break
            yield _Sides(_cost_stencil(problem, tall, side), tall, side)


def _make_stencil(problem: Problem, target: Target, sides: _Sides) -> StencilTile:
    """The tile with these sides."""
    tall, wide = sides.tall.axis, sides.wide.axis
    block, split = _share(problem, _count_vectors(problem, target), tall.tiles, wide.tiles)
    return StencilTile(wide.count, 1, block, split, tall.count, (tall.spread, wide.spread))


class _TileSide(NamedTuple):
    """One side of a tile: how many different offsets it reads, its taps, and how many there are."""

    axis: TileAxis
    reads: int
    taps: int
    tiles: int

    @classmethod
    def of(cls, axis: TileAxis) -> _TileSide:
        """That of an axis."""
        return cls(axis, len(axis.offsets), sum(map(len, axis.taps())), axis.tiles)


@lru_cache(maxsize=1024)
def _list_sides(walk: AxisWalk, most: int) -> list[_TileSide]:
    """The sides to consider: of whole phases, no longer than there are outputs, of so many outputs at most."""
    spread = _spread(walk)
    step = walk.out_step if not walk.static else 1
    limit = max(step, min(most, ceil_div(walk.output, spread)))
    return [_TileSide.of(TileAxis(walk, count, spread)) for count in range(step, limit + 1, step)]


class _Sides(NamedTuple):
    """The sides of a tile, and its cost."""

    cost: float
    tall: _TileSide
    wide: _TileSide


def _cost_stencil(problem: Problem, tall: _TileSide, wide: _TileSide) -> float:
    """Cost of one vector of channels of the whole layer, by multiply-adds and loads."""
    height, width = problem.axes[1], problem.axes[2]
    taps = max(height.taps) * max(width.taps)
    lines, across, work = tall.reads, wide.reads, tall.taps * wide.taps
    outputs = tall.axis.count * wide.axis.count
    # A few accumulators do not hide the latency of a multiply-add. Beyond some 24 positions read side by side the
    # prefetchers lose track.
    cost = work * max(1.0, 4.0 / outputs) + 0.5 * (lines * across + taps + outputs)
    cost += 2.0 * max(0, lines * across - 24)
    if width.in_step > 1:
        # Rows come from a farther cache than columns, which the neighbouring tile has just read.
        cost += lines * width.in_step * wide.axis.count * problem.axes[0].kernel
    return cost * tall.tiles * wide.tiles


def _spread(axis: AxisWalk) -> int:
    """Distance between outputs that share inputs: the dilation, for layers of stride 1."""
    return min(axis.ostep, axis.output) if axis.static and axis.in_step == 1 and axis.ostep > 1 else 1


def _count_vectors(problem: Problem, target: Target) -> int:
    """Vectors of channels."""
    return ceil_div(problem.groups, Grouping.of(problem, target).groups)


def _share(problem: Problem, vectors: int, rows: int, tiles: int) -> tuple[int, int]:
    """Tiles in a unit, and parts of the channels, so that there are enough units for a few threads."""
    lines = problem.batch * problem.axes[0].output * rows
    block = count_tiles_in_unit(lines, tiles)
    return block, min(vectors, max(1, FEWEST // (lines * ceil_div(tiles, block))))


def fits_both(problem: Problem, target: Target) -> bool:
    """Whether a problem may be given to either kernel, lane or panel: groups of half a vector to a whole one.

    (Kernels of one tap are not given from one to the other, because the panel kernel sees them as another problem.)
    """
    return (
        problem.groups > 1
        and problem.inputs <= problem.outputs
        and target.lanes <= 2 * problem.outputs <= 2 * target.lanes
        and any(axis.kernel > 1 for axis in problem.axes)
    )


def reject_lane(problem: Problem, target: Target) -> str | None:
    """Why a problem is left to the panel kernel; ``None`` where the lane kernel is the better one."""
    if problem.groups == 1:
        return "one group: every lane needs every input channel"
    if problem.outputs > target.lanes:
        return f"{problem.outputs} output channels a group fill more than {target.lanes} lanes"
    alone = target.lanes // problem.outputs == 1
    halved = not target.traits.permutes_cross_halves
    if alone and halved and problem.inputs > 1 and all(axis.kernel == 1 for axis in problem.axes):
        return "a group has a vector for itself and one tap: no other shares what is loaded"
    if alone and not halved and target.lanes % problem.outputs:
        return (
            f"one group of {problem.outputs} output channels fills a vector of {target.lanes} lanes as well as it can"
        )
    if problem.inputs > problem.outputs:
        return f"{problem.inputs} input channels a group are more than its {problem.outputs} output channels"
    return None


def plan_lane(problem: Problem, target: Target) -> LaneTile:
    """Tile of the lane family: a stencil where the kernel is short, else a row of outputs with loops over the taps."""
    stencil = None if _streams_well(problem, target) else _find_stencil(problem, target)
    if stencil is not None:
        return stencil
    found = find_cheapest(list_rows(problem, target))
    assert found is not None
    return found.tile


def _streams_well(problem: Problem, target: Target) -> bool:
    """Whether plain rows of outputs are as good as a stencil: one image stays in the cache, so that nothing is gained
    from sharing its rows, and most tiles would be at its border or stride over their inputs.
    """
    _, height, width = problem.axes
    if not (height.static and width.static):
        return False
    if max(height.ostep, width.ostep) > 1 or problem.axes[0].size > 1:
        return False
    size = target.element.bytes * problem.groups * problem.inputs * height.size * width.size
    return size <= target.cache_bytes and (width.output <= 16 or width.in_step > 1)


@dataclass(frozen=True, slots=True)
class LaneTile(Sizes):
    """The sizes that tiles of this kernel differ in.

    Attributes:
        columns: output positions in a tile.
        chunk: taps of the width that are unrolled together.
        block: tiles of a row in one unit of work.
        split: parts that the channels are divided into, as units of work.
    """

    word: ClassVar[str] = "lane"
    loose: ClassVar[frozenset[str]] = frozenset({"block", "split"})

    columns: int
    chunk: int
    block: int
    split: int


Taps: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(maxsize=4096)
def _list_taps(
    count: int,
    spread: int,
    steps: tuple[int, int, int, int],
    firsts: tuple[int, ...],
    k0: tuple[int, ...],
    taps: tuple[int, ...],
) -> tuple[Taps, frozenset[int]]:
    """The taps of a tile and all of their offsets. Images of many sizes ask for the same ones."""
    in_step, out_step, ostep, kstep = steps
    found = []
    for index in range(count):
        q, phase = divmod(index * spread, out_step)
        phase = min(phase, len(firsts) - 1)  # phases beyond the output are never stored: any taps will do
        base = q * in_step + firsts[phase]
        found.append(tuple((base + t * ostep, k0[phase] + t * kstep) for t in range(taps[phase])))
    return tuple(found), frozenset(offset for each in found for offset, _ in each)


MOST_CLASSES: Final = 3
"""Kinds of tiles along the width that get code of their own."""


@dataclass(frozen=True, slots=True)
class TileAxis:
    """Tiles of ``count`` outputs, ``spread`` apart, along one axis.

    Tiles come in blocks of ``spread`` that fill ``count * spread`` neighbouring outputs. The last block overlaps the
    one before it as far as the phases allow; what then still hangs over is not stored.
    """

    walk: AxisWalk
    count: int
    spread: int

    @property
    def extent(self) -> int:
        """Neighbouring outputs in one block of tiles."""
        return self.count * self.spread

    @property
    def tiles(self) -> int:
        """Tiles along the axis."""
        return ceil_div(self.walk.output, self.extent) * self.spread

    @property
    def last(self) -> int:
        """First output of the last block: a whole number of phases from the start."""
        step = self.walk.out_step
        return cast("int", most(ceil_div(self.walk.output - self.extent, step) * step, 0))

    @property
    def guarded(self) -> bool:
        """Whether some tile hangs over the end of the output."""
        return self.last + self.extent > self.walk.output

    @property
    def offsets(self) -> frozenset[int]:
        """What a tile reads, counted from its origin."""
        return self._list()[1]

    def classes(self) -> list[tuple[int, int, frozenset[int] | None]]:
        """Ranges of tiles that have the same offsets inside the input, with these offsets; ``None`` where they differ
        from tile to tile and are looked at on the machine.

        Usually three: the first tiles, with what lands before the input left out, those between, and the last.
        """
        every = self.offsets
        if not (self.walk.bordered or self.guarded):
            return [(0, self.tiles, every)]
        if is_open(self.walk.size):
            return [(0, self.tiles, None)]
        inside = [self._inside(tile, every) for tile in range(self.tiles)]
        bounds = [0, *(tile for tile in range(1, self.tiles) if inside[tile] != inside[tile - 1]), self.tiles]
        if self.guarded or len(bounds) > MOST_CLASSES + 1:
            return [(0, self.tiles, None)]
        return [(a, b, inside[a]) for a, b in pairwise(bounds)]

    def _inside(self, tile: int, offsets: frozenset[int]) -> frozenset[int]:
        """The offsets from the origin of one tile that land inside the input."""
        block, residue = divmod(tile, self.spread)
        start = min(block * self.extent, self.last) + residue
        origin = start // self.walk.out_step * self.walk.in_step + self.walk.first[0]
        return frozenset(offset for offset in offsets if 0 <= origin + offset < self.walk.size)

    def start(self, k: Kernel, tile: Index) -> Index:
        """First output of a tile."""
        block, residue = k.divmod(tile, self.spread)
        return k.add(k.min(k.mul(block, self.extent), self.last), residue)

    def origin(self, k: Kernel, start: Index) -> Index:
        """The input position that :meth:`taps` count from: where the first tap of the first phase is."""
        return k.add(k.mul(k.divmod(start, self.walk.out_step)[0], self.walk.in_step), self.walk.first[0])

    def taps(self) -> Taps:
        """For each output of a tile, (offset from the origin, kernel index) of its taps."""
        return self._list()[0]

    def _list(self) -> tuple[Taps, frozenset[int]]:
        walk = self.walk
        firsts = (0,) if walk.phases == 1 else tuple(first - walk.first[0] for first in walk.first)
        steps = walk.in_step, walk.out_step, walk.ostep, walk.kstep
        return _list_taps(self.count, self.spread, steps, firsts, walk.k0, walk.taps)


@dataclass(frozen=True, slots=True)
class StencilTile(LaneTile):
    """The sizes that tiles of this kernel differ in.

    Attributes:
        rows: outputs of a tile along the height (``columns`` along the width).
        spread: distance between neighbouring outputs of a tile, along height and width.
    """

    word: ClassVar[str] = "stencil"

    rows: int = 1
    spread: tuple[int, int] = (1, 1)


def count_parts(problem: Problem, target: Target, tile: LaneTile) -> int | None:
    """Parts of the channels such that a copy of one fits a near cache; ``None`` where there are none.

    As few as give a few threads work, each two cache lines wide at least, and a copy fits the first-level cache; else
    parts of these two lines, where a copy of one fits the second-level cache.
    """
    if problem.inputs * problem.outputs > 1 or isinstance(tile, StencilTile):
        return None
    image = target.element.bytes * math.prod(axis.size for axis in problem.axes)
    room, narrowest = target.l1_bytes * 4 // 5, 2 * target.traits.line_bytes // target.element.bytes
    widths = range(room // image // narrowest * narrowest, 0, -narrowest)
    parts = [problem.groups // width for width in widths if problem.groups % width == 0]
    if not parts and problem.groups % narrowest == 0 and narrowest * image <= target.cache_bytes * 4 // 5:
        return problem.groups // narrowest
    return next((count for count in parts if count * problem.batch >= FEWEST), parts[-1] if parts else None)
