"""Convolutions and dense layers: layouts in, kernel family and tile chosen, weights packed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from omniconv.compiler import lane, panel
from omniconv.compiler.epilogue import Post
from omniconv.compiler.layout import Layout
from omniconv.compiler.lowering.channels_first import lower_series
from omniconv.compiler.lowering.copying import pad_value
from omniconv.compiler.lowering.filtering import call_winograd
from omniconv.compiler.lowering.posts import has_operands, lower_posts
from omniconv.compiler.planner import Planner, crowded
from omniconv.compiler.problem import Problem
from omniconv.compiler.program import Array, ConvStep, DenseStep
from omniconv.compiler.schedule import Choice, plan_conv, plan_winograd
from omniconv.compiler.staged import Staged, count_parts
from omniconv.compiler.stencil import Stencil, StencilTile
from omniconv.compiler.storage import Ref, Stored, merge_axes, permutation_of
from omniconv.compiler.tuning import describe_blocks, describe_tile
from omniconv.compiler.walk import AxisWalk, walks
from omniconv.spec import Conv

DIRECT = 16
"""Below so many input channels a panel kernel reads channels-first input in place; from here on, a copy pays."""

COLUMNS = 8
"""Outputs in a row of a tile, about."""


def lower_conv(planner: Planner, step: ConvStep) -> None:
    """A convolution of any kind."""
    spec, x = step.spec, planner.get(step.x)
    shape = planner.shape(step.x)
    if spec.padding_mode != "zeros":
        assert not isinstance(spec.padding, str)
        x = pad_value(planner, planner.channels_last(step.x), ((0, 0), (0, 0), *spec.padding), spec.padding_mode)
        shape = x.layout.shape
        spec = replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")
    axes = walks(spec, shape[2:])
    problem = Problem(shape[0], axes, spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups)
    why_not = lower_series(planner, step, x, problem)
    if why_not is None:
        return
    tuned = planner.find_tuned(problem)
    choice = plan_conv(problem, planner.target, tuned)
    if problem.inputs == 1:
        choice = replace(choice, rejected=(*choice.rejected, f"series: {why_not}"))
    blocks, why = (None, ("winograd: exact=True",)) if planner.exact else plan_winograd(problem, planner.target, tuned)
    if blocks is not None and choice.tuned:
        why, blocks = (f"{describe_blocks(blocks)}: measured slower",), None
    serves = choice.family == "lane" and blocks is None
    parts = None
    if step.spec.padding_mode == "zeros":  # the padded value is channels last already
        if serves:
            x, parts = _neighbours(planner, step, x, problem, choice)
        elif blocks is not None or (not x.layout.channels_last and spec.in_channels >= DIRECT):
            x = planner.channels_last(step.x)
    w, b = step.w, step.b
    order = permutation_of(x.layout) if serves else None
    if order is not None:
        # A depthwise layer commutes with a permutation of its channels: its weights follow the storage order.
        w, b = w[order], None if b is None else b[order]
    y = planner.produce(step.y)
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), lane.ARGS if serves else panel.ARGS)
    if serves:
        _call_lane(planner, choice, problem, x, y, posts, refs, spec, w, b, parts)
        if x.layout.channels is not None:
            planner.stored[step.y] = replace(y, layout=replace(y.layout, channels=x.layout.channels))
        return
    if blocks is None:
        _call_panel(planner, problem, x, y, posts, refs, spec, w, b, choice, why)
    else:
        if spec.transposed:  # with stride 1: a plain layer with its kernel turned round
            w = w.reshape(spec.groups, problem.inputs, problem.outputs, 3, 3).swapaxes(1, 2)
            w = w.reshape(spec.out_channels, problem.inputs, 3, 3)
        w = w[:, :, ::-1, ::-1] if spec.flip != spec.transposed else w
        why, decision = planner.decide(problem, describe_blocks(blocks), why)
        call_winograd(planner, problem, blocks, x, y, posts, refs, w, b, why, decision)


def _neighbours(
    planner: Planner, step: ConvStep, x: Stored, problem: Problem, choice: Choice
) -> tuple[Stored, int | None]:
    """Input of a lane kernel, with neighbouring channels, and the parts in which these are copied on the way, if any.

    A permuted input is kept where the layer commutes with the permutation.
    """
    spec = step.spec
    commutes = (
        spec.is_depthwise and spec.in_channels == spec.out_channels
        and x.layout.channels_last and permutation_of(x.layout) is not None
        and not has_operands(step.post) and step.y not in planner.places
    )  # fmt: skip
    assert isinstance(choice.tile, lane.LaneTile)
    found = x if commutes else planner.channels_last(step.x)
    depth, height, width = (max(axis.taps) for axis in problem.axes)
    # The kernel reads the pixels under a tile of outputs side by side.
    if depth * height * width == 1 or not crowded(found.layout, depth * height * (width + COLUMNS - 1)):
        return found, None
    parts = count_parts(problem, choice.tile)
    return (found if parts or commutes else planner.spread(step.x)), parts


def lower_dense(planner: Planner, step: DenseStep) -> None:
    """A dense layer: a pointwise convolution over rows."""
    shape = planner.shape(step.x)
    x = planner.get(step.x) if len(shape) == 2 else planner.row_major(step.x)
    rows = math.prod(shape[:-1])
    if len(shape) != 2:
        x = replace(x, layout=Layout((rows, shape[-1]), (shape[-1], 1), readable=x.layout.readable))
    y = planner.produce(step.y, plain=len(shape) != 2)
    runs = None if len(shape) == 2 else [range(len(shape) - 1), [len(shape) - 1]]
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), panel.ARGS, runs)
    outputs = step.w.shape[0]
    if len(shape) != 2:
        y = replace(y, layout=Layout((rows, outputs), (outputs, 1), readable=True))
    spec = Conv.of(shape[-1], outputs, 1, dims=1)
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(1))
    problem = Problem(rows, axes, 1, shape[-1], outputs)
    _call_panel(planner, problem, x, y, posts, refs, spec, step.w[:, :, None], step.b)


def _call_lane(
    planner: Planner, choice: Choice, problem: Problem, x: Stored, y: Stored, posts: Sequence[Post], refs: list[Ref],
    spec: Conv, w: Array, b: Array | None, parts: int | None,
) -> None:  # fmt: skip
    tile, lanes = choice.tile, planner.target.lanes
    assert isinstance(tile, lane.LaneTile)
    source, result = x.layout.grid, y.layout.grid
    common = (
        problem.batch, problem.axes, problem.groups, problem.inputs, problem.outputs,
        (source.sn, *source.strides), (result.sn, *result.strides), x.layout.readable, y.layout.tail, tuple(posts),
    )  # fmt: skip
    recipe = Stencil(*common, tile, lanes) if isinstance(tile, StencilTile) else lane.Lane(*common, tile, lanes)
    if parts is not None:
        recipe = Staged.of(recipe, parts)
    size = recipe.vectors * recipe.lanes * recipe.inputs * problem.taps
    weights = planner.constant(size, lambda: recipe.pack_weights(w, transposed=spec.transposed, flip=spec.flip))
    bias = planner.constant(recipe.vectors * recipe.lanes, lambda: recipe.pack_bias(b))
    zero = planner.zeros(source.c + 2 * recipe.lanes)
    why, decision = planner.decide(problem, describe_tile(tile), choice.rejected)
    args, how = [x.ref, weights, bias, y.ref, zero, *refs], ""
    if isinstance(recipe, Staged):
        args.append(planner.thread_memory(recipe.scratch))
        how = f"staged: {recipe.pixel} channels of an image are copied at a time"
    planner.call(recipe, args, "lane", why, decision, how)


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
        return _Source(Ref(x.buffer, 4 * (x.offset + int(walk[0]) * step)), step, None, reorder)
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
    assert isinstance(choice.tile, panel.PanelTile)
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
