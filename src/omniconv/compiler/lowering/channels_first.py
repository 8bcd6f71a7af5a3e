"""Depthwise layers between channels-first arrays, without a change of layout."""

from __future__ import annotations

from omniconv.compiler import series
from omniconv.compiler.layout import Layout
from omniconv.compiler.lowering.posts import lower_posts
from omniconv.compiler.planner import Planner
from omniconv.compiler.program import ConvStep
from omniconv.compiler.schedule import Problem
from omniconv.compiler.series import Series
from omniconv.compiler.series_schedule import plan_series, reject_series


def lower_series(planner: Planner, step: ConvStep, problem: Problem) -> bool:
    """Call the series kernel if it serves a layer whose input is channels first and whose result may be."""
    x, y = planner.get(step.x), planner.wanted.get(step.y)
    if y is None or not _rows(x.layout) or not _rows(y.layout) or reject_series(problem) is not None:
        return False
    tile, lanes = plan_series(problem, planner.target)
    planner.stored[step.y] = y
    shape = planner.shape(step.y)
    posts, refs = lower_posts(planner, step.post, shape, series.ARGS, -1)
    source, result = x.layout.grid, y.layout.grid
    recipe = Series(
        problem.batch, problem.axes, problem.groups, problem.outputs, len(shape) - 2,
        (source.sn, source.sc, *source.strides[:2]), (result.sn, result.sc, *result.strides[:2]),
        posts, tile, lanes,
    )  # fmt: skip
    channels = recipe.channels * recipe.multiplier
    weights = planner.constant(channels * recipe.taps, lambda: recipe.pack_weights(step.w, flip=step.spec.flip))
    bias = planner.constant(channels, lambda: recipe.pack_bias(step.b))
    room = planner.thread_memory(recipe.scratch)
    planner.call(recipe, [x.ref, weights, bias, y.ref, room, *refs], "series")
    return True


def _rows(layout: Layout) -> bool:
    """Whether positions along the last axis are neighbours, and channels are in order."""
    return layout.channels is None and 3 <= len(layout.shape) <= 5 and layout.strides[-1] == 1
