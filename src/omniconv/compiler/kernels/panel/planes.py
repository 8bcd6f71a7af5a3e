r"""The planes family: pointwise layers between channels-first arrays, without a change of layout.

All positions of a channel lie side by side there, in a plane, so that an image is a matrix and a layer a product with
the weights on its left:

.. math:: y_{n,\; c,\; p} = b_c + \sum_j w_{c, j} \, x_{n,\; j,\; p}

The panel kernel computes it turned: its positions are output channels, its vectors run along the positions of the
layer. Weights are read as they lie. A panel of columns is copied once into the memory of a thread, from where all
output channels read it. Sums are in the order that they have between values channels last, and so are their bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar, Final

from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.lower import DIRECT
from omniconv.compiler.kernels.panel.row import ARGS
from omniconv.compiler.kernels.panel.tiles import MOST_VECTORS, PanelTile, cost_panel, list_panels
from omniconv.compiler.lowering.arrange import copy_axes
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer, as_row, place_rows
from omniconv.compiler.lowering.weights import LayerWeights
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored, merge_axes
from omniconv.compiler.problem.candidate import UNITS, Candidate, find_cheapest
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.steps import ConvStep
from omniconv.records import dataclass
from omniconv.target.model import Target

CHANGE: Final = 2.5
"""A change of layout takes so many multiply-adds of whole vectors for each number (128 channels of 56x56: 1.5; 1000 of
7x7: 4 to 5)."""
GATHER: Final = 1.5
"""The same of copying a column: the most where few output channels share it, since it is not hidden behind them."""


@dataclass(frozen=True, slots=True)
class PlanesTile(PanelTile):
    """A tile whose rows are output channels, and whose vectors are positions."""

    word: ClassVar[str] = "planes"


def in_planes(*layouts: Layout) -> bool:
    """Whether all positions of a channel lie side by side, and channels are in order, but apart."""
    return all(map(_in_planes, layouts))


def _in_planes(layout: Layout) -> bool:
    if layout.channels is not None or layout.channels_last or not 3 <= len(layout.shape) <= 5:
        return False
    merged = merge_axes(layout.shape[2:], layout.strides[2:])
    return merged is not None and merged[1] == (1,)


def reject_planes(problem: Problem, _target: Target, facts: Facts) -> str | None:
    """Why planes do not serve a problem; ``None`` where they do."""
    if not problem.pointwise:
        return "an output reads other positions than its own"
    if problem.groups > 1:
        return f"{problem.groups} groups"
    if not facts.planes:
        return "positions of input and result do not lie side by side"
    return None


def _turn(problem: Problem) -> Problem:
    """The product as the panel kernel sees it: its positions are output channels."""
    one = AxisWalk.flat(1)
    positions = math.prod(axis.output for axis in problem.axes)
    return Problem(problem.batch, (one, one, AxisWalk.flat(problem.outputs)), 1, problem.inputs, positions)


def _make_tile(turned: Problem, target: Target, tile: PanelTile) -> PlanesTile:
    """A tile of the panel kernel with all output channels in a unit of work, unless there are too few units."""
    panels = turned.batch * ceil_div(turned.outputs, tile.vectors * target.lanes)
    tiles = ceil_div(turned.axes[2].output, tile.rows)
    return PlanesTile(tile.rows, tile.vectors, tile.unroll, ceil_div(tiles, ceil_div(UNITS, panels)), True, tile.cut)


def _list_turned(turned: Problem, target: Target) -> Iterator[Candidate[PlanesTile]]:
    """Tiles of the panel kernel whose vectors are whole cache lines, or as much of one as tiles hold, where there are
    so many positions: others would read and write lines in parts.
    """
    line = min(MOST_VECTORS, max(1, target.traits.line_bytes // (target.element.bytes * target.lanes)))
    whole = turned.outputs >= line * target.lanes
    for each in list_panels(turned, target):
        if not whole or each.tile.vectors % line == 0:
            yield Candidate(each.cost, _make_tile(turned, target, each.tile))


def _list(problem: Problem, target: Target) -> tuple[Iterator[Candidate[PlanesTile]]]:
    return (_list_turned(_turn(problem), target),)


def _prefer(problem: Problem, target: Target) -> tuple[PlanesTile | None, tuple[str, ...]]:
    """The cheapest tile, or ``None`` where two changes of layout and the panel kernel between them, which takes all
    images as one, are expected to be faster.
    """
    turned = _turn(problem)
    positions = problem.batch * turned.outputs
    changed = problem.outputs + (problem.inputs if problem.inputs >= DIRECT else 0)
    best = find_cheapest(_list_turned(turned, target))
    assert best is not None
    cost = problem.inputs * (problem.batch * best.cost + GATHER * positions)
    other = problem.inputs * cost_panel(as_row(problem, positions), target) + CHANGE * changed * positions
    if cost > other:
        return None, (f"planes: expected to take {cost / other:.2f} times as long as with changes of layout",)
    return best.tile, (f"changes of layout: expected to take {other / cost:.2f} times as long",)


def _place(planner: Planner, step: ConvStep, x: Stored, problem: Problem, _tile: PlanesTile) -> Layer:
    """All positions as one run."""
    return place_rows(planner, step, x, problem, [[0], [1], [*range(2, len(planner.shape(step.y)))]])


def _lower(planner: Planner, layer: Layer, choice: Choice[PlanesTile]) -> None:
    turned, x, y = _turn(layer.problem), layer.x.layout.grid, layer.y.layout.grid
    recipe = Panel(
        batch=turned.batch,
        axes=turned.axes,
        groups=1,
        inputs=turned.inputs,
        outputs=turned.outputs,
        x_strides=(0, 0, 0, turned.inputs),
        y_strides=(y.sn, 0, 0, y.sc),
        x_channel=1,
        x_group=0,
        y_group=0,
        mapped=False,
        tail=False,
        posts=layer.posts_behind(ARGS),
        tile=choice.tile,
        lanes=planner.target.lanes,
        w_strides=(x.sn, 0, 0),
        w_line=x.sc,
        along=False,
        turned=True,
    )
    weights, zero = _arrange(planner, layer), planner.zeros(layer.problem.outputs)
    bias = zero if layer.bias is None else _lay(planner, layer.bias)
    room = planner.thread_memory(recipe.room)
    args = [weights, layer.x.ref, bias, layer.y.ref, zero, zero, *layer.refs, room]
    planner.call(recipe, args, FAMILY.name, choice.rejected, choice.decision)


def _arrange(planner: Planner, layer: Layer) -> BufferRef:
    """Weights, those of an output channel side by side: as they lie, unless inputs come first."""
    weights, inputs, outputs = layer.weights.widened(), layer.problem.inputs, layer.problem.outputs
    if not layer.spec.transposed:
        return _lay(planner, weights)
    if weights.source is None:
        return _lay(planner, weights.map(lambda w: w.reshape(inputs, outputs).T))
    room = BufferRef(planner.add_buffer("arena", inputs * outputs + planner.target.lanes))
    copy_axes(planner, [(outputs, 1, inputs), (inputs, outputs, 1)], weights.source, room)
    return room


def _lay(planner: Planner, operand: LayerWeights) -> BufferRef:
    """An operand row major."""
    if operand.source is not None:
        return operand.source
    return operand.pack(planner, operand.size, lambda array: array.reshape(-1), "planes")


FAMILY = Family("planes", reject=reject_planes, tiles=_list, prefer=_prefer, place=_place, lower=_lower)
"""Pointwise layers as they lie channels first."""
