"""Epilogues: program operations on values and constants become operations on places in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from omniconv.compiler.emit.epilogue import Operand, Post
from omniconv.compiler.kernels.arrange import (
    as_channels_last,
    as_row_major,
    layout_channels_last,
    layout_row_major,
)
from omniconv.compiler.memory.layout import Layout, channels_last, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Ref, Stored
from omniconv.errors import UnsupportedError
from omniconv.program.steps import Array, PostOp
from omniconv.spec import Shape


def has_operands(posts: Sequence[PostOp]) -> bool:
    """Whether some operation has a second operand."""
    return any(post.operand is not None for post in posts)


def lower_posts(
    planner: Planner, posts: Sequence[PostOp], shape: Shape, first: int, channel_axis: int = 1
) -> tuple[tuple[Post, ...], list[Ref]]:
    """Operations for a result of ``shape`` and the places of their operands, numbered from ``first`` in the args.

    ``channel_axis`` is the axis that is vectorised: 1, or the last one for results in row-major order.
    """
    found = describe_posts(planner, posts, shape, first, channel_axis)
    operands = (post.operand for post in posts if post.operand is not None)
    return found, [_place_operand(planner, operand, shape, channel_axis).ref for operand in operands]


def describe_posts(
    planner: Planner, posts: Sequence[PostOp], shape: Shape, first: int, channel_axis: int = 1
) -> tuple[Post, ...]:
    """Operations as :func:`lower_posts` lowers them; nothing is placed."""
    found: list[Post] = []
    numbers = count(first)
    for post in posts:
        if post.operand is None:
            found.append(Post(post.op, post.activation))
            continue
        layout = _operand_layout(planner, post.operand, shape, channel_axis)
        strides = _operand_strides(layout, shape, channel_axis)
        found.append(Post(post.op, None, Operand(next(numbers), strides, layout.readable)))
    return tuple(found)


def _operand_layout(planner: Planner, operand: str | Array, shape: Shape, channel_axis: int) -> Layout:
    """The layout that an operand will have."""
    if isinstance(operand, str):
        return layout_channels_last(planner, operand) if channel_axis == 1 else layout_row_major(planner, operand)
    sizes = (1,) * (len(shape) - np.ndim(operand)) + np.shape(operand)
    return replace(channels_last(sizes) if channel_axis == 1 else row_major(sizes), readable=True)


def _place_operand(planner: Planner, operand: str | Array, shape: Shape, channel_axis: int) -> Stored:
    """An operand with neighbouring channels: as it is, converted, or as a new constant."""
    if isinstance(operand, str):
        return as_channels_last(planner, operand) if channel_axis == 1 else as_row_major(planner, operand)
    array = np.asarray(operand, planner.target.element.dtype)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    lanes = planner.target.lanes
    last = np.ascontiguousarray(np.moveaxis(array, channel_axis, -1))
    padded = np.concatenate([last.reshape(-1), np.zeros(lanes, array.dtype)])
    ref = planner.constant(padded.size, lambda: padded)
    return Stored(ref.buffer, 0, _operand_layout(planner, operand, shape, channel_axis))


def _operand_strides(layout: Layout, shape: Shape, channel_axis: int) -> tuple[int, int, int, int, int]:
    """N, C, D, H, W strides of an operand against a result, 0 where it is broadcast."""
    missing = len(shape) - len(layout.shape)
    sizes = (1,) * missing + layout.shape
    strides = (0,) * missing + layout.strides
    flat = [0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True)]
    if channel_axis < 0:
        channel_axis += len(shape)
    channel = flat.pop(channel_axis) if shape else 0
    if channel not in (0, 1):
        raise UnsupportedError("an elementwise operand whose channels are not neighbours", need="channels last")
    n = flat.pop(0) if flat else 0
    if len(flat) > 3:
        raise UnsupportedError(f"elementwise operation on rank {len(shape)}", need="rank 5 or less")
    d, h, w = [0] * (3 - len(flat)) + flat
    return n, channel, d, h, w
