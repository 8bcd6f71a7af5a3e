"""`Layer`: a convolution or a dense layer whose input, result and operands have their places, for one kernel family."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.lowering.posts import lower_posts
from omniconv.compiler.lowering.weights import LayerWeights
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored, merge_axes
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.program.steps import ConvStep
from omniconv.records import dataclass
from omniconv.spec import Conv

Strides = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What a kernel family makes calls from.

    Attributes:
        problem: sizes, walks and channels.
        spec: how ``weights`` are numbered.
        x, y: input and result.
        posts: the epilogue, its operands numbered from 0; ``refs`` are their places.
        weights: in PyTorch's shape, constant or computed; ``bias`` one for each output channel.
    """

    problem: Problem
    spec: Conv
    x: Stored
    y: Stored
    posts: tuple[Post, ...]
    refs: tuple[BufferRef, ...]
    weights: LayerWeights
    bias: LayerWeights | None

    def posts_behind(self, args: int) -> tuple[Post, ...]:
        """The epilogue of a kernel that has so many args before the operands."""
        return tuple(post if post.operand is None else post.reading(post.operand.moved(args)) for post in self.posts)


def strides_of(layout: Layout) -> Strides:
    """N, D, H, W strides [elements]."""
    grid = layout.grid
    return grid.sn, *grid.strides


def place_layer(planner: Planner, step: ConvStep, x: Stored, problem: Problem) -> Layer:
    """The layer of a step that reads ``x``, its result and operands channels last."""
    y = planner.produce(step.y)
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), 0)
    return Layer(problem, step.spec, x, y, posts, tuple(refs), *place_weights(planner, step))


def place_rows(planner: Planner, step: ConvStep, x: Stored, problem: Problem, runs: Sequence[Sequence[int]]) -> Layer:
    """The layer of a step that reads ``x``, its result and operands row major, with neighbouring axes in ``runs``. The
    result is where the caller wants it, if that is not where it is produced in any case.
    """
    y = planner.wanted.get(step.y)
    if y is None:
        y = planner.produce(step.y)
    planner.stored[step.y] = y
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), 0, runs)
    return Layer(problem, step.spec, x, y, posts, tuple(refs), *place_weights(planner, step))


def place_weights(planner: Planner, step: ConvStep) -> tuple[LayerWeights, LayerWeights | None]:
    """Weights and bias of a step."""
    weights = LayerWeights.of(planner, step.w, narrow=step.y in planner.program.rounded)
    return weights, None if step.b is None else LayerWeights.of(planner, step.b)


def with_neighbours(planner: Planner, step: ConvStep, x: Stored) -> Stored:
    """The input of a step, found as ``x``, with its channels side by side in natural order."""
    return x if x.layout.channels_last and x.layout.channels is None else as_channels_last(planner, step.x)


def merge_positions(
    problem: Problem, x: Layout, y: Layout, posts: tuple[Post, ...]
) -> tuple[Problem, Layout, Layout, tuple[Post, ...]] | None:
    """A pointwise layer as one row of positions; ``None`` where it is none, or where a layout has gaps between rows."""
    merged = _merge(problem, x, y, posts)
    if merged is None:
        return None
    count, (sx, sy, *rest) = merged
    steps = iter(rest)
    moved = tuple(
        post
        if post.operand is None
        else post.reading(post.operand.along(0, post.operand.strides[1], 0, 0, next(steps)))
        for post in posts
    )
    return as_row(problem, count), _row(x, count, sx), _row(y, count, sy), moved


def merge_problem(problem: Problem, x: Layout, y: Layout, posts: tuple[Post, ...]) -> Problem | None:
    """The problem alone that :func:`merge_positions` finds."""
    merged = _merge(problem, x, y, posts)
    return None if merged is None else as_row(problem, merged[0])


def _merge(problem: Problem, x: Layout, y: Layout, posts: tuple[Post, ...]) -> tuple[int, tuple[int, ...]] | None:
    """How many positions there are, and their distances in x, y and the operands, where they make one row."""
    if not problem.pointwise:
        return None
    sizes = (problem.batch, *(axis.size for axis in problem.axes))
    operands = [(n, *rest) for post in posts if post.operand is not None for n, _, *rest in [post.operand.strides]]
    return merge_axes(sizes, strides_of(x), strides_of(y), *operands)


def as_row(problem: Problem, count: int | None = None) -> Problem:
    """A pointwise layer with all positions of all images in one row, by default as many as it has."""
    if count is None:
        count = problem.batch * math.prod(axis.size for axis in problem.axes)
    one = AxisWalk.flat(1)
    return Problem(1, (one, one, AxisWalk.flat(count)), problem.groups, problem.inputs, problem.outputs, problem.rows)


def _row(layout: Layout, count: int, step: int) -> Layout:
    shape, strides = (1, layout.shape[1], count), (0, layout.strides[1], step)
    return Layout(shape, strides, layout.tail, layout.readable, layout.channels)
