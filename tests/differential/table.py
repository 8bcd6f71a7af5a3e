"""The table of what draws each operator, and how axes and shapes are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.differential.draft import Draft

Draw = Callable[[Draft], Any]
GENERATORS: dict[str, tuple[int, Draw]] = {}
"""Operator -> the first opset, and what appends one node of it to a draft."""


def generator(*names: str, since: int = 7) -> Callable[[Callable[[Draft, str], Any]], Callable[[Draft, str], Any]]:
    def register(draw: Callable[[Draft, str], Any]) -> Callable[[Draft, str], Any]:
        for name in names:
            GENERATORS[name] = (since, lambda g, name=name: draw(g, name))
        return draw

    return register


def axis_of(g: Draft, rank: int) -> int:
    return g.whole(-rank, rank - 1) if rank else 0


def counted(g: Draft, axis: int, rank: int) -> int:
    """An axis, counted from the end where the opset allows it."""
    return axis - rank if g.opset >= 11 and g.chance(0.4) else axis


def broadcastable(g: Draft, shape: tuple[int, ...], *, wider: bool = True) -> tuple[int, ...]:
    """A shape that broadcasts with ``shape``, or (not wider) to it."""
    drawn = [size if g.chance(0.6) else 1 for size in shape]
    drawn = drawn[g.whole(0, len(drawn)) :] if g.chance(0.4) else drawn
    if wider:
        if g.chance(0.2) and math.prod(shape) < 500:
            drawn = [g.whole(1, 4) if size == 1 and g.chance(0.5) else size for size in drawn]
        if g.chance(0.1) and len(drawn) == len(shape) < 6:
            drawn = [g.whole(1, 3), *drawn]
        for index in range(1, min(len(drawn), len(shape)) + 1):  # only sizes of 1 may have grown
            if drawn[-index] not in (1, shape[-index]) and shape[-index] != 1:
                drawn[-index] = 1
    return tuple(drawn)
