"""Frames: the positions of the values in a run of layers and changes of layout, and how far apart these lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from omniconv.compiler.kernels.lane import rows as lane
from omniconv.compiler.kernels.lane.rows import Lane
from omniconv.compiler.kernels.panel import row as panel
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.lowering import copy
from omniconv.compiler.memory.planner import Call
from omniconv.records import dataclass

LayerRecipe: TypeAlias = Lane | Panel
"""Recipes that can be cut; `Stencil` is a `Lane`."""

assert (lane.X, lane.Y) == (panel.X, panel.Y)
assert copy.X == lane.X
X, Y = lane.X, lane.Y


def locate(call: Call, which: int) -> int:
    """The position of x (``X``) or y (``Y``) in the args of a layer or a change of layout."""
    return copy.Y if which == Y and call.moved else which


@dataclass(frozen=True, slots=True)
class Frame:
    """The positions of a value: images, and sizes along depth, height and width."""

    images: int
    sizes: tuple[int, int, int]

    @property
    def positions(self) -> int:
        """All positions of one image."""
        return math.prod(self.sizes)


def flat(recipe: LayerRecipe) -> bool:
    """Whether a layer is one long row of positions, each of which reads the input at its own place."""
    axes = recipe.axes
    return recipe.batch == 1 and axes[0].size == axes[1].size == 1 and all(axis.pointwise for axis in axes)


def five_axes(call: Call) -> list[tuple[int, int, int]]:
    """The axes of a change of layout as images, channels, depth, height and width."""
    first, channels, *rest = call.moved
    return [first, channels, *[(1, 0, 0)] * (3 - len(rest)), *rest]


def frames(calls: Sequence[Call]) -> list[tuple[Frame, Frame]] | None:
    """The positions of every input and output, for a run of layers and changes of layout; ``None`` where they disagree.

    A flat layer has those of its neighbours.
    """
    known = [_frames_of(call) for call in calls]
    current = next((pair[0] for pair in known if isinstance(pair, tuple)), None)
    found = []
    for pair in known:
        if isinstance(pair, int):
            current = current or Frame(1, (1, 1, pair))
            if pair != current.images * current.positions:
                return None
            pair = current, current
        elif pair[0] != current:
            return None
        found.append(pair)
        current = pair[1]
    return found


def _frames_of(call: Call) -> tuple[Frame, Frame] | int:
    """The positions of input and output of one call; of a flat layer only how many there are."""
    if call.moved:
        images, _, *sizes = (size for size, _, _ in five_axes(call))
        frame = Frame(images, _sizes(sizes))
        return frame, frame
    recipe = call.recipe
    assert isinstance(recipe, Lane | Panel)
    if flat(recipe):
        return recipe.axes[2].size
    sources, results = ([getattr(axis, name) for axis in recipe.axes] for name in ("size", "output"))
    return Frame(recipe.batch, _sizes(sources)), Frame(recipe.batch, _sizes(results))


def _sizes(sizes: Sequence[int]) -> tuple[int, int, int]:
    return sizes[0], sizes[1], sizes[2]


def row_axis(pairs: Sequence[tuple[Frame, Frame]]) -> int:
    """The outermost axis along which some value has more than one position."""
    sizes = [frame.sizes for pair in pairs for frame in pair]
    return next((axis for axis in range(3) if any(each[axis] > 1 for each in sizes)), 2)


def steps_of(call: Call, frame: Frame, which: int) -> tuple[int, ...]:
    """Distances between images, planes, rows and columns of x or y [elements], 0 along axes of size 1."""
    sizes = (frame.images, *frame.sizes)
    if call.moved:
        n, _, *rest = (axis[1 + (which == Y)] for axis in five_axes(call))
        return tuple(stride if size > 1 else 0 for size, stride in zip(sizes, (n, *rest), strict=True))
    recipe = call.recipe
    assert isinstance(recipe, Lane | Panel)
    strides = recipe.x_strides if which == X else recipe.y_strides
    if flat(recipe):
        strides = (
            strides[3] * frame.positions,
            strides[3] * frame.sizes[1] * frame.sizes[2],
            strides[3] * frame.sizes[2],
            strides[3],
        )
    return tuple(stride if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True))
