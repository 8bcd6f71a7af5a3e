"""Epilogues: program operations on values and constants become operations on places in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.epilogue import Operand, Post
from omniconv.compiler.layout import Layout, channels_last, row_major
from omniconv.compiler.planner import Planner
from omniconv.compiler.program import Array, PostOp
from omniconv.compiler.storage import Ref, Stored
from omniconv.spec import Shape


def has_operands(posts: Sequence[PostOp]) -> bool:
    """Whether some operation has a second operand."""
    return any(post.operand is not None for post in posts)


def lower_posts(
    planner: Planner, posts: Sequence[PostOp], shape: Shape, first: int, runs: Sequence[Sequence[int]] | None = None
) -> tuple[tuple[Post, ...], list[Ref]]:
    """Operations for a result of ``shape`` and the places of their operands, numbered from ``first`` in the args.

    Without ``runs`` the result is channels last. With them it is in row-major order, and each run of neighbouring axes
    counts as one: the last one is that of the vectors, the others are N, D, H and W.
    """
    found: list[Post] = []
    refs: list[Ref] = []
    for post in posts:
        if post.operand is None:
            found.append(Post(post.op, post.activation))
            continue
        if runs is None:
            stored = _place_channels(planner, post.operand, len(shape))
            n, c, *rest = _broadcast_strides(stored.layout)
        else:
            stored = _place_rows(planner, post.operand, shape, runs)
            n, *rest, c = (0,) * (2 - len(runs)) + run_strides(stored.layout, runs)
        d, h, w = [0] * (3 - len(rest)) + rest
        found.append(Post(post.op, None, Operand(first + len(refs), (n, c, d, h, w), stored.layout.readable)))
        refs.append(stored.ref)
    return tuple(found), refs


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
        return planner.channels_last(operand, rank)
    array = np.asarray(operand, np.float32)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return _place_constant(planner, np.moveaxis(array, 1, -1), channels_last(array.shape))


def _place_rows(planner: Planner, operand: str | Array, shape: Shape, runs: Sequence[Sequence[int]]) -> Stored:
    """An operand in row-major order, broadcast beforehand where some run needs that."""
    if isinstance(operand, str):
        if not follows_runs(shape, planner.shape(operand), runs):
            return planner.expanded(operand, shape)
        stored = planner.row_major(operand)
        return replace(stored, layout=stored.layout.with_rank(len(shape)))
    array = np.asarray(operand, np.float32)
    if not follows_runs(shape, array.shape, runs):
        array = np.broadcast_to(array, shape)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    return _place_constant(planner, array, row_major(array.shape))


def _place_constant(planner: Planner, array: Array, layout: Layout) -> Stored:
    """A constant with a vector of zeros behind it."""
    padded = np.concatenate([np.ascontiguousarray(array).reshape(-1), np.zeros(planner.target.lanes, np.float32)])
    ref = planner.constant(padded.size, lambda: padded)
    return Stored(ref.buffer, 0, replace(layout, readable=True))
