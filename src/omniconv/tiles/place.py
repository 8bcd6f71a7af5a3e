r"""Where the positions of an array lie: on the ground (:mod:`omniconv.tiles.geo`), or in a specimen
(:mod:`omniconv.tiles.ome`); and where those of a result lie that is made of it.

Edge o of a position of the result is r o + s of the image: r image positions for each, and s where the first begins. A
result that covers the image begins where the image does. Of a network that does not pad it is smaller: each position
then lies in the middle of what it reads, s = (h_after - h_before) / 2 with the halo h.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

from omniconv.analysis.tiling import tiling
from omniconv.records import dataclass
from omniconv.tiles.plan import TilePlan


@dataclass(frozen=True, slots=True)
class AxisMove:
    """One axis of a result in positions of the image.

    Attributes:
        rate: image positions for each position of the result.
        start: where the result begins.
    """

    rate: Fraction
    start: Fraction


Moves: TypeAlias = Mapping[str, AxisMove]
"""By the letter of the axis; other axes stay."""


class Location(Protocol):
    """Where the positions of an array lie."""

    def move(self, moves: Moves) -> Any:
        """That of a result."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedImage:
    """What is read in tiles.

    Attributes:
        given: what the caller gave.
        level: of its resolutions.
        array: whose parts can be read.
        axes: a letter for each axis, where its description says what they are.
        place: where its positions lie, where it says that.
    """

    given: Any
    level: int
    array: Any
    axes: str | None = None
    place: Location | None = None


def find_moves(plan: TilePlan, output: str, image: str) -> dict[str, AxisMove]:
    """How the axes of an output lie on those of an image; nothing where it does not depend on that."""
    program = plan.whole.program
    if image not in plan.inputs:
        return {}
    found = tiling(program, output, image).axes
    letters = plan.outputs[output].axes.spatial
    rows = zip(letters, found, program.shapes[image][2:], program.shapes[output][2:], strict=True)
    moves = {}
    for letter, axis, size, made in rows:
        covers = made == -(-size // axis.rate)
        before, after = axis.halo
        moves[letter] = AxisMove(axis.rate, Fraction(0) if covers else Fraction(after - before, 2))
    return moves
