"""Slice: bounds from attributes (before opset 10) or constant inputs, clamped as the standard says; also backwards."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_integers, normalise_axes, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import Cut, take_slice


def _cuts(node: Node, inputs: Operands) -> dict[int, Cut]:
    shape = shape_of(inputs[0], "the input data")
    if node.version < 10:
        starts, ends, axes = node.integers("starts") or (), node.integers("ends") or (), node.integers("axes")
        steps = None
    else:
        starts, ends = as_integers(inputs[1], "the input starts"), as_integers(inputs[2], "the input ends")
        axes = None if inputs[3] is None else as_integers(inputs[3], "the input axes")
        steps = None if inputs[4] is None else as_integers(inputs[4], "the input steps")
    if axes is None:
        axes = tuple(range(min(len(starts), len(shape))))
    steps = steps if steps is not None else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ModelError(
            f"starts={starts[:16]} ends={ends[:16]} axes={axes[:16]} steps={steps[:16]}",
            need="equal lengths, steps not 0",
        )
    cuts: dict[int, Cut] = {}
    for axis, start, end, step in zip(normalise_axes(axes, len(shape)), starts, ends, steps, strict=True):
        picked = range(*slice(start, end, step).indices(shape[axis])) if shape[axis] else range(0)
        cuts[axis] = (picked.start, picked.step, len(picked))
    return cuts


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    return take_slice(build.value(inputs[0], "the input data"), _cuts(node, inputs), build, build.out())


def _fold(node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    for axis, (start, step, count) in _cuts(node, arrays).items():
        stop = start + step * count
        x = x[(slice(None),) * axis + (slice(start, stop if stop >= 0 else None, step) if count else slice(0, 0),)]
    return x


register("Slice", lower=_lower, fold=_fold, truths=True)
