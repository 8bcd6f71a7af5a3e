"""Depthwise layers between channels-first arrays, without a change of layout."""

from __future__ import annotations

from omniconv.compiler import series
from omniconv.compiler.layout import Layout
from omniconv.compiler.lowering.posts import lower_posts
from omniconv.compiler.planner import Planner
from omniconv.compiler.problem import Problem
from omniconv.compiler.program import ConvStep
from omniconv.compiler.series import Series
from omniconv.compiler.series_schedule import plan_series
from omniconv.compiler.storage import Stored


def lower_series(planner: Planner, step: ConvStep, x: Stored, problem: Problem) -> str | None:
    """Call the series kernel where the input is channels first, the result may be, and that is expected to be faster.

    Returns:
        ``None``, or why the kernel was not called.
    """
    y = planner.wanted.get(step.y)
    if y is None and step.y in planner.places:
        y = Stored(*planner.places[step.y])
    if not _in_rows(x.layout):
        return "the input is not channels first"
    if y is None or not _in_rows(y.layout):
        return "the result is not wanted channels first"
    plan, why = plan_series(problem, planner.target)
    if plan is None:
        return why
    planner.stored[step.y] = y
    shape = planner.shape(step.y)
    posts, refs = lower_posts(planner, step.post, shape, series.ARGS, [[axis] for axis in range(len(shape))])
    source, result = x.layout.grid, y.layout.grid
    recipe = Series(
        problem.batch, problem.axes, problem.groups, problem.outputs, len(shape) - 2,
        (source.sn, source.sc, *source.strides[:2]), (result.sn, result.sc, *result.strides[:2]),
        posts, plan.tile, plan.lanes,
    )  # fmt: skip
    channels = recipe.channels * recipe.multiplier
    weights = planner.constant(channels * recipe.taps, lambda: recipe.pack_weights(step.w, flip=step.spec.flip))
    bias = planner.constant(channels, lambda: recipe.pack_bias(step.b))
    planner.call(recipe, [x.ref, weights, bias, y.ref, planner.thread_memory(recipe.scratch), *refs], "series", (why,))
    return None


def _in_rows(layout: Layout) -> bool:
    """Whether positions along the last axis are neighbours, and channels are in order."""
    return layout.channels is None and 3 <= len(layout.shape) <= 5 and layout.strides[-1] == 1
