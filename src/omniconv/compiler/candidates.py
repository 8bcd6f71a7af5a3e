"""The tiles that a layer can be computed with, and what each is expected to cost: one list for each kind of kernel.

The tile that is used is the cheapest of its list, the first of those that cost the same. Costs are in vector operations
and are compared within one list only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from omniconv.compiler.grouping import Grouping
from omniconv.compiler.lane import LaneTile
from omniconv.compiler.panel import PanelTile
from omniconv.compiler.problem import Problem
from omniconv.compiler.stencil import StencilTile, TileAxis
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk

Tile: TypeAlias = LaneTile | PanelTile

UNITS = 16
"""Units of work wanted at least, so that a few threads get even shares."""
FINER = 3
"""So many times as many where they are cut from rows in any case."""
WORTH_CUTTING = 0.97
"""Part of its cost that a row of tiles may keep at most for the last tile to get code of its own."""
FIRST_LEVEL = 2**15
"""First-level data cache [bytes]."""
FEWEST = 4
"""Below so many units the channels are divided too, which costs locality."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One tile, and its expected cost."""

    cost: float
    tile: Tile


def find_cheapest(candidates: Iterable[Candidate]) -> Candidate | None:
    """The candidate with the least cost, the first of equals; ``None`` of none."""
    best: Candidate | None = None
    for candidate in candidates:
        if best is None or candidate.cost < best.cost * (1 - 1e-9):
            best = candidate
    return best


# -- lane: rows of outputs, with loops over the taps


def list_rows(problem: Problem, target: Target) -> Iterator[Candidate]:
    """Every tile of the lane kernel: a row of outputs with loops over the taps."""
    width = problem.axes[2]
    count = min(width.counts)
    chunk = min(4, width.kernel)
    if target.registers >= 32:
        # The weights of a chunk stay in registers beside the accumulators.
        if problem.inputs > 1:
            chunk = width.kernel if target.registers - 1 - width.kernel * problem.inputs >= 7 else 1
        wide = min(14, max(7, target.registers - 1 - chunk * problem.inputs))
    else:
        # One input of a group is served at a time, so that its weights and an input stay beside the accumulators.
        wide = target.registers - 2 - chunk
    parts = _split_rows(problem, target)
    for columns in range(1, min(wide, count) + 1):
        block, split = _share(problem, target, problem.axes[1].output, -(count // -columns))
        yield Candidate(_cost_row(target, count, columns), LaneTile(columns, chunk, block, max(split, parts)))


def _cost_row(target: Target, count: int, columns: int) -> float:
    """Cost of one output: what overlapping tiles compute twice, and what a tile costs beside its outputs."""
    # Two multiply-adds a cycle, each of which takes four cycles, want eight sums at a time.
    busy = columns if target.registers >= 32 else max(columns, 8)
    return -(count // -columns) * (busy + 1.5) / count


def _split_rows(problem: Problem, target: Target) -> int:
    """Parts of the channels whose rows under the kernel stay in the first-level cache, where all channels' do not: each
    part is then computed over all positions before the next. Parts stay at least two lines wide; large images, which
    come from a far cache, are read in order.
    """
    depth, height, width = problem.axes
    row = 4 * width.size * problem.groups
    window = row * depth.kernel * height.kernel
    image = row * depth.size * height.size
    if target.registers >= 32 or problem.inputs > 1 or height.in_step > 1 or height.kernel == 1:
        return 1
    if window <= FIRST_LEVEL or image > 4 * target.cache_bytes:
        return 1
    return max(1, min(problem.groups // 32, -(window // -(FIRST_LEVEL // 3))))


# -- stencil: short kernels, all taps unrolled


def list_stencils(problem: Problem, target: Target) -> Iterator[Candidate]:
    """Every tile of the stencil; none where the kernel is too long or a group has several input channels."""
    height, width = problem.axes[1], problem.axes[2]
    if max(height.taps) * max(width.taps) > 9 or problem.inputs > 1:
        return
    spread = (_spread(height), _spread(width))
    room = 14 if target.registers >= 32 else 8
    for rows in _counts(height, spread[0], 4):
        for columns in _counts(width, spread[1], room // rows):
            axes = TileAxis(height, rows, spread[0]), TileAxis(width, columns, spread[1])
            block, split = _share(problem, target, axes[0].tiles, axes[1].tiles)
            tile = StencilTile(columns, 1, block, split, rows, spread)
            yield Candidate(_cost_stencil(problem, axes), tile)


def _cost_stencil(problem: Problem, axes: tuple[TileAxis, TileAxis]) -> float:
    """Cost of one vector of channels of the whole layer, by multiply-adds and loads."""
    height, width = problem.axes[1], problem.axes[2]
    taps = max(height.taps) * max(width.taps)
    lines, across = (len({offset for each in axis.taps() for offset, _ in each}) for axis in axes)
    work = sum(map(len, axes[0].taps())) * sum(map(len, axes[1].taps()))
    outputs = axes[0].count * axes[1].count
    # A few accumulators do not hide the latency of a multiply-add. Beyond some 24 positions read side by side the
    # prefetchers lose track.
    cost = work * max(1.0, 4.0 / outputs) + 0.5 * (lines * across + taps + outputs)
    cost += 2.0 * max(0, lines * across - 24)
    if width.in_step > 1:
        # Rows come from a farther cache than columns, which the neighbouring tile has just read.
        cost += lines * width.in_step * axes[1].count * problem.axes[0].kernel
    return cost * axes[0].tiles * axes[1].tiles


def _spread(axis: AxisWalk) -> int:
    """Distance between outputs that share inputs: the dilation, for layers of stride 1."""
    return min(axis.ostep, axis.output) if axis.static and axis.in_step == 1 and axis.ostep > 1 else 1


def _counts(axis: AxisWalk, spread: int, most: int) -> range:
    """Tile sizes to consider: whole phases, no more than there are outputs."""
    step = axis.out_step if not axis.static else 1
    limit = max(step, min(most, -(axis.output // -spread)))
    return range(step, limit + 1, step)


def _share(problem: Problem, target: Target, rows: int, tiles: int) -> tuple[int, int]:
    """Tiles in a unit, and parts of the channels, so that there are enough units for a few threads."""
    lines = problem.batch * problem.axes[0].output * rows
    vectors = -(problem.groups // -Grouping(target.lanes, problem.inputs, problem.outputs).groups)
    block = _tiles_in_unit(lines, tiles)
    return block, min(vectors, max(1, FEWEST // (lines * -(tiles // -block))))


def _tiles_in_unit(lines: int, tiles: int) -> int:
    """Of ``tiles`` in each of so many lines: all, if that makes units enough."""
    return tiles if lines >= UNITS else max(1, tiles * lines // (FINER * UNITS))


# -- panel


def list_panels(problem: Problem, target: Target) -> Iterator[Candidate]:
    """Every tile of the panel kernel whose accumulators fit the registers."""
    count = min(problem.axes[2].counts)
    vectors = -(problem.outputs // -target.lanes)
    unroll = problem.inputs if problem.inputs <= 8 else 4
    # All panels at each block of positions, if their weights stay near: threads keep to pixels of their own, and the
    # groups of a pointwise layer read neighbouring parts of the same ones.
    weights = 4 * problem.groups * problem.inputs * problem.taps * vectors * target.lanes
    near = FIRST_LEVEL if problem.groups > 1 else target.cache_bytes // 2
    inner = weights <= near
    for wide in range(1, min(vectors, 8 if count == 1 else 4) + 1):
        tall = max(1, (target.registers - 1 - wide) // wide)
        lines = problem.batch * problem.axes[0].output * problem.axes[1].output * problem.groups * -(vectors // -wide)
        for rows in range(1, min(count, tall, 14) + 1):
            tiles = -(count // -rows)
            block = min(_tiles_in_unit(lines, tiles), 16)
            tile = PanelTile(rows, wide, unroll, block, inner)
            cost = _cost_panel(problem, target, rows, wide)
            yield Candidate(cost * tiles, tile)
            whole, rest = divmod(count, rows)
            if rest and problem.axes[2].phases == 1:
                both = cost * whole + _cost_panel(problem, target, rest, wide)
                if both < WORTH_CUTTING * cost * tiles:
                    yield Candidate(both, replace(tile, cut=True))


def _cost_panel(problem: Problem, target: Target, rows: int, wide: int) -> float:
    """Cost of one input channel and tap of a tile of all channels, by the load and multiply-add counts."""
    vectors = -(problem.outputs // -target.lanes)
    step = _cost_step_wide if target.lanes == 16 else _cost_step
    full, last = divmod(vectors - 1, wide)
    cost = full * step(problem, target, rows, wide) + step(problem, target, rows, last + 1)
    # Where the widest vectors are split, a narrow one costs half a cycle a row less if it is alone in its panel.
    if target.lanes == 16 and last == 0 and (problem.outputs - 1) % target.lanes < 8:
        cost -= max(0.0, rows - max(rows / 2 + 1, 4.0))
    return cost


def _cost_step_wide(_problem: Problem, _target: Target, rows: int, held: int) -> float:
    """One step of a tile in 512-bit vectors: one multiply-add, one vector load or two broadcasts a cycle."""
    loads = rows / 2 + held
    return max(rows * held, loads, 4.0) + 0.35 * loads + 0.1 * rows + 1.0


def _cost_step(problem: Problem, target: Target, rows: int, held: int) -> float:
    """One step of a tile in shorter vectors: two multiply-adds and two loads of any kind a cycle; in half cycles."""
    depth = problem.inputs * problem.taps
    cost = max(rows * held, 8.0) + 0.35 * (rows + held)
    # Beyond eight rows broadcasts, and addresses of rows at the border, do not find a register in time.
    cost += max(0, rows - 8)
    if 4 * depth * held * target.lanes > FIRST_LEVEL * 3 // 4:
        cost += 0.5 * held  # weights come from the second level
    if problem.axes[2].bordered:
        cost += 1.0 * rows / problem.inputs
    return cost + (2.0 * rows * held + 20.0) / depth
