"""Winograd filtering: slabs of blocks through two transforms and the panel kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.compiler.epilogue import Operand, Post
from omniconv.compiler.layout import plan_pitch
from omniconv.compiler.panel import Panel
from omniconv.compiler.planner import Planner
from omniconv.compiler.problem import Problem
from omniconv.compiler.program import Array
from omniconv.compiler.schedule import plan_panel
from omniconv.compiler.storage import Ref, Stored
from omniconv.compiler.walk import AxisWalk
from omniconv.compiler.winograd import Blocks, WinogradInput, WinogradOutput, transform_weights

OUTPUT_ARGS = 4


def call_winograd(
    planner: Planner, blocks: Blocks, x: Stored, y: Stored, posts: Sequence[Post], refs: Sequence[Ref],
    w: Array, b: Array | None,
) -> None:  # fmt: skip
    """Append the calls of a 3x3 layer; ``posts`` number their operands from the panel kernel's args."""
    lanes, points = planner.target.lanes, blocks.points
    source, result = x.layout.grid, y.layout.grid
    outputs, inputs = w.shape[:2]
    wide, narrow = plan_pitch(inputs, lanes), plan_pitch(outputs, lanes)
    slab = planner.add_buffer("arena", points * blocks.stride(wide) + lanes)
    products = planner.add_buffer("arena", points * blocks.stride(narrow) + lanes)
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(blocks.slab))
    tile = plan_panel(Problem(1, axes, points, inputs, outputs, True), planner.target)
    forward = WinogradInput(blocks, inputs, (source.sn, *source.strides[1:]), x.layout.readable, wide, lanes)
    panel = Panel(
        1, axes, points, inputs, outputs, (0, 0, 0, wide), (0, 0, 0, narrow), 1,
        blocks.stride(wide), blocks.stride(narrow), False, True, (), tile, lanes,
    )  # fmt: skip
    back = WinogradOutput(
        blocks, outputs, narrow, (result.sn, *result.strides[1:]), y.layout.tail,
        _renumber(posts), lanes,
    )  # fmt: skip
    size = points * panel.depth * panel.columns
    weights = planner.constant(
        size, lambda: panel.pack_weights(transform_weights(w, blocks.m)[:, :, None, None], transposed=False, flip=False)
    )
    nothing = planner.constant(points * panel.columns, lambda: panel.pack_bias(None))
    bias = planner.constant(panel.vectors * lanes, lambda: _pad_bias(b, panel.vectors * lanes))
    zero = planner.zeros(max(inputs, wide) + 2 * lanes)
    for first in range(0, blocks.count, blocks.slab):
        start = planner.table([first])
        planner.call(forward, [x.ref, Ref(slab), zero, start], "winograd_input")
        planner.call(panel, [Ref(slab), weights, nothing, Ref(products), zero, zero], "panel")
        planner.call(back, [Ref(products), bias, y.ref, start, *refs], "winograd_output")


def _pad_bias(b: Array | None, size: int) -> Array:
    padded = np.zeros(size, np.float32)
    if b is not None:
        padded[: b.size] = b
    return padded


def _renumber(posts: Sequence[Post]) -> tuple[Post, ...]:
    """Operands numbered from the output transform's args."""
    found, number = [], OUTPUT_ARGS
    for post in posts:
        if post.operand is None:
            found.append(post)
            continue
        found.append(Post(post.op, None, Operand(number, post.operand.strides, post.operand.readable)))
        number += 1
    return tuple(found)
