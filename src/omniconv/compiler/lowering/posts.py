"""Epilogues: program operations on values and constants become operations on places in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.emit.epilogue import PlacedOperand, Post
from omniconv.compiler.lowering.arrange import as_channels_last, as_expanded, as_row_major, layout_channels_last
from omniconv.compiler.memory.layout import Layout, channels_last, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.program.steps import Array, PostOp
from omniconv.spec import Shape

_Strides = tuple[int, int, int, int, int]


def has_operands(posts: Sequence[PostOp]) -> bool:
    """Whether some operation has a second operand."""
    return any(post.operand is not None for post in posts)


def lower_posts(
    planner: Planner, posts: Sequence[PostOp], shape: Shape, first: int, runs: Sequence[Sequence[int]] | None = None
) -> tuple[tuple[Post, ...], list[BufferRef]]:
    """Operations for a result of ``shape`` and the places of their operands, numbered from ``first`` in the args.

    Without ``runs`` the result is channels last. With them it is in row-major order, and each run of neighbouring axes
    counts as one: the last one is that of the vectors, the others are N, D, H and W.
    """
    operands = [post.operand for post in posts if post.operand is not None]
    if runs is None:
        refs = [_place_channels(planner, operand, len(shape)).ref for operand in operands]
        return describe_posts(planner, posts, shape, first), refs
    stored = [_place_rows(planner, operand, shape, runs) for operand in operands]
    steps = [(0,) * (2 - len(runs)) + run_strides(each.layout, runs) for each in stored]
    placed = [(_five(n, c, rest), each.layout.readable) for (n, *rest, c), each in zip(steps, stored, strict=True)]
    return _number(posts, first, placed), [each.ref for each in stored]


def describe_posts(planner: Planner, posts: Sequence[PostOp], shape: Shape, first: int) -> tuple[Post, ...]:
    """Operations as :func:`lower_posts` lowers them for a result that is channels last; nothing is placed."""
    placed = []
    for operand in (post.operand for post in posts if post.operand is not None):
        layout = _lay_channels(planner, operand, len(shape))
        n, c, *rest = _broadcast_strides(layout)
        placed.append((_five(n, c, rest), layout.readable))
    return _number(posts, first, placed)


def _five(n: int, c: int, rest: list[int]) -> _Strides:
    d, h, w = [0] * (3 - len(rest)) + rest
    return n, c, d, h, w


def _number(posts: Sequence[PostOp], first: int, placed: Sequence[tuple[_Strides, bool]]) -> tuple[Post, ...]:
    """Operations whose operands have these strides, and may be read past their last channel or not."""
    operands = iter(PlacedOperand(first + index, *each) for index, each in enumerate(placed))
    return tuple(
        Post(post.op, post.activation) if post.operand is None else Post(post.op, None, next(operands))
        for post in posts
    )


def find_runs(shape: Shape, others: Sequence[Shape]) -> list[list[int]]:
    """The axes of ``shape`` in runs of neighbours along which each of ``others`` is whole, or broadcast; axes of size 1
    are in none. All axes as one run where more than five would be needed.
    """
    wide = [(1,) * (len(shape) - len(other)) + other for other in others]
    runs: list[list[int]] = []
    for axis in (axis for axis, size in enumerate(shape) if size > 1):
        if runs and all((other[axis] == 1) == (other[runs[-1][-1]] == 1) for other in wide):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs if 1 <= len(runs) <= 5 else [list(range(len(shape)))]


def follows_runs(shape: Shape, other: Shape, runs: Sequence[Sequence[int]]) -> bool:
    """Whether ``other`` is whole or broadcast along each run of the axes of ``shape``."""
    wide = (1,) * (len(shape) - len(other)) + other
    return all(len({wide[axis] == 1 for axis in run if shape[axis] > 1}) <= 1 for run in runs)


def run_strides(layout: Layout, runs: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The stride of a row-major value along each run of axes, 0 where it is broadcast."""
    return tuple(next((layout.strides[a] for a in reversed(run) if layout.shape[a] > 1), 0) for run in runs)


def _broadcast_strides(layout: Layout) -> tuple[int, ...]:
    return tuple(0 if size == 1 else stride for size, stride in zip(layout.shape, layout.strides, strict=True))


def _place_channels(planner: Planner, operand: str | Array, rank: int) -> Stored:
    """An operand with neighbouring channels: as it is, converted, or as a new constant."""
    if isinstance(operand, str):
        return as_channels_last(planner, operand, rank)
    array = np.asarray(operand, planner.target.element.dtype)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return _place_constant(planner, np.moveaxis(array, 1, -1), _lay_channels(planner, operand, rank))


def _lay_channels(planner: Planner, operand: str | Array, rank: int) -> Layout:
    """The layout of an operand that :func:`_place_channels` places."""
    if isinstance(operand, str):
        return layout_channels_last(planner, operand, rank)
    return replace(channels_last((1,) * (rank - np.ndim(operand)) + np.shape(operand)), readable=True)


def _place_rows(planner: Planner, operand: str | Array, shape: Shape, runs: Sequence[Sequence[int]]) -> Stored:
    """An operand in row-major order, broadcast beforehand where some run needs that."""
    if isinstance(operand, str):
        if not follows_runs(shape, planner.shape(operand), runs):
            return as_expanded(planner, operand, shape)
        stored = as_row_major(planner, operand)
        return replace(stored, layout=stored.layout.with_rank(len(shape)))
    array = np.asarray(operand, planner.target.element.dtype)
    if not follows_runs(shape, array.shape, runs):
        array = np.broadcast_to(array, shape)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    return _place_constant(planner, array, row_major(array.shape))


def _place_constant(planner: Planner, array: Array, layout: Layout) -> Stored:
    """A constant with a vector of zeros behind it."""
    padded = np.concatenate([np.ascontiguousarray(array).reshape(-1), np.zeros(planner.target.lanes, array.dtype)])
    ref = planner.constant(padded.size, lambda: padded)
    return Stored(ref.buffer, 0, replace(layout, readable=True))
