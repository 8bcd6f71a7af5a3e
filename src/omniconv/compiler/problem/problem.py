"""`Problem`: what the choice of a kernel depends on, apart from the target."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from omniconv.compiler.problem.walk import AxisWalk


@dataclass(frozen=True, slots=True)
class Problem:
    """What the choice depends on: images, walks, groups, and the channels of one group."""

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int

    @property
    def taps(self) -> int:
        """Taps of the kernel, over all axes."""
        return math.prod(axis.kernel for axis in self.axes)

    def text(self) -> str:
        """Sizes, walks and channels in one line that no other problem has: what a `Tuning` files its choices under.

        Example:
            >>> Problem(1, (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(49)), 1, 960, 320).text()
            'n1 g1 ic960 oc320 | 1 | 1 | 49'
        """
        axes = " | ".join(map(_describe_axis, self.axes))
        return f"n{self.batch} g{self.groups} ic{self.inputs} oc{self.outputs} | {axes}"


def _describe_axis(axis: AxisWalk) -> str:
    """All numbers of a walk; the size alone where every output reads the one input at its place."""
    if axis == AxisWalk.flat(axis.size):
        return str(axis.size)
    numbers = (
        f"{field.name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field in fields(axis)
        for value in [getattr(axis, field.name)]
    )
    return " ".join(numbers)
