"""The choice of a kernel and of its tile sizes: a pure function of the problem and the target.

Nothing is measured here and nothing depends on the machine that runs it, so the choice can be asked (and tested) for
machines that we do not have. What there is to choose from, and at what cost, is in
:mod:`omniconv.compiler.candidates`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omniconv.compiler.candidates import Candidate, Tile, find_cheapest, list_panels, list_rows, list_stencils
from omniconv.compiler.grouping import Grouping
from omniconv.compiler.lane import LaneTile
from omniconv.compiler.panel import PanelTile
from omniconv.compiler.problem import Problem
from omniconv.compiler.slabs import Slabs, cost_direct, list_slabs
from omniconv.compiler.target import Target
from omniconv.compiler.tuning import describe_blocks, describe_tile
from omniconv.compiler.winograd import Blocks


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a layer, and why nothing else; ``tuned`` if a measurement chose it."""

    family: str
    tile: Tile
    rejected: tuple[str, ...]
    tuned: bool = False


def plan_conv(problem: Problem, target: Target, tuned: str | None = None) -> Choice:
    """Choose the kernel family and its tile.

    ``tuned`` is the choice of a measurement, used if it is the text of a tile of a kernel that serves the problem.
    """
    reason = reject_lane(problem, target)
    if reason is None:
        choice = Choice("lane", plan_lane(problem, target), ("panel: a whole group fits one vector",))
    else:
        choice = Choice("panel", plan_panel(problem, target), (f"lane: {reason}",))
    for family, candidates in _list_families(problem, target) if tuned is not None else ():
        for tile in (each.tile for each in candidates if describe_tile(each.tile) == tuned):
            kept = choice.rejected if family == choice.family else ()
            slower = () if tile == choice.tile else (f"{describe_tile(choice.tile)}: measured slower",)
            return Choice(family, tile, (*kept, *slower), tuned=True)
    return choice


def list_choices(problem: Problem, target: Target) -> list[list[tuple[str, float]]]:
    """Everything that :func:`plan_conv` and :func:`plan_winograd` can be told to choose, as lists of texts with costs.

    Costs are compared within one list only.
    """
    lists = [candidates for _, candidates in _list_families(problem, target)]
    found = [[(describe_tile(candidate.tile), candidate.cost) for candidate in items] for items in lists]
    if reject_winograd(problem, target) is None:
        found.append([(describe_blocks(slabs.blocks), slabs.cost) for slabs in list_slabs(problem, target)])
    return [items for items in found if items]


def _list_families(problem: Problem, target: Target) -> Iterator[tuple[str, Iterator[Candidate]]]:
    """The lists of tiles of each kernel that serves a problem, by family.

    Groups of half a vector to a whole one are served by both families. (Kernels of one tap are not given from one to
    the other, because the panel kernel sees them as another problem.)
    """
    lane = reject_lane(problem, target) is None
    both = (
        problem.groups > 1 and problem.inputs <= problem.outputs
        and target.lanes <= 2 * problem.outputs <= 2 * target.lanes and any(axis.kernel > 1 for axis in problem.axes)
    )  # fmt: skip
    if lane or both:
        yield "lane", list_stencils(problem, target)
        yield "lane", list_rows(problem, target)
    if not lane or both:
        yield "panel", list_panels(problem, target)


def reject_lane(problem: Problem, target: Target) -> str | None:
    """Why the lane kernel does not serve a problem; ``None`` where it does."""
    if problem.groups == 1:
        return "one group: every lane needs every input channel"
    if problem.outputs > target.lanes:
        return f"{problem.outputs} output channels a group fill more than {target.lanes} lanes"
    alone = target.lanes // problem.outputs == 1
    if alone and target.lanes == 8 and problem.inputs > 1 and all(axis.kernel == 1 for axis in problem.axes):
        return "a group has a vector for itself and one tap: no other shares what is loaded"
    if alone and target.lanes != 8 and target.lanes % problem.outputs:
        return (
            f"one group of {problem.outputs} output channels fills a vector of {target.lanes} lanes as well as it can"
        )
    if problem.inputs > problem.outputs:
        return f"{problem.inputs} input channels a group are more than its {problem.outputs} output channels"
    return None


LEAST = 8
"""Channels of a group that is filtered, at least."""
MARGIN = 0.95
"""Winograd filtering is chosen where it is expected to take less than this part of the direct sum's time."""


def plan_winograd(problem: Problem, target: Target, tuned: str | None = None) -> tuple[Blocks | None, tuple[str, ...]]:
    """The Winograd blocks of a layer, or ``None`` where the direct sum is expected to be as fast; and what was rejected
    for which reason.

    ``tuned`` is the choice of a measurement, used if it is the text of one of :func:`list_slabs`.
    """
    reason = reject_winograd(problem, target)
    if reason is not None:
        return None, (f"winograd: {reason}",)
    direct = cost_direct(problem, target, lane=reject_lane(problem, target) is None)
    best: dict[int, Slabs] = {}
    for slabs in list_slabs(problem, target):
        if tuned is not None and describe_blocks(slabs.blocks) == tuned:
            return slabs.blocks, ()
        m = slabs.blocks.m
        best[m] = min(best.get(m, slabs), slabs, key=lambda each: each.cost)
    chosen = min(best.values(), key=lambda each: each.cost)
    if chosen.cost > MARGIN * direct:
        return None, tuple(
            f"winograd F({m}x{m}, 3x3): {each.cost / direct:.2f} of the direct sum's time expected"
            for m, each in best.items()
        )
    others = {f"winograd F({m}x{m}, 3x3)": each.cost for m, each in best.items() if each is not chosen}
    return chosen.blocks, tuple(
        f"{name}: {cost / chosen.cost:.2f} times the time expected"
        for name, cost in ({"direct sum": direct} | others).items()
    )


def reject_winograd(problem: Problem, target: Target) -> str | None:
    """Why a layer cannot be filtered, or never gains from it; ``None`` where it can."""
    depth, height, width = problem.axes
    if depth.kernel > 1 or depth.size > 1 or (height.kernel, width.kernel) != (3, 3):
        return "the kernel is not 3x3 in two dimensions"
    if not (height.static and width.static) or height.in_step > 1 or width.in_step > 1:
        return "the stride is not 1"
    least = target.lanes if problem.groups == 1 else LEAST
    if min(problem.inputs, problem.outputs) < least:
        return f"fewer than {least} channels" + (" a group" if problem.groups > 1 else "")
    held = Grouping(target.lanes, problem.inputs, problem.outputs).groups
    if held > 1 and reject_lane(problem, target) is None:
        return f"{held} groups share a vector"
    return None


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
    if not (height.static and width.static):
        return False
    if target.registers < 32 and width.ostep > 1 and width.in_step == 1:
        return True  # rows share the inputs of a dilated layer too, and more of their sums fit the registers
    if max(height.ostep, width.ostep) > 1 or problem.axes[0].size > 1:
        return False
    size = 4 * problem.groups * problem.inputs * height.size * width.size
    return size <= target.cache_bytes and (width.output <= 16 or width.in_step > 1)


def plan_panel(problem: Problem, target: Target) -> PanelTile:
    """Tile of the panel kernel."""
    found = find_cheapest(list_panels(problem, target))
    assert found is not None
    assert isinstance(found.tile, PanelTile)
    return found.tile
