"""The choice of a kernel and of its tile sizes: a pure function of the problem and the target.

Nothing is measured here and nothing depends on the machine that runs it, so the choice can be asked (and tested) for
machines that we do not have. What there is to choose from, and at what cost, is in
:mod:`omniconv.compiler.problem.candidate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omniconv.compiler.kernels.lane.tiles import list_rows, list_stencils, plan_lane, reject_lane
from omniconv.compiler.kernels.panel.tiles import list_panels, plan_panel
from omniconv.compiler.kernels.winograd.slabs import (
    describe_blocks,
    list_slabs,
    reject_winograd,
)
from omniconv.compiler.problem.candidate import Candidate, Tile, describe_tile
from omniconv.compiler.problem.problem import Problem
from omniconv.target.model import Target


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
