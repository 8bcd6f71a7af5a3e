r"""The columns family: layers of few output channels, whose neighbouring columns become channels of wider pixels.

A vector of output channels holds them alone: of a layer with one, or three, most lanes are spare. Where the pixels of
its result lie side by side, a row of :math:`W` of them with :math:`C` channels is a row of :math:`W / u` pixels with
:math:`u C` channels, in the same places:

.. math:: y'_{b,\; j C + c} = y_{u b + j,\; c}

So the layer is another one that the panel kernel computes, with a kernel that spans what ``u`` columns read and zeros
where a column lacks a tap. The phases of a transposed layer are such columns too: ``u`` is a multiple of their number,
and the other layer has no stride between its outputs. Taps are added in the order that they have, so that numbers are
those of the panel kernel, but for the sign of a zero. An infinity or NaN times such a zero is NaN.

Columns that are left over at the end of a row, where ``u`` does not divide :math:`W`, are single ones in a call of
their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.panel.lower import lower_panel, place_panel
from omniconv.compiler.kernels.panel.tiles import PanelTile, cost_panel, list_panels, plan_panel
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer
from omniconv.compiler.memory.layout import Layout, channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.compiler.problem.candidate import Candidate, Sizes
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.steps import Array, ConvStep
from omniconv.records import dataclass
from omniconv.target.model import Target

MARGIN = 0.95
"""Columns become channels where that is expected to take less than this part of the time."""
VECTORS = 4
"""Vectors of channels that columns are made into, at most."""
PIXELS = 16
"""So many wider pixels of a row are worth a call, and machine code, for the columns that are left over."""


@dataclass(frozen=True, slots=True)
class ColumnsTile(Sizes):
    """A tile of the wider layer.

    Attributes:
        columns: of the result, in one pixel of the wider one.
        panel: the tile of the panel kernel.
    """

    word: ClassVar[str] = "columns"

    columns: int
    panel: PanelTile

    def text(self) -> str:
        """The number of columns, and the tile."""
        return f"{self.word} columns={self.columns} {self.panel.text()}"

    def form(self) -> str:
        """The same of what machine code depends on."""
        return f"{self.word} columns={self.columns} {self.panel.form()}"


@dataclass(frozen=True, slots=True)
class WideAxis:
    """The width of a layer whose ``columns`` neighbouring outputs are channels of one position.

    Attributes:
        walk: of the layer, or of the columns that are not left over.
        columns: a multiple of its phases that divides its outputs.
    """

    walk: AxisWalk
    columns: int

    @property
    def offsets(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each of the columns its taps: index in the kernel, and the input position at the first block."""
        walk = self.walk
        found = []
        for column in range(self.columns):
            q, phase = divmod(column, walk.phases)
            first = q * walk.in_step + walk.first[phase]
            taps = range(walk.taps[phase])
            found.append(tuple((walk.k0[phase] + t * walk.kstep, first + t * walk.ostep) for t in taps))
        return tuple(found)

    @property
    def wide(self) -> AxisWalk:
        """The walk of the wider layer, over the positions in the order that the taps have."""
        walk = self.walk
        positions = sorted({position for taps in self.offsets for _, position in taps}, reverse=walk.ostep < 0)
        distance = math.gcd(*(abs(b - positions[0]) for b in positions)) or 1
        kernel = abs(positions[-1] - positions[0]) // distance + 1
        return AxisWalk(
            size=walk.size,
            output=walk.output // self.columns,
            in_step=self.columns // walk.phases * walk.in_step,
            out_step=1,
            ostep=-distance if walk.ostep < 0 else distance,
            kstep=1,
            kernel=kernel,
            first=(positions[0],),
            k0=(0,),
            taps=(kernel,),
            counts=(walk.output // self.columns,),
        )

    def widen(self, w: Array, *, transposed: bool, flip: bool) -> Array:
        """Weights in PyTorch's shape as those of the wider layer: channel ``j C + c`` is channel c of column j."""
        wide, outputs = self.wide, 1 if transposed else 0
        taps = w[..., ::-1] if flip else w
        columns = np.zeros((self.columns, *w.shape[:-1], wide.kernel), w.dtype)
        for column, found in zip(columns, self.offsets, strict=True):
            for index, position in found:
                column[..., (position - wide.first[0]) // wide.ostep] = taps[..., index]
        if flip:
            columns = columns[..., ::-1]
        return np.concatenate(list(columns), outputs)


def list_widths(problem: Problem, target: Target) -> Iterator[int]:
    """How many columns may be one position."""
    width = problem.axes[2]
    most = VECTORS * target.lanes // problem.outputs
    for columns in range(width.phases, most + 1, width.phases):
        pixels, rest = divmod(width.output, columns)
        if columns > 1 and (rest == 0 or (rest >= width.phases and pixels >= PIXELS)):
            yield columns


def split_columns(width: AxisWalk, columns: int) -> tuple[AxisWalk, tuple[int, int, AxisWalk] | None]:
    """The walk of all columns that wider pixels hold, and of those that are left over: the first of them, and of the
    input positions that they read.
    """
    rest = width.output % columns
    if rest == 0:
        return width, None
    begin = width.output - rest
    low, left = width.cut(begin, width.output)
    counts = tuple(ceil_div(begin - phase, width.out_step) for phase in range(width.phases))
    return replace(width, output=begin, counts=counts), (begin, low, left)


def widen_problem(problem: Problem, columns: int) -> Problem:
    """The wider layer."""
    width, _ = split_columns(problem.axes[2], columns)
    axes = *problem.axes[:2], WideAxis(width, columns).wide
    return Problem(problem.batch, axes, 1, problem.inputs, columns * problem.outputs)


def _keep_rest(problem: Problem, columns: int) -> Problem | None:
    """The layer of the columns that are left over, if there are any."""
    _, rest = split_columns(problem.axes[2], columns)
    return None if rest is None else replace(problem, axes=(*problem.axes[:2], rest[2]), columns=False)


class _Width(NamedTuple):
    """A number of columns, the wider layer, and what the columns cost that are left over."""

    columns: int
    problem: Problem
    left: float

    def cost(self, panel: float) -> float:
        """For one row, tap of the height and input channel, where a tap of the wider layer costs so much."""
        return panel * self.problem.axes[2].kernel + self.left


def _list_wide(problem: Problem, target: Target) -> Iterator[_Width]:
    """The wider layers to consider."""
    for columns in list_widths(problem, target):
        wide, rest = widen_problem(problem, columns), _keep_rest(problem, columns)
        # Such a channel would be summed in another order, along the inputs.
        if wide.outputs % target.lanes != 1:
            left = 0.0 if rest is None else cost_panel(rest, target) * sum(rest.axes[2].taps)
            yield _Width(columns, wide, left)


def list_columns(problem: Problem, target: Target) -> Iterator[Candidate[ColumnsTile]]:
    """Every number of columns with every tile, and its cost."""
    for width in _list_wide(problem, target):
        for each in list_panels(width.problem, target):
            yield Candidate(width.cost(each.cost), ColumnsTile(width.columns, each.tile))


def _find_columns(problem: Problem, target: Target) -> Candidate[ColumnsTile] | None:
    """The cheapest of them: of the many that are compared, only this one has to be made."""
    widths = list(_list_wide(problem, target))
    if not widths:
        return None
    costs = [width.cost(cost_panel(width.problem, target)) for width in widths]
    best = costs.index(min(costs))
    return Candidate(costs[best], ColumnsTile(widths[best].columns, plan_panel(widths[best].problem, target)))


def widen_posts(posts: Sequence[Post], outputs: int, columns: int) -> tuple[Post, ...] | None:
    """The epilogue of the wider layer; ``None`` where some operand differs between columns in another way than the
    result.
    """
    found = []
    for post in posts:
        if post.operand is not None:
            n, c, d, h, w = post.operand.strides
            if w == outputs and (c == 1 or outputs == 1):  # as the result lies
                post = post.reading(post.operand.along(n, 1, d, h, w * columns))
            elif w or c:
                return None
        found.append(post)
    return tuple(found)


def lies_densely(layout: Layout) -> bool:
    """Whether the pixels of a row lie side by side, channels in order, with nothing between them."""
    grid = layout.grid
    return layout.channels is None and grid.sc == 1 and grid.strides[2] == grid.c


def reject_columns(problem: Problem, target: Target, facts: Facts) -> str | None:
    """Why columns of a layer cannot become channels, or why nothing is gained."""
    if problem.groups > 1:
        return "several groups"
    if problem.outputs % target.lanes == 0 or problem.outputs * 2 > VECTORS * target.lanes:
        return f"{problem.outputs} output channels fill their vectors"
    if problem.axes[2].kernel == 1:
        return "neighbouring columns share no input"
    if facts.exact:
        return "exact=True"
    if facts.computed:
        return "the weights are computed"
    if not (facts.columns or problem.columns):
        return "the pixels of the result do not lie side by side, or operands lie otherwise"
    if next(list_widths(problem, target), None) is None:
        return f"{problem.axes[2].output} columns are few, and no multiple of any number of them that fits"
    return None


def weigh_columns(problem: Problem, target: Target) -> tuple[float, ColumnsTile | None]:
    """Part of the time of single columns that the best columns take, and their tile; 1 without one where none can be
    made.
    """
    best = _find_columns(problem, target) if problem.groups == 1 else None
    if best is None:
        return 1.0, None
    return best.cost / (cost_panel(problem, target) * sum(problem.axes[2].taps)), best.tile


def _prefer(problem: Problem, target: Target) -> tuple[ColumnsTile | None, tuple[str, ...]]:
    part, tile = weigh_columns(problem, target)
    if tile is None:
        return None, ("columns: a channel of its own would be left over",)
    if part > MARGIN:
        return None, (f"columns: {part:.2f} of the time of single columns expected",)
    return tile, (f"panel: single columns: {1 / part:.2f} times the time expected",)


def _list(problem: Problem, target: Target) -> tuple[Iterator[Candidate[ColumnsTile]]]:
    return (list_columns(problem, target),)


def _place(planner: Planner, step: ConvStep, x: Stored, problem: Problem, tile: ColumnsTile) -> Layer:
    if step.y not in planner.places:  # else it lies densely where it is
        layout = replace(channels_last(planner.shape(step.y)), readable=True)
        room = planner.room(layout, planner.element_of(step.y))
        planner.places[step.y] = room.buffer, room.offset, room.layout, room.element
    return place_panel(planner, step, x, problem, tile.panel)


def _lower(planner: Planner, layer: Layer, choice: Choice[ColumnsTile]) -> None:
    problem, columns, y = layer.problem, choice.tile.columns, layer.y.layout
    width, rest = split_columns(problem.axes[2], columns)
    axis = WideAxis(width, columns)
    posts = widen_posts(layer.posts, problem.outputs, columns)
    assert posts is not None
    shape = (y.shape[0], columns * y.shape[1], *y.shape[2:-1], width.output // columns)
    strides = (y.strides[0], 1, *y.strides[2:-1], y.shape[1] * columns)
    spec = layer.spec
    wide = replace(
        layer,
        problem=widen_problem(problem, columns),
        y=replace(layer.y, layout=Layout(shape, strides, readable=y.readable)),
        posts=posts,
        weights=layer.weights.map(partial(axis.widen, transposed=spec.transposed, flip=spec.flip)),
        bias=None if layer.bias is None else layer.bias.map(lambda b: np.tile(b, columns)),
    )
    lower_panel(planner, wide, choice.tile.panel, choice, f"{columns} columns as channels", (columns, axis.offsets))
    if rest is not None:
        left = _take_columns(layer, *rest)
        lower_panel(planner, left, plan_panel(left.problem, planner.target), choice, "columns that are left over")


def _take_columns(layer: Layer, begin: int, low: int, width: AxisWalk) -> Layer:
    """A layer of the columns from ``begin`` on, whose walk reads from ``low`` on."""
    x, y, refs = layer.x, layer.y, list(layer.refs)
    for post in layer.posts:
        if post.operand is not None:
            refs[post.operand.arg] = refs[post.operand.arg].shift(begin * post.operand.strides[4])
    # Lanes after a column would fall on the next row, which is there already.
    layout = Layout((*y.layout.shape[:-1], width.output), y.layout.strides, readable=y.layout.readable)
    return replace(
        layer,
        problem=replace(layer.problem, axes=(*layer.problem.axes[:2], width), columns=False),
        x=x.shift(low * x.layout.grid.strides[2]),
        y=replace(y.shift(begin * y.layout.grid.strides[2]), layout=layout),
        refs=tuple(refs),
    )


FAMILY = Family("columns", reject=reject_columns, tiles=_list, prefer=_prefer, place=_place, lower=_lower)
"""Columns as channels, behind the families that do less for a layer."""
