"""Calls of the panel kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.panel import kernel as panel
from omniconv.compiler.kernels.panel.tiles import PanelTile
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Ref, Stored, merge_axes
from omniconv.compiler.planning.choice import Choice, plan_conv
from omniconv.compiler.problem.candidate import describe_tile
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.program.steps import Array
from omniconv.spec import Conv


class _Source(NamedTuple):
    """Input channels of a panel kernel: where they start, their step, an optional list, and the order of weights."""

    ref: Ref
    step: int
    offsets: tuple[int, ...] | None
    order: tuple[int, ...] | None


def _channel_source(x: Stored, groups: int) -> _Source:
    """How the reduction walks the input channels.

    Within a group the order is free (the weights follow), so positions are sorted: a whole permutation becomes a plain
    walk.
    """
    step = x.layout.grid.sc
    if x.layout.channels is None:
        return _Source(x.ref, step, None, None)
    positions = np.asarray(x.layout.channels).reshape(groups, -1)
    order = np.argsort(positions, axis=1, kind="stable")
    walk = np.take_along_axis(positions, order, axis=1).reshape(-1)
    width = positions.shape[1]
    reorder = tuple(int(i) for i in (order + np.arange(groups)[:, None] * width).reshape(-1))
    if np.array_equal(walk, np.arange(walk[0], walk[0] + walk.size)):
        return _Source(Ref(x.buffer, x.offset + int(walk[0]) * step), step, None, reorder)
    return _Source(x.ref, step, tuple(int(p) * step for p in walk), reorder)


def _reorder_inputs(w: Array, order: tuple[int, ...] | None, groups: int, transposed: bool) -> Array:
    """Weights with the input channels of each group in walking order."""
    if order is None:
        return w
    if transposed:
        return w[list(order)]
    width = w.shape[1]
    within = np.asarray(order).reshape(groups, width) % width
    outputs = w.shape[0] // groups
    index = np.repeat(within, outputs, axis=0).reshape(w.shape[0], width, *(1,) * (w.ndim - 2))
    return np.take_along_axis(w, index, axis=1)


def _call_panel(
    planner: Planner, problem: Problem, x: Stored, y: Stored, posts: Sequence[Post], refs: list[Ref],
    spec: Conv, w: Array, b: Array | None, choice: Choice | None = None, why: tuple[str, ...] = (),
) -> None:  # fmt: skip
    source, result = x.layout.grid, y.layout.grid
    x_strides, y_strides = (source.sn, *source.strides), (result.sn, *result.strides)
    flat = _flatten(problem, x_strides, y_strides, posts)
    if flat is not None:
        problem, x_strides, y_strides, posts = flat
    if flat is not None or choice is None:
        choice = plan_conv(problem, planner.target, planner.find_tuned(problem))
    assert isinstance(choice.tile, PanelTile)
    channels = _channel_source(x, problem.groups)
    recipe = panel.Panel(
        problem.batch, problem.axes, problem.groups, problem.inputs, problem.outputs, x_strides, y_strides,
        channels.step, problem.inputs * channels.step, problem.outputs, channels.offsets is not None,
        y.layout.tail and problem.groups == 1, tuple(posts), choice.tile, planner.target.lanes,
    )  # fmt: skip
    weights = planner.constant(
        recipe.groups * recipe.depth * recipe.columns,
        lambda: recipe.pack_weights(
            _reorder_inputs(w, channels.order, recipe.groups, spec.transposed),
            transposed=spec.transposed, flip=spec.flip,
        ),
    )  # fmt: skip
    bias = planner.constant(recipe.groups * recipe.columns, lambda: recipe.pack_bias(b))
    furthest = max(channels.offsets) if channels.offsets else (problem.groups * problem.inputs) * channels.step
    zero = planner.zeros(furthest + 1)
    table = planner.table(channels.offsets) if channels.offsets is not None else zero
    args = [channels.ref, weights, bias, y.ref, zero, table, *refs]
    planner.call(recipe, args, "panel", *planner.decide(problem, describe_tile(choice.tile), (*choice.rejected, *why)))


def _flatten(
    problem: Problem, x_strides: tuple[int, int, int, int], y_strides: tuple[int, int, int, int], posts: Sequence[Post]
) -> tuple[Problem, tuple[int, int, int, int], tuple[int, int, int, int], tuple[Post, ...]] | None:
    """A layer whose outputs each read the one input at their own position, as one long row of positions."""
    if any(
        axis.kernel > 1 or not axis.static or axis.in_step > 1 or axis.out_step > 1 or axis.first[0] or
        axis.output != axis.size for axis in problem.axes
    ):  # fmt: skip
        return None
    sizes = (problem.batch, *(axis.size for axis in problem.axes))
    operands = [(s[0], *s[2:]) for post in posts if post.operand is not None for s in [post.operand.strides]]
    merged = merge_axes(sizes, x_strides, y_strides, *operands)
    if merged is None:
        return None
    count, (sx, sy, *rest) = merged
    steps = iter(rest)
    moved = tuple(
        post if post.operand is None
        else replace(post, operand=replace(post.operand, strides=(0, post.operand.strides[1], 0, 0, next(steps))))
        for post in posts
    )  # fmt: skip
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(count))
    return replace(problem, batch=1, axes=axes), (0, 0, 0, sx), (0, 0, 0, sy), moved
