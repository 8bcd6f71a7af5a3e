"""Slices with explicit starts, steps and counts, on computed values and on constants."""

from __future__ import annotations

from collections.abc import Mapping

from omniconv.graph.builder import Builder
from omniconv.graph.operands import Ref
from omniconv.program.steps import SliceStep

Cut = tuple[int, int, int]
"""``(start, step, count)`` on one axis."""


def take_slice(x: Ref, cuts: Mapping[int, Cut], build: Builder, y: str) -> Ref:
    """Append ``y[i] = x[start + i * step]`` on the axes of ``cuts``; x itself where nothing is cut."""
    every = [cuts.get(axis, (0, 1, size)) for axis, size in enumerate(x.shape)]
    if all(cut == (0, 1, size) for cut, size in zip(every, x.shape, strict=True)):
        return x
    step = SliceStep(x.name, y, tuple(cut[0] for cut in every), tuple(cut[1] for cut in every))
    return build.add(step, (cut[2] for cut in every))
