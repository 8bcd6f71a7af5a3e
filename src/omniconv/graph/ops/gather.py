"""Gather: of constants anything; of computed values only what selects channels (axis 1) or an even slice of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, normalise_axis
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.program.steps import ChannelStep


def _indices(array: AnyArray, size: int) -> AnyArray:
    if array.size and not (-size <= int(array.min()) and int(array.max()) < size):
        raise ModelError(
            f"indices {int(array.min())} to {int(array.max())} on an axis of size {size}", need="valid indices"
        )
    return np.asarray(np.where(array < 0, array + size, array)).astype(np.int64)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data", rank=1)
    axis = normalise_axis(node.integer("axis", 0), x.rank)
    array = as_constant(inputs[1], "the input indices")
    if array.ndim > 1 or not array.size:
        raise UnsupportedError(f"Gather with indices of shape {array.shape}", need="one index or a list of indices")
    build.budget.check(array.shape, 64, "the indices")
    indices = [int(item) for item in _indices(array, x.shape[axis]).reshape(-1)]
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    y = build.out() if array.ndim else build.fresh("picked")
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if axis == 1 and x.rank >= 2:
        picked: Ref = build.add(ChannelStep(x.name, y, tuple(indices)), shape)
    elif step and all(after - before == step for before, after in pairwise(indices)):
        picked = take_slice(x, {axis: (indices[0], step, len(indices))}, build, y)
    else:
        raise UnsupportedError(f"Gather of uneven positions on axis {axis}", need="axis=1, or evenly spaced indices")
    return picked if array.ndim else build.rearrange(picked, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, array = arrays
    assert x is not None
    assert array is not None
    axis = normalise_axis(node.integer("axis", 0), x.ndim)
    budget.take((*x.shape[:axis], *array.shape, *x.shape[axis + 1 :]), max(x.dtype.itemsize, 8), "a constant")
    return np.asarray(np.take(x, _indices(array, x.shape[axis]), axis))


register("Gather", lower=_lower, fold=_fold)
