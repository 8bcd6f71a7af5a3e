"""Bands of layers: a kernel call restricted to some rows of its output is a call of the same kernel on a smaller layer.

A *row* is one position along the outermost axis that a run of layers has (height, or depth, or width of signals). The
rows ``begin <= o < end`` of a layer's output need the input rows ``[low, high)`` that its walk says, and nothing else
of the layer changes: its weights, its tile and the order of its sums stay, so that the values are the same to the bit.
Only addresses move. Bands inside a layer have equal recipes, whatever rows they are: they share one kernel. A change of
layout is cut likewise: each row of its output needs the same row of its input.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.fusion.frames import Frame, LayerRecipe, X, Y, five_axes, flat, locate
from omniconv.compiler.kernels.lane.rows import Lane
from omniconv.compiler.kernels.lane.stencil import Stencil
from omniconv.compiler.kernels.lane.tiles import StencilTile
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.memory.planner import Call, Recipe
from omniconv.compiler.memory.storage import BufferRef
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.element import Element
from omniconv.records import dataclass


@dataclass(frozen=True)
class Stage:
    """One layer of a run.

    Attributes:
        call: the call of the whole layer.
        source, result: the positions of its input and output.
        axis: the axis of rows: 0, 1 or 2 for depth, height, width.
        element: of all values that have none of their own.
    """

    call: Call
    source: Frame
    result: Frame
    axis: int
    element: Element

    @cached_property
    def recipe(self) -> LayerRecipe:
        """The layer."""
        assert isinstance(self.call.recipe, Lane | Panel)
        return self.call.recipe

    @property
    def posts(self) -> tuple[Post, ...]:
        """The epilogue."""
        return self.recipe.posts

    @property
    def mixes(self) -> bool:
        """Whether outputs need many channels: others are as quick as a copy."""
        return isinstance(self.recipe, Panel)

    @cached_property
    def flat(self) -> bool:
        """Whether the layer is one long row of positions."""
        return flat(self.recipe)

    @cached_property
    def rows(self) -> int:
        """Rows of the output."""
        return self.result.sizes[self.axis]

    @property
    def result_bytes(self) -> int:
        """Size of the output [bytes]."""
        return self.result.images * self.rows * self.row_bytes

    @property
    def macs(self) -> int:
        """Multiply-adds, those outside the input included."""
        recipe = self.recipe
        taps = math.prod(axis.kernel for axis in recipe.axes)
        return self.result.images * self.result.positions * recipe.groups * recipe.inputs * recipe.outputs * taps

    @cached_property
    def step(self) -> int:
        """Outputs that belong together: the phases of a transposed layer."""
        return 1 if self.flat else self.recipe.axes[self.axis].phases

    @property
    def tile(self) -> int:
        """Output rows that a tile of the kernel covers."""
        tile = self.recipe.tile
        return tile.rows * tile.spread[0] if isinstance(tile, StencilTile) and self.axis == 1 else 1

    def row_stride(self, which: int) -> int:
        """Distance between rows of x (``X``) or y (``Y``) [elements]."""
        return self._strides(which)[1]

    @property
    def row_bytes(self) -> int:
        """Size of a row of the output [bytes]."""
        return (self.ref(Y).element or self.element).bytes * self.row_stride(Y)

    def round(self, row: int) -> int:
        """The first row from ``row`` on that a band may end before: a whole number of phases, at least one of them
        left.
        """
        row = ceil_div(row, self.step) * self.step
        return row if self.rows - row >= self.step else self.rows

    def reach(self, begin: int, end: int) -> tuple[int, int]:
        """The rows that some output rows read, from and to (not included), also outside the input."""
        return (begin, end) if self.flat else self.recipe.axes[self.axis].reach(begin, end)

    def needs(self, begin: int, end: int) -> tuple[int, int]:
        """The input rows of some output rows, from and to (not included): one at least."""
        low, high = self.reach(begin, end)
        low = min(max(low, 0), self.source.sizes[self.axis] - 1)
        return low, max(low + 1, min(high, self.source.sizes[self.axis]))

    def place(self, which: int, image: int, row: int) -> BufferRef:
        """The address of a row of x or y as the whole layer has it."""
        per_image, per_row = self._strides(which)
        return self.ref(which).shift(image * per_image + row * per_row)

    def ref(self, which: int) -> BufferRef:
        """Where x or y of the whole layer begins."""
        return self.call.args[locate(self.call, which)]

    def part(self, image: int, begin: int, end: int, x: BufferRef, y: BufferRef) -> Call:
        """The call for some output rows: x is where the first input row is that they need, y where ``begin`` is."""
        args = list(self.call.args)
        args[locate(self.call, X)], args[locate(self.call, Y)] = x, y
        for post in self.posts:
            if post.operand is not None:
                args[post.operand.arg] = args[post.operand.arg].shift(self._operand_offset(post, image, begin))
        if (begin, end) not in self._parts:
            self._parts[begin, end] = self._part(begin, end)
        return replace(self.call, recipe=self._parts[begin, end], args=tuple(args))

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Recipe]:
        """The recipes for some rows that have been made, which are the same for every image."""
        return {}

    def _part(self, begin: int, end: int) -> Recipe:
        recipe = self.recipe
        axes = list(recipe.axes)
        if self.flat:
            axes[2] = AxisWalk.flat((end - begin) * self._line)
        else:
            axes[self.axis] = recipe.axes[self.axis].cut(begin, end)[1]
        part = replace(recipe, batch=1, axes=(axes[0], axes[1], axes[2]))
        if isinstance(part, Stencil):
            rows = min(part.tile.rows, max(1, ceil_div(axes[1].output, part.tile.spread[0])))
            part = replace(part, tile=replace(part.tile, rows=rows), ahead=0)  # bands lie in the cache
        return part

    @cached_property
    def _line(self) -> int:
        """Positions of one row."""
        return math.prod(self.result.sizes[self.axis + 1 :])

    def _strides(self, which: int) -> tuple[int, int]:
        """Distance between images and between rows of x or y [elements]."""
        strides = self.recipe.x_strides if which == X else self.recipe.y_strides
        if self.flat:
            return strides[3] * self.result.positions, strides[3] * self._line
        return strides[0], strides[1 + self.axis]

    def _operand_offset(self, post: Post, image: int, begin: int) -> int:
        assert post.operand is not None
        n, _, *rest = post.operand.strides
        if self.flat:
            return rest[2] * (image * self.result.positions + begin * self._line)
        return image * n + begin * rest[self.axis]


@dataclass(frozen=True)
class Change(Stage):
    """A change of layout between two values with the same positions."""

    @property
    def posts(self) -> tuple[Post, ...]:
        """There are none."""
        return ()

    @property
    def mixes(self) -> bool:
        """It is a copy."""
        return False

    @property
    def macs(self) -> int:
        """It computes nothing."""
        return 0

    @cached_property
    def flat(self) -> bool:
        """Its axes are known."""
        return False

    @cached_property
    def step(self) -> int:
        """Rows are independent."""
        return 1

    @property
    def tile(self) -> int:
        """Likewise."""
        return 1

    def reach(self, begin: int, end: int) -> tuple[int, int]:
        """The same rows."""
        return begin, end

    def _part(self, begin: int, end: int) -> Recipe:
        recipe, axes = self.call.recipe, list(five_axes(self.call))
        assert isinstance(recipe, Copy)
        axes[0] = (1, 0, 0)
        axes[2 + self.axis] = (end - begin, *axes[2 + self.axis][1:])
        return Copy.of(tuple(axes), recipe.lanes, readable=recipe.readable, tail=recipe.tail)

    def _strides(self, which: int) -> tuple[int, int]:
        axes = five_axes(self.call)
        return axes[0][1 + (which == Y)], axes[2 + self.axis][1 + (which == Y)]


def stage_of(call: Call, source: Frame, result: Frame, axis: int, element: Element) -> Stage:
    """A call as a stage of a run."""
    return (Change if call.moved else Stage)(call, source, result, axis, element)
