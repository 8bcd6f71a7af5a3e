"""Tiles of the panel kernel, and what each is expected to cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import lru_cache
from typing import ClassVar, Final, TypeAlias

from omniconv.compiler.problem.candidate import LESS, Candidate, Sizes, count_tiles_in_unit
from omniconv.compiler.problem.problem import Problem
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

SPAN = 256
"""Input channels of a sum of its own: a running sum over more of them loses digits that its parts still have."""

MOST_ROWS: Final = 14
"""Output positions in a tile, at most."""
MOST_VECTORS: Final = 4
"""Vectors of output channels in a tile of several positions, at most."""

WORTH_CUTTING = 0.97
"""Part of its cost that a row of tiles may keep at most for the last tile to get code of its own."""


def list_panels(problem: Problem, target: Target) -> Iterator[Candidate[PanelTile]]:
    """Every tile of the panel kernel whose accumulators fit the registers."""
    return (Candidate(each[0], _make_tile(problem, target, each)) for each in _weigh(problem, target))


def cost_panel(problem: Problem, target: Target) -> float:
    """Cost of the cheapest tile of the list."""
    return _find(problem, target)[0]


def plan_panel(problem: Problem, target: Target) -> PanelTile:
    """Tile of the panel kernel."""
    return _make_tile(problem, target, _find(problem, target))


def sums_along_inputs(inputs: int, taps: int, outputs: int, lanes: int) -> bool:
    """Whether an output channel that is left over is summed by vectors along its inputs, where they are neighbours:
    there are some vectors of them, and the sum of a lane is no longer than a span.
    """
    return outputs % lanes == 1 < lanes and 2 * lanes <= inputs and inputs * taps <= SPAN * lanes


_Weighed: TypeAlias = tuple[float, int, int, bool]
"""Cost, rows and vectors of a tile, and whether the last one of a row has code of its own."""


def _weigh(problem: Problem, target: Target) -> Iterator[_Weighed]:
    """What every tile costs: of the many that are compared, only the one that is chosen has to be made."""
    width = problem.axes[2]
    count = min(width.counts)
    vectors = ceil_div(problem.outputs, target.lanes)
    costs = _PanelCosts.of(problem.inputs, problem.outputs, problem.taps, width.bordered, target)
    for wide in range(1, min(vectors, 8 if count == 1 else MOST_VECTORS) + 1):
        found = costs.list(wide)
        for rows in range(1, min(count, len(found) - 1) + 1):
            whole, rest = divmod(count, rows)
            each, tiles = found[rows], whole + (rest > 0)
            yield each * tiles, rows, wide, False
            if rest and width.phases == 1:
                both = each * whole + found[rest]
                if both < WORTH_CUTTING * each * tiles:
                    yield both, rows, wide, True


def _find(problem: Problem, target: Target) -> _Weighed:
    """The cheapest of them, as :func:`omniconv.compiler.problem.candidate.find_cheapest` finds it."""
    weighed = _weigh(problem, target)
    best = next(weighed)
    for each in weighed:
        if each[0] < best[0] * LESS:
            best = each
    return best


def _make_tile(problem: Problem, target: Target, weighed: _Weighed) -> PanelTile:
    """The tile that was weighed."""
    _, rows, wide, cut = weighed
    vectors = ceil_div(problem.outputs, target.lanes)
    unroll = problem.inputs if problem.inputs <= (4 if target.traits.gathers_loads else 8) else 4
    lines = problem.batch * problem.axes[0].output * problem.axes[1].output
    lines *= problem.groups * ceil_div(vectors, wide)
    block = min(count_tiles_in_unit(lines, ceil_div(min(problem.axes[2].counts), rows)), 16)
    # All panels at each block of positions, if their weights stay near: threads keep to pixels of their own, and the
    # groups of a pointwise layer read neighbouring parts of the same ones.
    weights = target.element.bytes * problem.groups * problem.inputs * problem.taps * vectors * target.lanes
    near = target.l1_bytes if problem.groups > 1 else target.cache_bytes // 2
    return PanelTile(rows, wide, unroll, block, weights <= near, cut)


def _count_rows(target: Target, wide: int) -> int:
    """Rows whose sums fit the registers beside the weights of a step and one input, or those of all rows."""
    if target.traits.gathers_loads:
        return max(1, (target.registers - 2 - wide) // (wide + 1))
    return max(1, (target.registers - 1 - wide) // wide)


@dataclass(frozen=True, slots=True)
class _PanelCosts:
    """Costs of the tiles of one layer, which do not depend on its sizes: each is worked out once."""

    inputs: int
    outputs: int
    taps: int
    bordered: bool
    target: Target
    found: dict[int, list[float]] = field(default_factory=dict, init=False, compare=False)

    @classmethod
    @lru_cache(maxsize=1024)
    def of(cls, inputs: int, outputs: int, taps: int, bordered: bool, target: Target) -> _PanelCosts:
        """Those of a layer; ``bordered`` says whether taps along the width leave the input."""
        return cls(inputs, outputs, taps, bordered, target)

    def list(self, wide: int) -> list[float]:
        """Cost of one input channel and tap of a tile of all channels, for each number of rows that it may have."""
        costs = self.found.get(wide)
        if costs is None:
            most = min(_count_rows(self.target, wide), MOST_ROWS)
            costs = self.found[wide] = [0.0, *(self._add_up(rows, wide) for rows in range(1, most + 1))]
        return costs

    def _add_up(self, rows: int, wide: int) -> float:
        """By the load and multiply-add counts."""
        target = self.target
        vectors = ceil_div(self.outputs, target.lanes)
        full, last = divmod(vectors - 1, wide)
        cost = full * self._cost_step(rows, wide)
        if last == 0 and sums_along_inputs(self.inputs, self.taps, self.outputs, target.lanes):
            return cost + self._cost_dots(rows)
        cost += self._cost_step(rows, last + 1)
        # A last vector that is alone in its panel may be a shorter one.
        narrow = last == 0 and (self.outputs - 1) % target.lanes < target.lanes // 2
        if narrow and target.traits.half_vector < 1:
            cost -= max(0.0, rows - max(rows / 2 + 1, target.traits.sums_in_flight))
        return cost

    def _cost_dots(self, rows: int) -> float:
        """One step of a tile of a single channel: of a vector of inputs, all of whose weights are loaded and put into
        their lanes one by one. In the end there are the lanes of each row to add, in halves.
        """
        lanes = self.target.lanes
        folds = 2 * (lanes.bit_length() - 1) * rows
        return (rows + 2 * lanes) / lanes + (folds + self.target.traits.panel.start) / (self.inputs * self.taps)

    def _cost_step(self, rows: int, held: int) -> float:
        """One step of a tile; the formula is that of :class:`omniconv.target.traits.PanelCosts`."""
        target, depth = self.target, self.inputs * self.taps
        traits, costs = target.traits, target.traits.panel
        loads = costs.broadcast * rows + held
        waiting = loads * traits.fmas_per_load if costs.counts_loads else 0.0
        cost = max(rows * held, waiting, traits.sums_in_flight) + costs.load * loads + costs.row * rows + costs.step
        cost += costs.crowd * max(0, rows - costs.easy)
        if target.element.bytes * depth * held * target.lanes > target.l1_bytes * 3 // 4:
            cost += costs.far * held  # weights come from the second level
        if self.bordered:
            cost += costs.border * rows / self.inputs
        return cost + (costs.store * rows * held + costs.start) / depth


@dataclass(frozen=True, slots=True)
class PanelTile(Sizes):
    """The sizes that tiles of this kernel differ in.

    Attributes:
        rows: output positions in a tile.
        vectors: vectors of output channels in a tile.
        unroll: input channels in one round of the innermost loop.
        block: tiles in one unit of work.
        inner: whether the panels of all groups follow one another at each block of positions, instead of all positions
            at each panel.
        cut: whether the last tile of a row holds the positions that are left, with code of its own, instead of
            overlapping the one before it.
    """

    word: ClassVar[str] = "panel"
    loose: ClassVar[frozenset[str]] = frozenset({"block", "cut"})

    rows: int
    vectors: int
    unroll: int
    block: int
    inner: bool = False
    cut: bool = False
