"""The choice of a kernel family and of its tile: a pure function of the problem, the target and the layouts around.

Nothing is measured here and nothing depends on the machine that runs it, so the choice can be asked (and tested) for
machines that we do not have. A family says what it can compute, with which tiles, and whether it expects to be the
fastest (:class:`omniconv.compiler.lowering.family.Family`); the first of :data:`FAMILIES` that does gets the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from omniconv.compiler.kernels.lane import lower as lane
from omniconv.compiler.kernels.panel import columns, planes
from omniconv.compiler.kernels.panel import lower as panel
from omniconv.compiler.kernels.series import lower as series
from omniconv.compiler.kernels.winograd import lower as winograd
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import as_row
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.target.model import Target

FAMILIES: Final[tuple[Family[Any], ...]] = (
    series.FAMILY,
    planes.FAMILY,
    winograd.FAMILY,
    lane.FAMILY,
    columns.FAMILY,
    panel.FAMILY,
)
"""From the most particular to the one that serves whatever the others do not."""


CHANNELS_LAST: Final = Facts()
"""Of a layer between values that lie channels last."""


class _Offer(NamedTuple):
    """A family that serves a layer, and the problem that it sees."""

    family: Family[Any]
    problem: Problem


def choose(
    problem: Problem,
    target: Target,
    facts: Facts = CHANNELS_LAST,
    find: Callable[[Problem], str | None] = lambda _: None,
) -> Choice[Any]:
    """Choose the kernel family and its tile.

    Args:
        problem: the layer.
        target: the machine.
        facts: what else is known.
        find: the choice of a measurement for a problem: used if it is the text of a tile of a family that serves it.
    """
    offers, rejected = _offer(problem, target, facts)
    choice = _choose_expected(offers, rejected, target)
    wanted = find(choice.problem)
    if wanted is None:
        return choice
    rivals = [
        offer for offer in offers if offer.problem == choice.problem or (choice.problem.rows and offer.family.merges)
    ]
    measured = _choose_measured(rivals, rejected, target, wanted)
    if measured and facts.computed and measured.family.computes and not measured.family.computes(measured.tile):
        measured = None  # it was measured with constant weights
    return measured or replace(choice, rejected=(*choice.rejected, f"tuned {wanted}: not a choice here"))


def list_choices(problem: Problem, target: Target) -> list[list[tuple[str, float]]]:
    """Everything that :func:`choose` can be told to choose, as lists of texts with costs.

    Each list has a unit of its own: costs are compared within one list only. A pointwise layer between channels-first
    values is taken to have its positions in one row where the panel kernel computes it, unless that reads planes of
    several images in place. What is around a layer may still refuse some of the texts.
    """
    rows = problem.rows
    in_row = problem.pointwise and (problem.batch == 1 or problem.groups * problem.inputs >= panel.DIRECT)
    merged = as_row(problem) if rows and in_row else None
    facts = Facts(x_rows=rows, y_rows=rows, planes=rows, columns=problem.columns, merged=merged)
    offers, _ = _offer(problem, target, facts)
    lists = [tiles for family, seen in offers for tiles in family.tiles(seen, target)]
    found = [[(each.tile.text(), each.cost) for each in tiles] for tiles in lists]
    return [items for items in found if items]


def _offer(problem: Problem, target: Target, facts: Facts) -> tuple[list[_Offer], list[str]]:
    """The families that serve a layer, each with the problem that it sees; and why the others do not.

    With series or planes among them, the layer is another problem than between values that lie channels last: the
    others would change the layout twice. With columns it is another than where pixels of the result are apart. All
    families see that problem, so that a measurement of any of them is found.
    """
    merged = [facts.merged if family.merges else None for family in FAMILIES]
    reasons = [family.reject(other or problem, target, facts) for family, other in zip(FAMILIES, merged, strict=True)]
    reason_of = dict(zip((family.name for family in FAMILIES), reasons, strict=True))
    rows = problem.rows or None in (reason_of[series.FAMILY.name], reason_of[planes.FAMILY.name])
    side_by_side = problem.columns or reason_of[columns.FAMILY.name] is None
    if (rows, side_by_side) != (problem.rows, problem.columns):
        problem = replace(problem, rows=rows, columns=side_by_side)
    offers, rejected = [], []
    for family, other, reason in zip(FAMILIES, merged, reasons, strict=True):
        if reason is None:
            offers.append(_Offer(family, other or problem))
        else:
            rejected.append(f"{family.name}: {reason}")
    return offers, rejected


def _choose_expected(offers: list[_Offer], rejected: list[str], target: Target) -> Choice[Any]:
    """The first family that expects to be the fastest."""
    reasons = list(rejected)
    for family, problem in offers:
        tile, compared = family.prefer(problem, target)
        reasons += compared
        if tile is not None:
            return Choice(family, tile, problem, tuple(reasons))
    raise AssertionError("no family is left")


def _choose_measured(offers: list[_Offer], rejected: list[str], target: Target, wanted: str) -> Choice[Any] | None:
    """The tile with a text; ``None`` where no family has it."""
    told = next(
        (
            (family, each.tile, problem)
            for family, problem in offers
            for tiles in family.tiles(problem, target)
            for each in tiles
            if each.tile.text() == wanted
        ),
        None,
    )
    if told is None:
        return None
    reasons = list(rejected)
    for family, problem in offers:
        tile, compared = family.prefer(problem, target)
        if tile is None:
            reasons += compared
        elif tile.text() != wanted:
            reasons.append(f"{tile.text()}: measured slower")
    return Choice(*told, tuple(reasons), tuned=True)
