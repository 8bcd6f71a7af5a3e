"""The choice of a kernel and of its tile sizes: a pure function of the problem and the target.

Nothing is measured here and nothing depends on the machine that runs it, so the choice can be asked (and tested) for
machines that we do not have. Costs are in vector operations: one multiply-add, or one vector load, a cycle; two
broadcasts a cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from omniconv.compiler.lane import LaneTile
from omniconv.compiler.panel import PanelTile
from omniconv.compiler.stencil import StencilTile, TileAxis
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk
from omniconv.compiler.winograd import FILTERINGS, BlockAxis, Blocks

UNITS = 16
"""Units of work wanted at least, so that a few threads get even shares."""
FEWEST = 4
"""Below so many units the channels are divided too, which costs locality."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a layer, and why nothing else."""

    family: str
    tile: LaneTile | PanelTile
    rejected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What the choice depends on: sizes, channels of one group, and how the input's channels lie."""

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int
    neighbours: bool


def plan_conv(problem: Problem, target: Target) -> Choice:
    """Choose the kernel family and its tile."""
    reason = reject_lane(problem, target)
    if reason is None:
        return Choice("lane", plan_lane(problem, target), ("panel: groups do not fill a vector",))
    return Choice("panel", plan_panel(problem, target), (f"lane: {reason}",))


def reject_lane(problem: Problem, target: Target) -> str | None:
    """Why the lane kernel does not serve a problem; ``None`` where it does."""
    if problem.groups == 1:
        return "one group: every lane needs every input channel"
    if problem.outputs > target.lanes:
        return f"{problem.outputs} output channels a group fill more than {target.lanes} lanes"
    if target.lanes // problem.outputs == 1 and target.lanes % problem.outputs:
        return (
            f"one group of {problem.outputs} output channels fills a vector of {target.lanes} lanes as well as it can"
        )
    if problem.inputs > problem.outputs:
        return f"{problem.inputs} input channels a group are more than its {problem.outputs} output channels"
    if not problem.neighbours:
        return "input channels are not neighbours in memory"
    return None


def slab_bytes(target: Target) -> int:
    """Transformed inputs and products of one slab of Winograd blocks: most of a core's second-level cache [bytes]."""
    return target.cache_bytes * 15 // 16


def plan_winograd(problem: Problem, target: Target) -> tuple[Blocks | None, str]:
    """The Winograd blocks of a layer, or ``None`` and why the direct sum is expected to be as fast."""
    depth, height, width = problem.axes
    if depth.kernel > 1 or (height.kernel, width.kernel) != (3, 3):
        return None, "the kernel is not 3x3"
    if not (height.static and width.static) or height.in_step > 1 or width.in_step > 1 or problem.groups > 1:
        return None, "strided or grouped"
    if problem.inputs < target.lanes or problem.outputs < target.lanes or depth.size > 1:
        return None, "fewer channels than lanes"
    vectors = -(problem.outputs // -target.lanes)
    direct = problem.batch * height.output * width.output * 9.0 * problem.inputs * vectors
    direct *= height.share_inside * width.share_inside
    best, best_cost = None, direct * 0.92
    for m in FILTERINGS:
        axes = [
            BlockAxis.of(a.size, a.output, -min(a.first[0], a.first[0] + 2 * a.ostep), abs(a.ostep), m)
            for a in (height, width)
        ]
        count = problem.batch * len(axes[0].starts) * len(axes[1].starts)
        points = (m + 2) ** 2
        room = max(14, slab_bytes(target) // (4 * points * (problem.inputs + problem.outputs)))
        slabs = -(count // -room)
        slab = -(count // -slabs)
        blocks = Blocks(m, problem.batch, axes[0], axes[1], slab)
        tile = plan_panel(replace(problem, batch=1, axes=(depth, AxisWalk.flat(1), AxisWalk.flat(slab))), target)
        rows = -(count // -slab) * -(slab // -tile.rows) * tile.rows
        products = points * rows * problem.inputs * vectors * 1.05
        transforms = count * (points * 6.0) * (problem.inputs / target.lanes + vectors)
        # The transformed weights are read once a slab, from beyond the second-level cache when they are large.
        weights = 4.0 * points * problem.inputs * problem.outputs
        stream = weights / 12 * -(count // -slab) if weights > 2**19 else 0.0
        cost = max(products, stream) + transforms
        if cost < best_cost:
            best, best_cost = blocks, cost
    return best, "" if best else "its transforms cost more than they save"


def _waste(count: int, tile: int) -> float:
    return -(count // -tile) * tile / count


def plan_lane(problem: Problem, target: Target) -> LaneTile:
    """Tile of the lane family: a stencil where the kernel is short, else a row of outputs with loops over the taps."""
    found = _plan_stencil(problem, target)
    if found is not None:
        return found
    width = problem.axes[2]
    count = min(width.counts)
    # The weights of a chunk stay in registers beside the accumulators.
    chunk = min(4, width.kernel)
    if problem.inputs > 1:
        chunk = width.kernel if target.registers - 1 - width.kernel * problem.inputs >= 7 else 1
    wide = min(14, max(7, target.registers - 1 - chunk * problem.inputs)) if target.registers >= 32 else 7
    columns = min(range(1, min(wide, count) + 1), key=lambda tile: _waste(count, tile) * (1 + 1.5 / tile))
    block, split = _share(problem, target, problem.axes[1].output, -(count // -columns))
    return LaneTile(columns, chunk, block, split)


def _plan_stencil(problem: Problem, target: Target) -> StencilTile | None:
    """The stencil whose outputs cost least, by multiply-adds and loads; ``None`` where the kernel is too long."""
    height, width = problem.axes[1], problem.axes[2]
    taps = max(height.taps) * max(width.taps)
    if taps > 9 or problem.inputs > 1 or _streams_well(problem, target):
        return None
    spread = (_spread(height), _spread(width))
    room = 14 if target.registers >= 32 else 8
    best: tuple[float, int, int] | None = None
    for rows in _counts(height, spread[0], 4):
        for columns in _counts(width, spread[1], room // rows):
            axes = TileAxis(height, rows, spread[0]), TileAxis(width, columns, spread[1])
            lines, across = (len({offset for each in axis.taps() for offset, _ in each}) for axis in axes)
            work = sum(map(len, axes[0].taps())) * sum(map(len, axes[1].taps()))
            outputs = rows * columns
            # A few accumulators do not hide the latency of a multiply-add. Beyond some 24 positions read side by side
            # the prefetchers lose track.
            cost = work * max(1.0, 4.0 / outputs) + 0.5 * (lines * across + taps + outputs)
            cost += 2.0 * max(0, lines * across - 24)
            if width.in_step > 1 or problem.axes[0].kernel > 1:
                # Rows come from a farther cache than columns, which the neighbouring tile has just read.
                cost += lines * width.in_step * columns * problem.axes[0].kernel
            cost *= axes[0].tiles * axes[1].tiles
            if best is None or cost < best[0] * (1 - 1e-9):
                best = cost, rows, columns
    if best is None:
        return None
    _, rows, columns = best
    axes = TileAxis(height, rows, spread[0]), TileAxis(width, columns, spread[1])
    block, split = _share(problem, target, axes[0].tiles, axes[1].tiles)
    return StencilTile(columns, 1, block, split, rows, spread)


def _streams_well(problem: Problem, target: Target) -> bool:
    """Whether plain rows of outputs are as good as a stencil: one image stays in the cache, so that nothing is gained
    from sharing its rows, and most tiles would be at its border or stride over their inputs.
    """
    _, height, width = problem.axes
    if not (height.static and width.static) or max(height.ostep, width.ostep) > 1 or problem.axes[0].size > 1:
        return False
    size = 4 * problem.groups * problem.inputs * height.size * width.size
    return size <= target.cache_bytes and (width.output <= 16 or width.in_step > 1)


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
    vectors = -(problem.groups // -(target.lanes // problem.outputs))
    block = max(1, min(tiles, tiles * lines // UNITS))
    return block, min(vectors, max(1, FEWEST // (lines * -(tiles // -block))))


def plan_panel(problem: Problem, target: Target) -> PanelTile:
    """Tile of the panel kernel: the cheapest of all that fit the registers, by the load and multiply-add counts."""
    count = min(problem.axes[2].counts)
    vectors = -(problem.outputs // -target.lanes)
    rest = problem.outputs - (vectors - 1) * target.lanes
    best, best_cost = (1, 1), math.inf
    for wide in range(1, min(vectors, 8 if count == 1 else 4) + 1):
        tall = max(1, (target.registers - 1 - wide) // wide)
        for rows in range(1, min(count, tall, 14) + 1):
            cost = 0.0
            for panel in range(0, vectors, wide):
                held = min(wide, vectors - panel)
                # On machines that split the widest vectors one of half the lanes takes half a cycle, by itself;
                # beside wide ones it saves nothing.
                narrow = 0.5 if panel == vectors - 1 and target.lanes == 16 and rest <= 8 else 0.0
                latency = 4.0 if target.fma else 8.0
                loads = rows / 2 + held
                cost += max(rows * (held - narrow), loads, latency) + 0.35 * loads + 0.1 * rows + 1.0
            cost *= -(count // -rows)
            if cost < best_cost - 1e-9:
                best, best_cost = (rows, wide), cost
    rows, wide = best
    unroll = 4 if problem.inputs % 4 == 0 or problem.inputs > 8 else min(problem.inputs, 3)
    tiles = -(count // -rows)
    lines = problem.batch * problem.axes[0].output * problem.axes[1].output * problem.groups * -(vectors // -wide)
    block = max(1, min(tiles, tiles * lines // UNITS, 16))
    return PanelTile(rows, wide, unroll, block)
