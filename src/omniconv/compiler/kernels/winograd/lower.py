"""Winograd filtering: slabs of blocks through two transforms and the panel kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.emit.epilogue import Operand, Post
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.tiles import plan_panel
from omniconv.compiler.kernels.winograd.matrices import transform_weights
from omniconv.compiler.kernels.winograd.slabs import Blocks, share_slabs
from omniconv.compiler.kernels.winograd.transforms import WinogradInput, WinogradOutput
from omniconv.compiler.memory.layout import plan_pitch
from omniconv.compiler.memory.planner import Decision, Group, Planner
from omniconv.compiler.memory.storage import Ref, Stored
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.program.steps import Array

OUTPUT_ARGS = 4
FAR = 2**22
"""Transformed weights that no cache near a core holds [bytes]."""


def call_winograd(
    planner: Planner, problem: Problem, blocks: Blocks, x: Stored, y: Stored, posts: Sequence[Post],
    refs: Sequence[Ref], w: Array, b: Array | None, why: tuple[str, ...], decision: Decision,
) -> None:  # fmt: skip
    """Append the calls of a 3x3 layer; ``posts`` number their operands from the panel kernel's args."""
    strips, blocks = share_slabs(blocks, problem, planner.threads)
    lanes, products = planner.target.lanes, blocks.groups * blocks.points
    source, result = x.layout.grid, y.layout.grid
    inputs, outputs = problem.inputs, problem.outputs
    wide, narrow = plan_pitch(inputs, planner.target), plan_pitch(outputs, planner.target)
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(blocks.slab))
    tile = plan_panel(Problem(1, axes, products, inputs, outputs), planner.target)
    forward = WinogradInput(blocks, inputs, (source.sn, *source.strides[1:]), x.layout.readable, wide, lanes)
    panel = Panel(
        1, axes, products, inputs, outputs, (0, 0, 0, wide), (0, 0, 0, narrow), 1,
        blocks.stride(wide), blocks.stride(narrow), False, True, (), tile, lanes,
        planner.target.element.bytes * products * inputs * outputs > FAR,
    )  # fmt: skip
    back = WinogradOutput(
        blocks, outputs, narrow, (result.sn, *result.strides[1:]), y.layout.tail and problem.groups == 1,
        _renumber(posts), lanes,
    )  # fmt: skip
    size, turns = products * panel.depth * panel.columns, problem.groups // blocks.groups
    weights = planner.constant(
        turns * size,
        lambda: replace(panel, groups=turns * products).pack_weights(
            transform_weights(w, blocks.m, problem.groups)[:, :, None, None], transposed=False, flip=False
        ),
    )
    nothing = planner.constant(products * panel.columns, lambda: panel.pack_bias(None))
    width = problem.groups * outputs + lanes
    bias = planner.constant(width, lambda: _pad_bias(b, width))
    zero = planner.zeros(max(problem.groups * inputs, wide) + 2 * lanes)
    slabs = [(turn, first) for turn in range(turns) for first in range(0, blocks.count, blocks.slab)]
    how = f"in {strips} strips, one for each thread" if strips > 1 else ""
    if strips > 1:
        planner.groups.append(Group(len(planner.calls), (3 * len(slabs) // strips,) * strips))
    for strip in range(strips):
        spread = Ref(planner.add_buffer("arena", products * blocks.stride(wide) + lanes))
        gathered = Ref(planner.add_buffer("arena", products * blocks.stride(narrow) + lanes))
        for turn, first in slabs[strip * len(slabs) // strips : (strip + 1) * len(slabs) // strips]:
            part = Ref(weights.buffer, weights.offset + turn * size)
            starts = (planner.table([first, turn * blocks.groups * channels]) for channels in (inputs, outputs))
            planner.call(forward, [x.ref, spread, zero, next(starts)], "winograd_input", why, decision, how)
            planner.call(panel, [spread, part, nothing, gathered, zero, zero], "panel", (), decision)
            planner.call(back, [gathered, bias, y.ref, next(starts), *refs], "winograd_output", (), decision)


def _pad_bias(b: Array | None, size: int) -> Array:
    padded = np.zeros(size, np.float32 if b is None else b.dtype)
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
