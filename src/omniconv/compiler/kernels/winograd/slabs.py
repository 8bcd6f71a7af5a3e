"""The slabs of blocks that a 3x3 layer can be filtered in, and what each is expected to cost.

The products of a slab are one call of the panel kernel, so their cost and that of the direct sum come from its list of
tiles. Costs, also those of the direct sum that slabs are compared with, are in half cycles of the whole layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.kernels.lane.tiles import reject_lane
from omniconv.compiler.kernels.panel.tiles import cost_panel
from omniconv.compiler.kernels.winograd.matrices import FILTERINGS
from omniconv.compiler.problem.candidate import Candidate, find_cheapest
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.element import FLOAT32
from omniconv.target.model import Target

SIZES: Final = (12, 16, 24, 32, 48, 64)
"""Blocks of a slab at most: fewer read the weights too often, more leave the second-level cache."""
LANE: Final = 1.2
"""Cost of a multiply-add in the lane kernel, with all that comes with it."""
CALLS: Final = 6000
"""Cost of the three calls of a slab: about a microsecond."""
BLOCK: Final = 600
"""Cost of finding the places of one block, in both transforms."""
WEIGHT: Final = 4.0
"""Cost of one weight of one point that is transformed when the code runs."""
NEAR: Final = 2**23
"""Weights beyond this size are read from memory, or miss in the tables of pages [bytes]."""


def cost_direct(problem: Problem, target: Target, *, lane: bool) -> float:
    """Cost of the direct sum, by the lane kernel or the panel kernel."""
    depth, height, width = problem.axes
    rows = problem.batch * depth.output * height.output * problem.groups
    taps = 9 * height.share_inside * width.share_inside
    weights = target.element.bytes * 9 * problem.groups * problem.inputs * problem.outputs
    if lane:  # one multiply-add for as many groups as a vector holds
        each = LANE * 2 / target.traits.fma_per_cycle
        row = each * width.output / Grouping.of(problem, target).groups
    else:
        row = _cost_step(problem, target)
    return rows * taps * problem.inputs * row + _cost_far(weights)


def list_slabs(problem: Problem, target: Target) -> Iterator[Candidate[BlockGrid]]:
    """Every size of blocks, number of groups at a time, and size of a slab worth a thought."""
    for m in FILTERINGS:
        height, width = (
            BlockAxis(a.size, a.output, -min(a.first[0], a.first[0] + 2 * a.ostep), abs(a.ostep), m)
            for a in problem.axes[1:]
        )
        blocks = BlockGrid(m, problem.batch, height, width, 1)
        for slab in sorted({ceil_div(blocks.count, ceil_div(blocks.count, size)) for size in SIZES}):
            groups = _groups(problem, target, blocks.points * slab)
            found = replace(blocks, slab=slab, groups=groups)
            yield Candidate(_cost_slabs(problem, target, found), found)


def share_slabs(blocks: BlockGrid, problem: Problem, threads: int, *, kept: bool = False) -> tuple[int, BlockGrid]:
    """The slabs that several threads work off: the number of strips that these divide into, and their size.

    With a strip for each thread nobody waits for others between the steps of a slab, nor reads what they wrote. There
    have to be equally many slabs in each, which may be smaller for that; where that makes them too small, there is one
    strip, and threads share every step. ``kept`` slabs keep their size, and there are strips where it divides so.
    """
    turns = problem.groups // blocks.groups
    if kept:
        return (1 if turns * ceil_div(blocks.count, blocks.slab) % threads else threads), blocks
    each = threads // math.gcd(turns, threads)
    wanted = ceil_div(ceil_div(blocks.count, blocks.slab), each) * each
    slab = ceil_div(blocks.count, wanted)
    if turns * ceil_div(blocks.count, slab) % threads or (slab < blocks.slab and slab < SIZES[0]):
        return 1, blocks
    return threads, replace(blocks, slab=slab)


def _groups(problem: Problem, target: Target, products: int) -> int:
    """Groups at a time: as many as stay in the second-level cache, in equal turns."""
    fits = target.cache_bytes // (target.element.bytes * products * (problem.inputs + problem.outputs))
    return max(g for g in range(1, problem.groups + 1) if problem.groups % g == 0 and g <= max(fits, 1))


def _cost_slabs(problem: Problem, target: Target, blocks: BlockGrid) -> float:
    turns = problem.groups // blocks.groups * ceil_div(blocks.count, blocks.slab)
    products = blocks.groups * blocks.points
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(blocks.slab))
    step = _cost_step(Problem(1, axes, products, problem.inputs, problem.outputs), target)
    cost = turns * products * problem.inputs * step
    # Transforms are additions and moves, measured for one vector of one point.
    vectors = ceil_div(problem.inputs, target.lanes), ceil_div(problem.outputs, target.lanes)
    moves = (blocks.m + 5) * vectors[0] + (blocks.m + 1) * vectors[1]
    cost += BLOCK * blocks.count * (problem.groups // blocks.groups)
    cost += target.traits.transform * blocks.count * problem.groups * blocks.points * moves
    slab = target.element.bytes * products * blocks.slab * (problem.inputs + problem.outputs)
    if slab > target.cache_bytes:
        cost += turns * slab / 12
    weights = target.element.bytes * blocks.points * problem.groups * problem.inputs * problem.outputs
    return cost + turns * (CALLS + weights / 32) + _cost_far(weights)


@lru_cache(maxsize=4096)
def _cost_step(problem: Problem, target: Target) -> float:
    """Cost of one input channel and tap of one row, of the cheapest tile."""
    return cost_panel(problem, target) * 2 / target.traits.fma_per_cycle  # the list counts multiply-adds


def _cost_far(weights: int) -> float:
    """Cost of reading weights that no cache near a core holds."""
    return max(0, weights - NEAR) / 3


ROUND: Final = 12
"""Slabs of round sizes are multiples of this."""
MOST_EXCESS: Final = 1.15
"""Times the blocks that there are, at most, for slabs of a size that is not their own."""

LEAST = 8
"""Channels of a group that is filtered, at least."""


MARGIN = 0.95
"""Winograd filtering is chosen where it is expected to take less than this part of the direct sum's time."""


def plan_winograd(problem: Problem, target: Target) -> tuple[BlockGrid | None, tuple[str, ...]]:
    """The Winograd blocks of a layer that can be filtered, or ``None`` where the direct sum is expected to be as fast;
    and what they were compared with.
    """
    direct = cost_direct(problem, target, lane=reject_lane(problem, target) is None)
    best: dict[int, Candidate[BlockGrid]] = {}
    for slabs in list_slabs(problem, target):
        m = slabs.tile.m
        best[m] = min(best.get(m, slabs), slabs, key=lambda each: each.cost)
    chosen = min(best.values(), key=lambda each: each.cost)
    if chosen.cost > MARGIN * direct:
        return None, tuple(
            f"winograd F({m}x{m}, 3x3): {each.cost / direct:.2f} of the direct sum's time expected"
            for m, each in best.items()
        )
    others = {f"winograd F({m}x{m}, 3x3)": each.cost for m, each in best.items() if each is not chosen}
    return chosen.tile, tuple(
        f"{name}: {cost / chosen.cost:.2f} times the time expected"
        for name, cost in ({"direct sum": direct} | others).items()
    )


def reject_winograd(problem: Problem, target: Target, facts: Facts) -> str | None:
    """Why a layer cannot be filtered, or never gains from it; ``None`` where it can."""
    if facts.exact:
        return "exact=True"
    depth, height, width = problem.axes
    if target.element != FLOAT32:
        return f"{target.element} is asked for its accuracy, which filtering would lose some of"
    if depth.kernel > 1 or depth.size > 1 or (height.kernel, width.kernel) != (3, 3):
        return "the kernel is not 3x3 in two dimensions"
    if not (height.static and width.static) or height.in_step > 1 or width.in_step > 1:
        return "the stride is not 1"
    least = target.lanes if problem.groups == 1 else LEAST
    if min(problem.inputs, problem.outputs) < least:
        return f"fewer than {least} channels" + (" a group" if problem.groups > 1 else "")
    held = Grouping.of(problem, target).groups
    if held > 1 and reject_lane(problem, target) is None:
        return f"{held} groups share a vector"
    if facts.computed:
        return _reject_computed(problem, target)
    return None


def _reject_computed(problem: Problem, target: Target) -> str | None:
    """Why a layer is not filtered whose weights are computed, and so are transformed at every call."""
    lane = reject_lane(problem, target) is None
    best = find_cheapest(list_slabs(problem, target))
    assert best is not None
    weights = WEIGHT * best.tile.points * problem.groups * problem.inputs * problem.outputs
    ratio = (best.cost + weights) / cost_direct(problem, target, lane=lane)
    if ratio <= MARGIN:
        return None
    return f"the weights are computed and transformed at every call: {ratio:.2f} of the direct sum's time expected"


def settle_slabs(blocks: BlockGrid, known: Sequence[BlockGrid]) -> BlockGrid:
    """The same blocks in slabs of a size that other images have had, if few of the last slab are none; else in slabs of
    a round size, so that further images have it too.
    """

    def excess(slab: int) -> float:
        return ceil_div(blocks.count, slab) * slab / blocks.count

    sizes = [each.slab for each in known if (each.m, each.groups) == (blocks.m, blocks.groups)]
    best = min(sizes, key=excess, default=0)
    if best and excess(best) <= MOST_EXCESS:
        return replace(blocks, slab=best)
    return replace(blocks, slab=ceil_div(blocks.slab, ROUND) * ROUND)


@dataclass(frozen=True, slots=True)
class BlockAxis:
    """Blocks along one axis: outputs ``starts[i] + dilation * j``, j < m, as far as they exist."""

    size: int
    output: int
    before: int
    dilation: int
    m: int

    @property
    def starts(self) -> tuple[int, ...]:
        """The first output of every block: those of each residue of the output position modulo the dilation."""
        return tuple(
            residue + self.dilation * first
            for residue in range(min(self.dilation, self.output))
            for first in range(0, ceil_div(self.output - residue, self.dilation), self.m)
        )

    @property
    def count(self) -> int:
        """Blocks along the axis."""
        return ceil_div(self.output, self.m) if self.dilation == 1 else len(self.starts)

    @property
    def reach(self) -> int:
        """Distance from the first to the last output of a block."""
        return (self.m - 1) * self.dilation

    def opened(self, opener: Opener) -> BlockAxis:
        """The same blocks along an axis of any size; those of a dilated layer are a table, which is for one size."""
        if self.dilation > 1:
            return self
        return replace(self, size=opener(self.size), output=opener(self.output))


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """All blocks of a layer, and how many of them, in how many channel groups, are worked on together: a slab."""

    m: int
    batch: int
    height: BlockAxis
    width: BlockAxis
    slab: int
    groups: int = 1

    def opened(self, opener: Opener) -> BlockGrid:
        """The same slabs of images of any size."""
        height, width = self.height.opened(opener), self.width.opened(opener)
        return replace(self, batch=opener(self.batch), height=height, width=width)

    def text(self) -> str:
        """The text of Winograd filtering in these blocks."""
        return f"winograd m={self.m} slab={self.slab} groups={self.groups}"

    def form(self) -> str:
        """The same: the number of blocks is all that is read when the code runs."""
        return self.text()

    def stride(self, pitch: int) -> int:
        """Distance between the points of a group in a slab [elements]: an odd number of lines, so that points share no
        cache set.
        """
        lines = ceil_div(self.slab * pitch, 16)
        return 16 * (lines + 1 - lines % 2)

    @property
    def count(self) -> int:
        """Blocks of all images."""
        return self.batch * self.height.count * self.width.count

    @property
    def points(self) -> int:
        """Products of one block and channel pair."""
        return (self.m + 2) ** 2
