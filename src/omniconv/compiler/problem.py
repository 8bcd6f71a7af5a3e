"""`Problem`: what the choice of a kernel depends on, apart from the target."""

from __future__ import annotations

from dataclasses import dataclass

from omniconv.compiler.walk import AxisWalk


@dataclass(frozen=True, slots=True)
class Problem:
    """What the choice depends on: sizes, channels of one group, and how the input's channels lie."""

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int
    neighbours: bool
