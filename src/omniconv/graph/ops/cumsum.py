"""CumSum along a constant axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, as_integers, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import CumSumStep


def _read(node: Node, inputs: Operands) -> tuple[int, bool, bool]:
    """The axis, and whether it is exclusive and reverse."""
    axes = as_integers(inputs[1], "the input axis")
    if len(axes) != 1:
        raise ModelError(f"the input axis is {axes[:16]}", need="one integer")
    axis = normalise_axis(axes[0], len(shape_of(inputs[0], "the input x")))
    return axis, bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input x", rank=1)
    axis, exclusive, reverse = _read(node, inputs)
    return build.add(CumSumStep(x.name, build.out(), axis, exclusive=exclusive, reverse=reverse), x.shape)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input x")
    axis, exclusive, reverse = _read(node, arrays)
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    x = np.flip(x, axis) if reverse else x
    total = np.cumsum(x, axis, dtype=x.dtype)
    if exclusive:
        before = (slice(None),) * axis
        total = np.concatenate([np.zeros_like(total[(*before, slice(1))]), total[(*before, slice(-1))]], axis)
    return np.flip(total, axis) if reverse else total


register("CumSum", lower=_lower, fold=_fold, since=11)
