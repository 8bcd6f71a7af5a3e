"""Convolutions and dense layers: family and tile chosen, places found, calls made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.arrange import as_channels_last, as_row_major
from omniconv.compiler.kernels.layer import Layer, merge_positions
from omniconv.compiler.kernels.pad import pad_value
from omniconv.compiler.kernels.panel.lower import merge_layer, reads_in_place
from omniconv.compiler.kernels.posts import describe_posts, lower_posts
from omniconv.compiler.kernels.series.lower import in_rows
from omniconv.compiler.kernels.weights import Weights
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored, merge_axes
from omniconv.compiler.planning.choice import choose
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.errors import UnsupportedError
from omniconv.program.steps import ConvStep, DenseStep
from omniconv.spec import Conv


def lower_conv(planner: Planner, step: ConvStep) -> None:
    """A convolution of any kind."""
    step, x = _pad(planner, step)
    problem = Problem.of(step.spec, x.layout.shape)
    choice = choose(problem, planner.target, _look_around(planner, step, x, problem), planner.find_tuned)
    layer = choice.family.place(planner, step, x, problem, choice.tile)
    assert layer.problem.axes == choice.problem.axes, "the layouts are not those that were foreseen"
    choice.family.lower(planner, layer, choice)


def _pad(planner: Planner, step: ConvStep) -> tuple[ConvStep, Stored]:
    """A layer with the value that it reads: one that pads with anything but zeros reads a padded value instead."""
    spec = step.spec
    if spec.padding_mode == "zeros":
        return step, planner.get(step.x)
    assert not isinstance(spec.padding, str)
    pads = ((0, 0), (0, 0), *spec.padding)
    x = pad_value(planner, as_channels_last(planner, step.x), pads, spec.padding_mode)
    spec = replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")
    return replace(step, spec=spec), x


def _look_around(planner: Planner, step: ConvStep, x: Stored, problem: Problem) -> Facts:
    """What the choice has to know of the values around a layer, before any of them gets its place."""
    shape = planner.shape(step.y)
    placed = planner.places[step.y][2] if step.y in planner.places else None
    wanted = planner.wanted[step.y].layout if step.y in planner.wanted else placed
    merged = None
    if problem.pointwise:
        source, result = x.layout, placed or planner.default_layout(shape)
        if not reads_in_place(source, step.spec.in_channels):
            source = planner.default_layout(source.shape)
        merged = merge_positions(problem, source, result, describe_posts(planner, step.post, shape, 0))
    return Facts(
        exact=planner.exact,
        x_rows=in_rows(x.layout),
        y_rows=wanted is not None and in_rows(wanted),
        computed=isinstance(step.w, str),
        merged=merged and merged[0],
    )


def lower_dense(planner: Planner, step: DenseStep) -> None:
    """A dense layer: a pointwise convolution over rows."""
    shape, result = planner.shape(step.x), planner.shape(step.y)
    rows, inputs, outputs = math.prod(shape[:-1]), shape[-1], result[-1]
    if len(shape) == 2:
        x, y = planner.get(step.x), planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, result, 0)
    else:
        x = _view_rows(as_row_major(planner, step.x), rows)
        y = _view_rows(planner.produce(step.y, plain=True), rows)
        posts, refs = lower_posts(planner, step.post, result, 0, -1)
        posts = _flatten_rows(posts, result)
    spec = Conv.of(inputs, outputs, 1, dims=1)
    problem = Problem.of(spec, (rows, inputs, 1))
    w, b = Weights.of(planner, step.w[:, :, None]), None if step.b is None else Weights.of(planner, step.b)
    layer = merge_layer(Layer(problem, spec, x, y, posts, tuple(refs), w, b))
    choice = choose(problem, planner.target, Facts(exact=planner.exact, merged=layer.problem), planner.find_tuned)
    choice.family.lower(planner, layer, choice)


def _view_rows(value: Stored, rows: int) -> Stored:
    """A row-major value seen as a matrix."""
    channels = value.layout.shape[-1]
    return replace(value, layout=Layout((rows, channels), (channels, 1), readable=value.layout.readable))


def _flatten_rows(posts: Sequence[Post], shape: tuple[int, ...]) -> tuple[Post, ...]:
    """Epilogue operands of a rank-n dense layer, seen from its rows."""
    found = []
    for post in posts:
        if post.operand is not None:
            n, c, *rest = post.operand.strides
            sizes = (shape[0], *(1,) * (5 - len(shape)), *shape[1:-1])
            merged = merge_axes(sizes, (n, *rest)) if any((n, *rest)) else (1, (0,))
            if merged is None:
                raise UnsupportedError("an operand broadcast over some rows of a dense layer", need="all rows, or none")
            post = replace(post, operand=replace(post.operand, strides=(merged[1][0], c, 0, 0, 0)))
        found.append(post)
    return tuple(found)
