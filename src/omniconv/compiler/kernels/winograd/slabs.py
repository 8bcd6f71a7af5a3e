"""The slabs of blocks that a layer can be filtered in, and what each is expected to cost.

The products of a slab are one call of the panel kernel, so their cost and that of the direct sum come from its list of
tiles. Costs, also those of the direct sum that slabs are compared with, are in half cycles of the whole layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Final

from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.kernels.lane.tiles import reject_lane
from omniconv.compiler.kernels.panel.columns import weigh_columns
from omniconv.compiler.kernels.panel.tiles import cost_panel
from omniconv.compiler.kernels.winograd.blocks import BlockGrid
from omniconv.compiler.kernels.winograd.forms import list_forms, reject_forms
from omniconv.compiler.problem.candidate import Candidate, find_cheapest
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.element import FLOAT32
from omniconv.records import dataclass
from omniconv.target.model import Target

SIZES: Final = (14, 16, 24, 28, 32, 48, 64)
"""Blocks of a slab at most: fewer read the weights too often, more leave the second-level cache."""
FEWEST: Final = 12
"""Blocks of a slab at least where it is made smaller for several threads."""
LANE: Final = 1.2
"""Cost of a multiply-add in the lane kernel, with all that comes with it."""
CALLS: Final = 6000
"""Cost of three calls of a slab: about a microsecond."""
BLOCK: Final = 600
"""Cost of finding the places of one block, in both transforms."""
ALONG: Final = 0.1
"""Part of that where blocks lie along one axis only."""
FURTHER: Final = 0.1
"""Part of that for each further part or phase of a block."""
WEIGHT: Final = 4.0
"""Cost of one weight of one point that is transformed when the code runs."""
MAP: Final = 0.4
"""Cost of a byte of an input or a result beyond the second-level cache."""
NEAR: Final = 2**23
"""Weights beyond this size are read from memory, or miss in the tables of pages [bytes]."""


def cost_direct(problem: Problem, target: Target, *, lane: bool) -> float:
    """Cost of the direct sum, by the lane kernel or the panel kernel."""
    depth, height, width = problem.axes
    # The cost of a row is that of one phase.
    rows = problem.batch * depth.output * height.output * width.phases * problem.groups
    taps = math.prod(_count_taps(axis) * axis.share_inside for axis in problem.axes)
    weights = target.element.bytes * problem.taps * problem.groups * problem.inputs * problem.outputs
    if lane:  # one multiply-add for as many groups as a vector holds
        each = LANE * 2 / target.traits.fma_per_cycle
        row = each * width.output / Grouping.of(problem, target).groups
    else:
        row = _cost_step(problem, target)
    waits = _cost_maps(problem, target) if lane else 0
    return rows * taps * problem.inputs * row + waits + _cost_far(weights)


def _count_taps(axis: AxisWalk) -> float:
    """Taps of an output, in the mean over the phases."""
    return sum(taps * count for taps, count in zip(axis.taps, axis.counts, strict=True)) / axis.output


def list_slabs(problem: Problem, target: Target) -> Iterator[Candidate[BlockGrid]]:
    """Every form, number of groups at a time, and size of a slab worth a thought."""
    for blocks in list_forms(problem):
        costs = _FormCosts.of(problem, target, blocks)
        # Calls take as long whatever is in a slab: few points, or few planes, want more blocks.
        times = max(1, 16 // blocks.points)
        sizes = {max(1, times * size // blocks.planes[1]) for size in SIZES}
        for slab in sorted({ceil_div(blocks.count, ceil_div(blocks.count, size)) for size in sizes}):
            # One group at a time spares the products that are none, where there are such.
            for groups in sorted(
                {costs.find_groups(slab), 1} if costs.alone != costs.together else {costs.find_groups(slab)}
            ):
                yield Candidate(costs.add_up(slab, groups), BlockGrid(blocks.batch, blocks.axes, slab, groups))


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
    least = ceil_div(FEWEST, blocks.planes[1])
    if turns * ceil_div(blocks.count, slab) % threads or (slab < blocks.slab and slab < least):
        return 1, blocks
    return threads, replace(blocks, slab=slab)


@dataclass(frozen=True, slots=True)
class _FormCosts:
    """Costs of the slabs of one form: what does not depend on their sizes is worked out once.

    Attributes:
        problem, target: the layer and the machine.
        count: blocks of all images.
        planes: of the transformed data and of the products, in a slab.
        alone, together: points of each set, the channels that a product of them sums, over its parts and the taps along
            the planes, and those that it has, over its phases: where groups are worked on one by one, and where there
            are several at a time.
        held: numbers that a block of a slab holds for one group: transformed data and products.
        moves: of the transforms, all groups and blocks together.
        places: of a block that are found, in both transforms.
        maps: see :func:`_cost_maps`.
    """

    problem: Problem
    target: Target
    count: int
    planes: tuple[int, int]
    alone: tuple[tuple[int, int, int], ...]
    together: tuple[tuple[int, int, int], ...]
    held: int
    moves: float
    places: float
    maps: float

    @classmethod
    def of(cls, problem: Problem, target: Target, blocks: BlockGrid) -> _FormCosts:
        """Those of a form."""
        (before, after), parts, phases = blocks.planes, blocks.parts, blocks.phases
        depth = blocks.axes[0].r if blocks.axes[0].direct else 1
        # Transforms are additions and moves, measured for one vector of one point.
        vectors = parts * ceil_div(problem.inputs, target.lanes), phases * ceil_div(problem.outputs, target.lanes)
        filtered = [axis for axis in blocks.axes if axis.filtered]
        spread, gather = 2 + sum(a.reads + 1 for a in filtered) / 2, 1 + sum(a.m for a in filtered) / 2
        count, points = blocks.count, blocks.points
        alone = tuple(
            (each.points, depth * each.parts * problem.inputs, len(each.phases) * problem.outputs)
            for each in replace(blocks, groups=1).sets
        )
        together = ((points, depth * parts * problem.inputs, phases * problem.outputs),)
        made = sum(points * sums for points, _, sums in alone) / (phases * problem.outputs)
        moves = points * before * spread * vectors[0] + made * after * gather * vectors[1]
        return cls(
            problem=problem,
            target=target,
            count=count,
            planes=(before, after),
            alone=alone,
            together=together,
            held=points * (before * parts * problem.inputs + after * phases * problem.outputs),
            moves=target.traits.transform * count * problem.groups * moves,
            places=(before * (1 + FURTHER * (parts - 1)) + after * (1 + FURTHER * (phases - 1)))
            * (1 if len(filtered) > 1 else ALONG),
            maps=_cost_maps(problem, target),
        )

    def find_groups(self, slab: int) -> int:
        """Groups at a time: as many as stay in the second-level cache, in equal turns."""
        groups = self.problem.groups
        fits = self.target.cache_bytes // (self.target.element.bytes * self.held * slab)
        return max(g for g in range(1, groups + 1) if groups % g == 0 and g <= max(fits, 1))

    def add_up(self, slab: int, groups: int) -> float:
        """Cost of all slabs of a size, so many groups at a time."""
        times = self.problem.groups // groups
        turns = times * ceil_div(self.count, slab)
        axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(self.planes[1] * slab))
        sets = self.alone if groups == 1 else self.together
        cost, weights = self.moves + self.maps + BLOCK / 2 * self.places * self.count * times, 0
        for points, inputs, outputs in sets:
            products = groups * points
            step = _cost_step(Problem(1, axes, products, inputs, outputs), self.target)
            cost += turns * products * inputs * step
            weights += self.target.element.bytes * points * self.problem.groups * inputs * outputs
        size = self.target.element.bytes * groups * self.held * slab
        # Weights pass through the second-level cache, too, and leave half of it to a slab: what is more than that
        # leaves it part by part.
        half = self.target.cache_bytes / 2
        leaving = min(1.0, max(0.0, (size + min(weights / times, half)) / half - 2))
        cost += turns * leaving * size / 10
        return cost + turns * (CALLS * (2 + len(sets)) / 3 + weights / 32) + _cost_far(weights)


def _cost_maps(problem: Problem, target: Target) -> float:
    """Cost of maps that the second-level cache does not hold: transforms and the lane kernel wait for what the panel
    kernel reads beside its multiplications.
    """
    channels = target.element.bytes * problem.batch * problem.groups
    before = channels * problem.inputs * math.prod(axis.size for axis in problem.axes)
    after = channels * problem.outputs * math.prod(axis.output for axis in problem.axes)
    return MAP * sum(max(0, size - target.cache_bytes) for size in (before, after))


@lru_cache(maxsize=4096)
def _cost_step(problem: Problem, target: Target) -> float:
    """Cost of one input channel and tap of one row, of the cheapest tile."""
    return cost_panel(problem, target) * 2 / target.traits.fma_per_cycle  # the list counts multiply-adds


def _cost_far(weights: float) -> float:
    """Cost of reading weights that no cache near a core holds."""
    return max(0, weights - NEAR) / 3


ROUND: Final = 12
"""Slabs of round sizes are multiples of this."""
MOST_EXCESS: Final = 1.15
"""Times the blocks that there are, at most, for slabs of a size that is not their own."""

LEAST: Final = 8
"""Channels of a group that is filtered, at least, where there are several."""


MARGIN: Final = 0.95
"""Winograd filtering is chosen where it is expected to take less than this part of the direct sum's time."""


def plan_winograd(problem: Problem, target: Target) -> tuple[BlockGrid | None, tuple[str, ...]]:
    """The Winograd blocks of a layer that can be filtered, or ``None`` where the direct sum is expected to be as fast;
    and what they were compared with.
    """
    direct = cost_direct(problem, target, lane=reject_lane(problem, target) is None)
    if problem.columns:
        direct *= min(1.0, weigh_columns(problem, target)[0])
    best: dict[str, Candidate[BlockGrid]] = {}
    for _, form in groupby(list_slabs(problem, target), key=lambda each: each.tile.axes):
        cheapest = min(form, key=lambda each: each.cost)
        best[cheapest.tile.name] = cheapest
    chosen = min(best.values(), key=lambda each: each.cost)
    if chosen.cost > MARGIN * direct:
        return None, tuple(
            f"{name}: {each.cost / direct:.2f} of the direct sum's time expected" for name, each in best.items()
        )
    others = {name: each.cost for name, each in best.items() if each is not chosen}
    return chosen.tile, tuple(
        f"{name}: {cost / chosen.cost:.2f} times the time expected"
        for name, cost in ({"direct sum": direct} | others).items()
    )


def reject_winograd(problem: Problem, target: Target, facts: Facts) -> str | None:
    """Why a layer cannot be filtered, or never gains from it; ``None`` where it can."""
    if facts.exact:
        return "exact=True"
    if target.element != FLOAT32:
        return f"{target.element} is asked for its accuracy, which filtering would lose some of"
    why = reject_forms(problem)
    if why is not None:
        return why
    if problem.groups == 1:
        if problem.inputs < target.lanes:
            return f"fewer than {target.lanes} input channels"
    elif min(problem.inputs, problem.outputs) < LEAST:
        return f"fewer than {LEAST} channels a group"
    held = Grouping.of(problem, target).groups
    if held > 1 and reject_lane(problem, target) is None:
        return f"{held} groups share a vector"
    if facts.overflowing:
        return f"the weights are so large that transformed ones may exceed {target.element}"
    if next(list_forms(problem), None) is None:
        return f"no form of the kernel has the accuracy {problem.accuracy!r}"
    if facts.computed:
        return _reject_computed(problem, target)
    return None


def serves_computed(blocks: BlockGrid) -> bool:
    """Whether weights can be transformed at every call."""
    return blocks.parts == blocks.phases == 1


def _reject_computed(problem: Problem, target: Target) -> str | None:
    """Why a layer is not filtered whose weights are computed, and so are transformed at every call."""
    lane = reject_lane(problem, target) is None
    best = find_cheapest(list_slabs(problem, target))
    assert best is not None
    if not serves_computed(best.tile):
        return "the weights are computed, and would be filtered in several parts or phases"
    depth = best.tile.axes[0]
    points = best.tile.points * (depth.r if depth.direct else 1)
    weights = WEIGHT * points * problem.groups * problem.inputs * problem.outputs
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

    sizes = [each.slab for each in known if (each.sizes, each.groups) == (blocks.sizes, blocks.groups)]
    best = min(sizes, key=excess, default=0)
    if best and excess(best) <= MOST_EXCESS:
        return replace(blocks, slab=best)
    unit = ceil_div(ROUND, blocks.planes[1])
    return replace(blocks, slab=ceil_div(blocks.slab, unit) * unit)
