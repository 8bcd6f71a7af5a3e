"""The series family: depthwise layers between channels-first arrays, without a change of layout."""

from __future__ import annotations

from typing import Any

from omniconv.compiler.kernels.series.blocks import ARGS, SeriesBlocks
from omniconv.compiler.kernels.series.kernel import Series
from omniconv.compiler.kernels.series.phased import Phased
from omniconv.compiler.kernels.series.tiles import (
    PhasedTile,
    SeriesTile,
    list_series,
    prefer_series,
    reject_series,
)
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer, place_rows
from omniconv.compiler.lowering.weights import pack_bias
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.compiler.problem.problem import Problem
from omniconv.program.steps import ConvStep


def in_rows(layout: Layout) -> bool:
    """Whether positions along the last axis are neighbours, and channels are in order."""
    return layout.channels is None and 3 <= len(layout.shape) <= 5 and layout.strides[-1] == 1


def _place(planner: Planner, step: ConvStep, x: Stored, problem: Problem, _tile: SeriesTile | PhasedTile) -> Layer:
    """Each axis by itself."""
    return place_rows(planner, step, x, problem, [[axis] for axis in range(len(planner.shape(step.y)))])


def _lower(planner: Planner, layer: Layer, choice: Choice[SeriesTile | PhasedTile]) -> None:
    problem, source, result = layer.problem, layer.x.layout.grid, layer.y.layout.grid
    kind: type[Any] = Phased if isinstance(choice.tile, PhasedTile) else Series
    recipe: SeriesBlocks = kind(
        batch=problem.batch,
        axes=problem.axes,
        channels=problem.groups,
        multiplier=problem.outputs,
        dims=layer.spec.dims,
        x_strides=(source.sn, source.sc, *source.strides[:2]),
        y_strides=(result.sn, result.sc, *result.strides[:2]),
        posts=layer.posts_behind(ARGS),
        tile=choice.tile,
    )
    channels = recipe.channels * recipe.multiplier
    flip = layer.spec.flip
    weights = layer.weights.pack(planner, channels * recipe.taps, lambda w: recipe.pack_weights(w, flip=flip))
    bias = pack_bias(planner, layer.bias, channels, recipe.pack_bias)
    room = planner.thread_memory(recipe.scratch)
    args = [layer.x.ref, weights, bias, layer.y.ref, room, *layer.refs]
    planner.call(recipe, args, FAMILY.name, choice.rejected, choice.decision)


FAMILY = Family("series", reject=reject_series, tiles=list_series, prefer=prefer_series, place=_place, lower=_lower)
