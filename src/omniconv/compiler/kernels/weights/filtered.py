"""Weight gradients by minimal filtering: when, in which blocks, and the calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from omniconv.compiler.kernels.weights.panel import PanelSums, cost_panel_sums, plan_panel_sums
from omniconv.compiler.kernels.weights.points import WinogradGradient, WinogradTaps
from omniconv.compiler.kernels.weights.sums import SumAxis, Sums
from omniconv.compiler.kernels.winograd.blocks import BlockGrid
from omniconv.compiler.kernels.winograd.forms import list_forms, reject_forms
from omniconv.compiler.kernels.winograd.transforms import WinogradInput
from omniconv.compiler.lowering.layer import strides_of
from omniconv.compiler.memory.layout import plan_pitch
from omniconv.compiler.memory.planner import Decision, Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.compiler.problem.problem import USUAL, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.element import FLOAT32
from omniconv.records import dataclass
from omniconv.spec import Axis
from omniconv.target.model import Target

BLOCKS: Final = 96
"""Blocks of a slab at most: fewer read and write the sums too often, more leave the caches."""
MARGIN: Final = 0.9
"""Filtering is chosen where it is expected to take less than this part of the direct sums' time."""
COPY: Final = 4.0
"""Cost of an element of a value that is laid out channels last first [half cycles]."""
SUM: Final = 12.0
"""Cost of a vector of sums that is read and written once for each slab [half cycles]."""


@dataclass(frozen=True, slots=True)
class FilteredSums:
    """How the sums of a weight gradient are filtered.

    Attributes:
        problem: the layer whose weights these are, as one that is not transposed.
        blocks: in slabs of so many.
        products: the sums of a slab, with a group for each group and point.
    """

    problem: Problem
    blocks: BlockGrid
    products: Sums

    @classmethod
    def of(cls, problem: Problem, sums: Sums, blocks: BlockGrid) -> FilteredSums:
        """All groups at a time, in slabs of about equal size. Planes of a slab follow one another, so that a tap along
        the depth is as far away as there are blocks.
        """
        before, after = blocks.planes
        slab = ceil_div(blocks.count, ceil_div(blocks.count, ceil_div(BLOCKS, after)))
        axis = SumAxis(after * slab, before * slab, before - after + 1, dilation=slab)
        products = Sums(1, (SumAxis(1, 1), SumAxis(1, 1), axis), sums.groups * blocks.points, sums.narrow, sums.wide)
        return cls(problem, replace(blocks, slab=slab, groups=sums.groups), products)

    @property
    def slabs(self) -> int:
        """How many there are."""
        return ceil_div(self.blocks.count, self.blocks.slab)

    @property
    def multiplications(self) -> int:
        """Products of transformed values."""
        products = self.products
        return products.groups * products.taps * self._positions * products.narrow * products.wide

    @property
    def _positions(self) -> int:
        """Of the products, in all slabs: a position for each plane of a block."""
        return self.blocks.planes[1] * self.blocks.count

    def estimate_cost(self, target: Target) -> float:
        """Of all transforms and products [half cycles]."""
        blocks, products = self.blocks, self.products
        before, after = blocks.planes
        wide, narrow = (ceil_div(channels, target.lanes) for channels in (products.wide, products.narrow))
        # Additions and moves for one vector of one point, of either value in the mean.
        moves = 2 + sum(axis.reads + axis.m for axis in blocks.axes if axis.filtered) / 4
        moves *= products.groups * blocks.count * (before * wide + after * narrow)
        sums = products.groups * products.taps * narrow * products.wide * (self.slabs + 1)
        multiply = products.groups * products.taps * self._positions * cost_panel_sums(products, target)
        return target.traits.transform * moves + SUM * sums + _scale(target) * multiply


def _scale(target: Target) -> float:
    """Half cycles of a multiply-add of whole vectors."""
    return 2 / target.traits.fma_per_cycle


def list_filtered_sums(sums: Sums, accuracy: str = USUAL) -> Iterator[FilteredSums]:
    """Every form that the sums can be filtered in; none where there is a stride or a kernel of several parts."""
    walks = []
    for axis in sums.axes:
        if axis.stride > 1:
            return
        after = axis.count + (axis.kernel - 1) * axis.dilation - axis.size - axis.before
        walks.append(AxisWalk.of(Axis(axis.kernel, 1, axis.dilation, (axis.before, after)), axis.size))
    depth, height, width = walks
    problem = Problem(sums.batch, (depth, height, width), sums.groups, sums.wide, sums.narrow, accuracy=accuracy)
    if reject_forms(problem) is None:
        for blocks in list_forms(problem):
            if blocks.parts == 1:
                yield FilteredSums.of(problem, sums, blocks)


def plan_filtered_sums(
    sums: Sums, target: Target, *, exact: bool = False, accuracy: str = USUAL, copied: int = 0
) -> FilteredSums | None:
    """How the sums are filtered; ``None`` where they cannot be, or the direct ones are expected to be as fast.

    Args:
        sums: of the layer.
        target: the machine.
        exact: whether only direct sums are allowed.
        accuracy: how far filtering may go.
        copied: elements that have to be laid out channels last first.
    """
    if exact or target.element != FLOAT32 or min(sums.narrow, sums.wide) < target.lanes:
        return None
    direct = sums.groups * sums.rows * sums.axes[2].count * sums.taps * cost_panel_sums(sums, target)
    costs = [(each.estimate_cost(target), each) for each in list_filtered_sums(sums, accuracy)]
    cost, best = min(costs, key=lambda found: found[0], default=(math.inf, None))
    return best if cost + COPY * copied < MARGIN * _scale(target) * direct else None


def lower_filtered_sums(
    planner: Planner, filtered: FilteredSums, sums: Sums, narrow: Stored, wide: Stored
) -> tuple[PanelSums, BufferRef]:
    """The calls; both values are channels last.

    Returns:
        the sums of all positions as a kernel of direct sums in one block would leave them, and where they are.
    """
    target, blocks = planner.target, filtered.blocks
    met, own = plan_pitch(sums.wide, target), plan_pitch(sums.narrow, target)
    apart = blocks.stride(met, blocks.planes[0]), blocks.stride(own, blocks.planes[1])
    spread = WinogradInput(
        blocks=blocks,
        channels=sums.wide,
        x_strides=strides_of(wide.layout),
        readable=wide.layout.readable,
        pitch=met,
        lanes=target.lanes,
    )
    back = WinogradGradient(
        blocks=blocks,
        channels=sums.narrow,
        y_strides=strides_of(narrow.layout),
        readable=narrow.layout.readable,
        pitch=own,
        lanes=target.lanes,
    )
    multiply = PanelSums(
        sums=filtered.products,
        narrow_strides=(0, 1, 0, 0, own),
        wide_strides=(0, 1, 0, 0, met),
        narrow_group=apart[1],
        wide_group=apart[0],
        tile=plan_panel_sums(filtered.products, target),
        lanes=target.lanes,
    )
    taps = WinogradTaps(blocks=blocks, sums=multiply, x_strides=spread.x_strides, y_strides=back.y_strides)
    room = [BufferRef(planner.add_buffer("arena", multiply.sums.groups * each + target.lanes)) for each in apart]
    total = BufferRef(planner.add_buffer("arena", multiply.size + target.lanes))
    made = replace(multiply, sums=sums)
    weights = BufferRef(planner.add_buffer("arena", made.size + target.lanes))
    gathered = planner.thread_memory(multiply.room)
    zero = planner.zeros(sums.groups * max(sums.narrow, sums.wide) + 2 * target.lanes)
    starts = range(0, blocks.count, blocks.slab)
    # Where each slab begins: its first block, and its first channel.
    table, words = planner.table([number for start in starts for number in (start, 0)]), 16 // target.element.bytes
    why = f"the gradient of {blocks.describe()}"
    decision = Decision(filtered.problem, blocks.text(), tuned=False, multiplications=filtered.multiplications)
    for index, start in enumerate(starts):
        place = BufferRef(table.buffer, words * index)
        planner.call(spread, [wide.ref, room[0], zero, place], "winograd_input", (), decision)
        planner.call(back, [narrow.ref, room[1], zero, place], "winograd_gradient", (), decision)
        products = replace(multiply, adds=start > 0)
        planner.call(products, [room[1], room[0], total, gathered], "panel", (), decision, why)
    planner.call(taps, [total, weights, wide.ref, narrow.ref], "winograd_weights", (), decision)
    return made, weights
