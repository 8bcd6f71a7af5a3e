"""Gather, GatherElements and GatherND with constant indices, of values and of constants.

Of a computed value, evenly spaced positions of an axis are a slice. Everything else is a `ChannelStep`: the axes that
are indexed, seen as one, stand where channels do: ``x`` read as (before, indexed, after), then ``y = x[:, source]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import make_empty, take_slice
from omniconv.program.steps import ChannelStep
from omniconv.spec import Shape

Index = npt.NDArray[np.int64]
_TABLE_BYTES = 64
"""Of an index while its table is made [bytes]."""


def normalise_indices(array: AnyArray, size: int, what: str = "axis") -> Index:
    """Indices counted from the front.

    Raises:
        ModelError: indices outside, or no integers.
    """
    if array.dtype.kind not in "iu":
        raise ModelError(f"indices are {array.dtype}", need="integers")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, -1)
    if not -size <= low <= high + 1 <= size:
        raise ModelError(f"indices {low} to {high} on an {what} of size {size}", need="valid indices")
    if array.dtype.kind == "i" and low < 0:
        array = np.where(array < 0, array + size, array)
    return array.astype(np.int64, copy=False)


def pick(x: Ref, before: int, source: Index, shape: Shape, build: Builder, *, y: str | None = None) -> Operand:
    """Append ``y = x.reshape(before, size, after)[:, source]``, read as ``shape``."""
    if 0 in shape:
        return make_empty(shape, build)
    after = math.prod(shape) // (before * source.size)
    size = math.prod(x.shape) // (before * after)
    form = x.shape if x.shape[:2] == (before, size) else (before, size, after)[: 2 if after == 1 else 3]
    seen = build.rearrange(x, form, y=build.fresh("seen"))
    last = (before, source.size, *form[2:])
    y = y or build.out()
    step = ChannelStep(seen.name, y if last == shape else build.fresh("picked"), tuple(source.tolist()))
    return build.rearrange(build.add(step, last), shape, y=y)


def _gather_shape(shape: Shape, indices: Shape, axis: int) -> Shape:
    return (*shape[:axis], *indices, *shape[axis + 1 :])


def _lower_gather(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data", rank=1)
    axis = normalise_axis(node.integer("axis", 0), x.rank)
    array = as_constant(inputs[1], "the input indices")
    build.budget.check(array.shape, _TABLE_BYTES, "the indices")
    indices = normalise_indices(array, x.shape[axis]).reshape(-1)
    shape = _gather_shape(x.shape, array.shape, axis)
    step = int(indices[1] - indices[0]) if indices.size > 1 else 1
    if 0 not in shape and step and np.all(np.diff(indices) == step):
        flat = (*x.shape[:axis], indices.size, *x.shape[axis + 1 :])
        y = build.out() if flat == shape else build.fresh("slice")
        cut = take_slice(x, {axis: (int(indices[0]), step, indices.size)}, build, y)
        return build.rearrange(build.value(cut, "the slice"), shape)
    return pick(x, math.prod(x.shape[:axis]), indices, shape, build)


def _fold_gather(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, array = as_constant(arrays[0], "the input data"), as_constant(arrays[1], "the input indices")
    axis = normalise_axis(node.integer("axis", 0), x.ndim)
    budget.take(_gather_shape(x.shape, array.shape, axis), max(x.dtype.itemsize, 8), "a constant")
    if array.dtype not in (np.int32, np.int64):
        array = normalise_indices(array, x.shape[axis])
    try:
        return np.asarray(x.take(array, axis))
    except IndexError:  # which NumPy finds while it goes through them
        return np.asarray(x.take(normalise_indices(array, x.shape[axis]), axis))


def find_elements(node: Node, inputs: Operands, budget: Budget) -> tuple[Index, Shape]:
    """GatherElements: the position in the flat x of every entry of the result, and its shape."""
    shape, array = shape_of(inputs[0], "the input data"), as_constant(inputs[1], "the input indices")
    axis = normalise_axis(node.integer("axis", 0), len(shape))
    if array.ndim != len(shape) or any(
        wanted > size for a, (wanted, size) in enumerate(zip(array.shape, shape, strict=True)) if a != axis
    ):
        raise ShapeError(
            f"indices of shape {array.shape} for data of shape {shape}", need=f"no larger axes than {axis} alone"
        )
    budget.check(array.shape, _TABLE_BYTES, "the indices")
    places: list[Index] = list(np.indices(array.shape, np.int64, sparse=True))
    places[axis] = normalise_indices(array, shape[axis])
    return _ravel(places, shape, array.shape), array.shape


def find_slices(node: Node, inputs: Operands, budget: Budget) -> tuple[Index, Shape]:
    """GatherND: the position of every slice among the slices of x, and the shape of the result."""
    shape, array = shape_of(inputs[0], "the input data"), as_constant(inputs[1], "the input indices")
    batch, depth = node.integer("batch_dims", 0), array.shape[-1] if array.ndim else 0
    if (
        not 0 <= batch < min(len(shape), array.ndim)
        or not 1 <= depth <= len(shape) - batch
        or shape[:batch] != array.shape[:batch]
    ):
        raise ShapeError(
            f"indices of shape {array.shape} with batch_dims={batch} for data of shape {shape}",
            need="equal batch axes, and an index of at most the axes behind them",
        )
    budget.check(array.shape, _TABLE_BYTES, "the indices")
    places: list[Index] = list(np.indices(array.shape[:-1], np.int64, sparse=True)[:batch]) if batch else []
    places += [normalise_indices(array[..., i], shape[batch + i]) for i in range(depth)]
    result = (*array.shape[:-1], *shape[batch + depth :])
    return _ravel(places, shape[: batch + depth], array.shape[:-1]), result


def _ravel(places: Sequence[Index], shape: Shape, result: Shape) -> Index:
    """The row-major position of each index of an array of ``shape``, for indices that broadcast to ``result``."""
    flat = places[0]
    for place, size in zip(places[1:], shape[1:], strict=True):
        flat = flat * size + place
    return np.broadcast_to(flat, result).reshape(-1)


_FINDERS = {"GatherElements": find_elements, "GatherND": find_slices}


def _lower_flat(node: Node, inputs: Operands, build: Builder) -> Operand:
    source, shape = _FINDERS[node.op](node, inputs, build.budget)
    return pick(build.value(inputs[0], "the input data", rank=1), 1, source, shape, build)


def _fold_flat(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input data")
    source, shape = _FINDERS[node.op](node, arrays, budget)
    budget.take(shape, x.dtype.itemsize, "a constant")
    after = math.prod(shape) // source.size if source.size else 1
    return np.asarray(x.reshape(-1, after)[source].reshape(shape))


register("Gather", lower=_lower_gather, fold=_fold_gather, truths=True)
register("GatherElements", lower=_lower_flat, fold=_fold_flat, since=11, truths=True)
register("GatherND", lower=_lower_flat, fold=_fold_flat, since=11, truths=True)
