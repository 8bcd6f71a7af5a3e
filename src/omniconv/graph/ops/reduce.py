"""ReduceMean, ReduceMax, ReduceMin and ReduceSum over any axes; ReduceProd of constants.

Over all spatial axes it is one `ReduceStep`. Other axes are first moved to the end: x is read as (1, kept, reduced).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_integers, normalise_axes, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import PostOp, ReduceStep
from omniconv.spec import Activation

_FUNCTIONS: Final[dict[str, Any]] = {
    "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceSum": np.sum, "ReduceProd": np.prod,
}  # fmt: skip


def _read_axes(node: Node, inputs: Operands) -> tuple[int, ...] | None:
    """The axes to reduce, ``None`` for no reduction at all."""
    rank = len(shape_of(inputs[0], "the input data"))
    given = node.integers("axes")
    if given is None and len(inputs) > 1 and inputs[1] is not None:
        given = as_integers(inputs[1], "the input axes")
    if not given:
        return None if node.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(normalise_axes(given, rank)))


def _reduce(node: Node, x: Ref, op: str, axes: tuple[int, ...], build: Builder, y: str) -> Ref:
    keep = bool(node.integer("keepdims", 1))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes)
    if x.rank >= 3 and axes == tuple(range(2, x.rank)):
        return build.add(ReduceStep(x.name, y, op), shape)
    kept = tuple(axis for axis in range(x.rank) if axis not in axes)
    flat = (1, math.prod(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in axes))
    moved = build.rearrange(x, flat, perm=(*kept, *axes), y=build.fresh("moved"))
    if shape == flat[:2] or shape == (*flat[:2], 1):
        return build.add(ReduceStep(moved.name, y, op), shape)
    reduced = build.add(ReduceStep(moved.name, build.fresh("reduced"), op), flat[:2])
    return build.rearrange(reduced, shape, y=y)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data")
    axes = _read_axes(node, inputs)
    if not axes:
        return x
    if node.op == "ReduceMin":
        negate = PostOp("act", activation=Activation.of("neg"))
        opposite = build.map(x, negate, y=build.fresh("negated"))
        return build.map(_reduce(node, opposite, "max", axes, build, build.fresh("highest")), negate)
    return _reduce(node, x, node.op.removeprefix("Reduce").lower(), axes, build, build.out())


def _least(dtype: np.dtype[Any]) -> Any:
    """What the maximum of nothing is."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else False


def _greatest(dtype: np.dtype[Any]) -> Any:
    """What the minimum of nothing is."""
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max if dtype.kind in "iu" else True


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    axes = _read_axes(node, arrays)
    if axes is None:
        return x
    budget.take(x.shape, x.dtype.itemsize, "a constant")
    keep, empty = bool(node.integer("keepdims", 1)), {}
    if not x.size and node.op in ("ReduceMax", "ReduceMin"):
        empty["initial"] = _least(x.dtype) if node.op == "ReduceMax" else _greatest(x.dtype)
    result = _FUNCTIONS[node.op](x, axis=axes, keepdims=keep, **empty)
    return np.asarray(result).astype(x.dtype)


for _name in _FUNCTIONS:
    register(_name, lower=None if _name == "ReduceProd" else _lower, fold=_fold)
