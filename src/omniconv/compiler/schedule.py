"""The choice of a kernel and of its tile sizes: a pure function of the problem and the target.

Nothing is measured here and nothing depends on the machine that runs it, so the choice can be asked (and tested) for
machines that we do not have. What there is to choose from, and at what cost, is in
:mod:`omniconv.compiler.candidates`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from omniconv.compiler.candidates import Tile, find_cheapest, list_panels, list_rows, list_stencils
from omniconv.compiler.lane import LaneTile
from omniconv.compiler.panel import PanelTile
from omniconv.compiler.problem import Problem
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk
from omniconv.compiler.winograd import FILTERINGS, BlockAxis, Blocks


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a layer, and why nothing else."""

    family: str
    tile: Tile
    rejected: tuple[str, ...]


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
    if target.lanes <= 8 and problem.inputs > 1 and problem.outputs == target.lanes:
        return "a group of several inputs fills a short vector: a broadcast from memory costs less than a permutation"
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
    if not (height.static and width.static) or height.in_step > 1 or width.in_step > 1:
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


def plan_lane(problem: Problem, target: Target) -> LaneTile:
    """Tile of the lane family: a stencil where the kernel is short, else a row of outputs with loops over the taps."""
    stencil = None if _streams_well(problem, target) else find_cheapest(list_stencils(problem, target))
    found = stencil or find_cheapest(list_rows(problem, target))
    assert found is not None
    assert isinstance(found.tile, LaneTile)
    return found.tile


def _streams_well(problem: Problem, target: Target) -> bool:
    """Whether plain rows of outputs are as good as a stencil: one image stays in the cache, so that nothing is gained
    from sharing its rows, and most tiles would be at its border or stride over their inputs.
    """
    _, height, width = problem.axes
    if not (height.static and width.static) or max(height.ostep, width.ostep) > 1 or problem.axes[0].size > 1:
        return False
    size = 4 * problem.groups * problem.inputs * height.size * width.size
    return size <= target.cache_bytes and (width.output <= 16 or width.in_step > 1)


def plan_panel(problem: Problem, target: Target) -> PanelTile:
    """Tile of the panel kernel."""
    found = find_cheapest(list_panels(problem, target))
    assert found is not None
    assert isinstance(found.tile, PanelTile)
    return found.tile
