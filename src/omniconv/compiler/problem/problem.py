"""`Problem` and `Facts`: what the choice of a kernel depends on, apart from the target."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Final

from omniconv.compiler.problem.walk import AxisWalk, walks
from omniconv.records import dataclass
from omniconv.spec import Conv, Shape

USUAL: Final = "usual"
ACCURACIES: Final = ("close", USUAL, "wide")
"""Filtering whose rounding errors are nearly those of direct sums; as those of F(4x4, 3x3) at most; by eight points
along each of two axes as well.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the choice depends on: images, walks, groups, and the channels of one group.

    Attributes:
        rows: whether the layer stands between channels-first values and may be computed there, so that every other way
            costs two changes of layout.
        accuracy: how far filtering may go, one of :data:`ACCURACIES`.
        columns: whether neighbouring columns of the result may be channels of one pixel; see :attr:`Facts.columns`.
    """

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int
    rows: bool = False
    accuracy: str = USUAL
    columns: bool = False

    @classmethod
    def of(cls, spec: Conv, shape: Shape) -> Problem:
        """The problem of a layer, whose padding is resolved, for an input of ``shape``."""
        inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
        return cls(shape[0], walks(spec, shape[2:]), spec.groups, inputs, outputs)

    @property
    def taps(self) -> int:
        """Taps of the kernel, over all axes."""
        return math.prod(axis.kernel for axis in self.axes)

    @property
    def static(self) -> bool:
        """Whether taps are the same for every output: all kernels then add them in their order."""
        return all(axis.static for axis in self.axes)

    @property
    def pointwise(self) -> bool:
        """Whether each output reads the one input at its own position."""
        return all(axis.pointwise for axis in self.axes)

    def text(self) -> str:
        """Sizes, walks and channels in one line that no other problem has: what a `Tuning` files its choices under.

        Example:
            >>> Problem(1, (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(49)), 1, 960, 320).text()
            'n1 g1 ic960 oc320 | 1 | 1 | 49'
        """
        axes = " | ".join(map(_describe_axis, self.axes))
        return (
            f"n{self.batch} g{self.groups} ic{self.inputs} oc{self.outputs} | {axes}"
            + " | rows" * self.rows
            + " | columns" * self.columns
            + (f" | {self.accuracy}" if self.accuracy != USUAL else "")
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What the choice depends on beside problem and target.

    Attributes:
        exact: whether only direct sums are allowed, in which every product appears as it is.
        x_rows, y_rows: whether the input has, and the result may have, neighbours along the last axis side by side.
        computed: whether the weights are a value, not a constant.
        overflowing: whether the weights are constants too large to be transformed.
        merged: the problem with all positions in one row, where the layouts of a pointwise layer allow it.
        columns: whether the pixels of the result lie, or may lie, side by side, and the operands of the epilogue as
            they do, so that several columns may be channels of one pixel.
        planes: whether the input has, and the result may have, all positions of a channel side by side.
    """

    exact: bool = False
    x_rows: bool = False
    y_rows: bool = False
    computed: bool = False
    overflowing: bool = False
    merged: Problem | None = None
    columns: bool = False
    planes: bool = False


def _describe_axis(axis: AxisWalk) -> str:
    """All numbers of a walk; the size alone where every output reads the one input at its place."""
    if axis.pointwise:
        return str(axis.size)
    numbers = (
        f"{field.name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field in fields(axis)
        for value in [getattr(axis, field.name)]
    )
    return " ".join(numbers)
