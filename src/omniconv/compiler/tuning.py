"""`Tuning`: choices that were measured, to be used in place of those that the model of costs makes.

Problems and choices are plain text, the same in memory, on disk and in `explain`. A choice is never taken apart: it is
used if it is, to the letter, one of those that the schedule lists for the problem itself, and ignored otherwise. So
whatever a file says, only tiles that the compiler would have made come out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from omniconv.compiler.lane import LaneTile
from omniconv.compiler.panel import PanelTile
from omniconv.compiler.problem import Problem
from omniconv.compiler.stencil import StencilTile
from omniconv.compiler.target import Target
from omniconv.compiler.winograd import Blocks


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choices for one target: text of a problem -> text of a choice (:func:`describe_tile`,
    :func:`describe_blocks`).
    """

    target: Target
    choices: Mapping[str, str] = field(default_factory=dict)

    def find(self, problem: Problem) -> str | None:
        """The choice for a problem; ``None`` where there is none."""
        return self.choices.get(problem.text()) if self.choices else None


def describe_tile(tile: LaneTile | PanelTile) -> str:
    """The text of a tile, its kernel first.

    Example:
        >>> describe_tile(PanelTile(6, 2, 4, 8))
        'panel rows=6 vectors=2 unroll=4 block=8 ...'
    """
    kernel = {LaneTile: "lane", StencilTile: "stencil", PanelTile: "panel"}[type(tile)]
    values = ((item.name, getattr(tile, item.name)) for item in fields(tile))
    return " ".join([kernel, *(f"{name}={str(value).replace(' ', '')}" for name, value in values)])


def describe_blocks(blocks: Blocks) -> str:
    """The text of Winograd filtering in these blocks."""
    return f"winograd m={blocks.m} slab={blocks.slab} groups={blocks.groups}"
