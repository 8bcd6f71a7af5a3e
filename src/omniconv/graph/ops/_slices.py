"""Slices with explicit starts, steps and counts, on computed values; and what nothing is left of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import AnyArray
from omniconv.graph.operands import Operand, Ref
from omniconv.program.steps import SliceStep

Cut = tuple[int, int, int]
"""``(start, step, count)`` on one axis."""


def make_empty(shape: Iterable[int], build: Builder) -> AnyArray:
    """A value without entries: a constant, because it depends on nothing.

    Raises:
        LimitError: other sizes that no array may have.
    """
    sizes = tuple(shape)
    build.budget.check(sizes, build.given.bytes, "a value without entries")
    return np.zeros(sizes, build.given.dtype)


def take_slice(x: Ref, cuts: Mapping[int, Cut], build: Builder, y: str) -> Operand:
    """Append ``y[i] = x[start + i * step]`` on the axes of ``cuts``; x itself where nothing is cut."""
    every = [cuts.get(axis, (0, 1, size)) for axis, size in enumerate(x.shape)]
    if all(cut == (0, 1, size) for cut, size in zip(every, x.shape, strict=True)):
        return x
    shape = [cut[2] for cut in every]
    if 0 in shape:
        return make_empty(shape, build)
    step = SliceStep(x.name, y, tuple(cut[0] for cut in every), tuple(cut[1] for cut in every))
    return build.add(step, shape)
