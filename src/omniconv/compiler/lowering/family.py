"""`Family`: one way to compute convolutions and dense layers, with everything that the choice asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from omniconv.compiler.lowering.layer import Layer
from omniconv.compiler.memory.planner import Decision, Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.compiler.problem.candidate import Candidate, Tile
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.program.steps import ConvStep
from omniconv.records import dataclass
from omniconv.target.model import Target

T = TypeVar("T", bound=Tile)


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """A kernel family: which layers it serves, with what tiles, and how these become calls.

    Attributes:
        name: in tables and reasons.
        reject: why it does not serve a problem; ``None`` where it does.
        tiles: all tiles for a problem that it serves, a list for each of its kernels.
        prefer: the tile it takes by itself, or ``None`` where another family is expected to be faster; and in words,
            what it was compared with.
        place: the layer of a step, its input, result and operands laid out as the kernels want them. The input is given
            as it was found.
        lower: append the calls of a layer.
        settle: for images of many sizes, a tile like the one it would take, of a form like those of other images; by
            default that is the cheapest of the list that has such a form.
        holds: whether constant weights of this largest magnitude can be used with a tile; by default any can.
        computes: whether weights that are computed can be used with a tile; by default any can.
        merges: whether it computes :attr:`Facts.merged` in place of the problem, where there is one.
    """

    name: str
    reject: Callable[[Problem, Target, Facts], str | None]
    tiles: Callable[[Problem, Target], Iterable[Iterable[Candidate[T]]]]
    prefer: Callable[[Problem, Target], tuple[T | None, tuple[str, ...]]]
    place: Callable[[Planner, ConvStep, Stored, Problem, T], Layer]
    lower: Callable[[Planner, Layer, Choice[T]], None]
    merges: bool = False
    settle: Callable[[T, Sequence[T]], T] | None = None
    holds: Callable[[T, float], bool] | None = None
    computes: Callable[[T], bool] | None = None


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """What was chosen for a layer, and why nothing else.

    Attributes:
        family, tile: what computes it.
        problem: what the tile is for: the layer's own, or with its positions merged.
        rejected: for every other family, why not.
        tuned: whether a measurement chose the tile.
        text: what the tile is called, where its sizes are open.
    """

    family: Family[T]
    tile: T
    problem: Problem
    rejected: tuple[str, ...]
    tuned: bool = False
    text: str = ""

    @property
    def decision(self) -> Decision:
        """What the calls of the layer say of it."""
        return Decision(self.problem, self.text or self.tile.text(), self.tuned)
