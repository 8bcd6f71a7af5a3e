"""Calls of the lane family."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.arrange import as_channels_last, copy_apart, crowded
from omniconv.compiler.kernels.lane import rows as lane
from omniconv.compiler.kernels.lane.staged import Staged
from omniconv.compiler.kernels.lane.stencil import Stencil
from omniconv.compiler.kernels.lane.tiles import LaneTile, StencilTile, count_parts
from omniconv.compiler.kernels.posts import has_operands
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Ref, Stored, permutation_of
from omniconv.compiler.planning.choice import Choice
from omniconv.compiler.problem.candidate import describe_tile
from omniconv.compiler.problem.problem import Problem
from omniconv.program.steps import Array, ConvStep
from omniconv.spec import Conv

COLUMNS = 8
"""Outputs in a row of a tile, about."""


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
    assert isinstance(choice.tile, LaneTile)
    found = x if commutes else as_channels_last(planner, step.x)
    depth, height, width = (max(axis.taps) for axis in problem.axes)
    # The kernel reads the pixels under a tile of outputs side by side.
    if depth * height * width == 1 or not crowded(
        found.layout, planner.target.element, depth * height * (width + COLUMNS - 1)
    ):
        return found, None
    parts = count_parts(problem, planner.target, choice.tile)
    return (found if parts or commutes else copy_apart(planner, step.x)), parts


def _call_lane(
    planner: Planner, choice: Choice, problem: Problem, x: Stored, y: Stored, posts: Sequence[Post], refs: list[Ref],
    spec: Conv, w: Array, b: Array | None, parts: int | None,
) -> None:  # fmt: skip
    tile, lanes = choice.tile, planner.target.lanes
    assert isinstance(tile, LaneTile)
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
