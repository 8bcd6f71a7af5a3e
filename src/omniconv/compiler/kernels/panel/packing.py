"""Values in the order in which the panel kernel reads its weights: copied at every call, or read as they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.memory.layout import row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef
from omniconv.spec import Shape

StridedAxis: TypeAlias = tuple[int, int]
"""Size, and distance between neighbours [elements]."""


def pack_panels(
    planner: Planner, recipe: Panel, x: BufferRef, outer: Sequence[StridedAxis], depth: Sequence[StridedAxis], step: int
) -> BufferRef:
    """Panels of a value: for each index of ``outer`` what a group has, see :meth:`Panel.pack_weights`.

    Args:
        planner: what the copies are planned with.
        recipe: the kernel that reads the panels.
        x: the value.
        outer: groups, or the axes before a matrix.
        depth: taps and input channels, or the rows of a matrix.
        step: distance between output channels, or columns [elements].
    """
    width, size = recipe.tile.vectors * recipe.lanes, recipe.depth * recipe.columns
    packed = BufferRef(planner.add_buffer("arena", math.prod(n for n, _ in outer) * size + recipe.lanes))
    whole, rest = divmod(recipe.outputs, width)
    line, start = recipe.columns - whole * width, whole * recipe.depth * width

    def copy(
        source: BufferRef, offset: int, line: int, inner: Sequence[tuple[int, int, int]], *, zeros: bool = False
    ) -> None:
        """Copy the same of each row of a panel whose rows are ``line`` apart."""
        dims = [*_place(outer, size), *_place(depth, line)]
        if zeros:
            dims = [(n, 0, y) for n, _, y in dims]
        target = BufferRef(packed.buffer, offset)
        planner.call(Copy.of((*dims, *inner), recipe.lanes), [source, target], "pack")

    if whole:
        copy(x, 0, width, [(whole, width * step, recipe.depth * width), (width, step, 1)])
    if rest:
        copy(x.shift(whole * width * step), start, line, [(rest, step, 1)])
    if rest and line > rest:
        copy(planner.zeros(line - rest), start + rest, line, [(line - rest, 1, 1)], zeros=True)
    return packed


def _place(axes: Sequence[StridedAxis], size: int) -> list[tuple[int, int, int]]:
    """Axes with their strides in row-major order of blocks of ``size`` elements."""
    sizes: Shape = tuple(n for n, _ in axes)
    return [(n, x, y * size) for (n, x), y in zip(axes, row_major(sizes).strides, strict=True)]
