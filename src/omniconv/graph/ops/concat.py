"""Concat along any axis, of values and constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import ConcatStep
from omniconv.spec import Shape


def _joined(shapes: Sequence[Shape], axis: int) -> tuple[Shape, int]:
    first = shapes[0]
    axis = normalise_axis(axis, len(first))
    for shape in shapes:
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise ShapeError(f"shapes {first} and {shape} cannot be joined along axis {axis}", need="equal other axes")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]), axis


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    shape, axis = _joined([shape_of(item, "an input") for item in inputs], node.integer("axis"))
    held = [item for item in inputs if shape_of(item, "an input")[axis]]
    refs = [build.value(item, f"input {index}") for index, item in enumerate(held)]
    if len(refs) == 1:
        return refs[0]
    return build.add(ConcatStep(tuple(ref.name for ref in refs), build.out(), axis), shape)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    parts = [as_constant(item, "an input") for item in arrays]
    shape, axis = _joined([tuple(part.shape) for part in parts], node.integer("axis"))
    budget.take(shape, parts[0].dtype.itemsize, "a constant")
    return np.concatenate(parts, axis)


register("Concat", lower=_lower, fold=_fold, since=4, truths=True, open_sizes=True)
