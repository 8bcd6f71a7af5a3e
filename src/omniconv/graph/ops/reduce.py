"""Reductions over any axes: sums, means, products, extremes, norms and their logarithms.

Over all spatial axes it is one `ReduceStep`. Other axes are first moved to the end: x is read as (1, kept, reduced).
Norms are reductions of what is made of x before, and something after them; ``ln sum exp(x)`` is
``m + ln sum exp(x - m)`` with the maximum m, the largest number where that is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_integers, normalise_axes, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import PostOp, ReduceStep
from omniconv.spec import Activation

_ABS: Final = PostOp("act", activation=Activation.of("abs"))
_EXP: Final = PostOp("act", activation=Activation.of("exp"))
_ROOT: Final = PostOp("act", activation=Activation.of("sqrt"))


_SIMPLE: Final = {
    "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceSum": "sum", "ReduceProd": "prod",
}  # fmt: skip
"""Those that are one reduction."""
_MADE: Final[dict[str, tuple[tuple[PostOp, ...], tuple[PostOp, ...]]]] = {
    "ReduceL1": ((_ABS,), ()),
    "ReduceL2": ((), (_ROOT,)),
    "ReduceSumSquare": ((), ()),
    "ReduceLogSum": ((), (PostOp("log"),)),
}
"""Those that are a sum of what is made of x before, and something after it."""
_EXTREMES: Final = ("max", "min")
_SQUARED: Final = ("ReduceL2", "ReduceSumSquare")
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceSum": np.sum, "ReduceProd": np.prod,
    "ReduceL1": lambda x, **how: np.sum(np.abs(x), **how), "ReduceSumSquare": lambda x, **how: np.sum(x * x, **how),
    "ReduceL2": lambda x, **how: np.sqrt(np.sum(x * x, **how)),
    "ReduceLogSum": lambda x, **how: np.log(np.sum(x, **how)),
    "ReduceLogSumExp": np.logaddexp.reduce,
}  # fmt: skip


def _read_axes(node: Node, inputs: Operands) -> tuple[int, ...]:
    """The axes to reduce, in order; none where the operator says so, which leaves what is done beside the reduction."""
    rank = len(shape_of(inputs[0], "the input data"))
    given = node.integers("axes")
    if given is None and len(inputs) > 1 and inputs[1] is not None:
        given = as_integers(inputs[1], "the input axes")
    if not given:
        return () if node.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(normalise_axes(given, rank)))


def reduce_axes(x: Ref, op: str, axes: tuple[int, ...], build: Builder, y: str, *, keep: bool = True) -> Ref:
    """Append the reduction of x over ``axes``, which are sorted, each once; with them as sizes of 1 where kept."""
    if not axes:
        return x
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes)
    if x.rank >= 3 and axes == tuple(range(2, x.rank)):
        return build.add(ReduceStep(x.name, y, op), shape)
    spatial = tuple(range(2, x.rank))
    if op in _EXTREMES and x.rank >= 3 and set(axes) > set(spatial):
        # A value that is stored channels last need not be moved for this, and the order of extremes does not matter.
        inner = build.add(ReduceStep(x.name, build.fresh("inner"), op), (*x.shape[:2], *(1,) * len(spatial)))
        rest = tuple(axis for axis in axes if axis < 2)
        outer = build.rearrange(inner, x.shape[:2], y=build.fresh("channels"))
        reduced = reduce_axes(outer, op, rest, build, build.fresh("outer"))
        return build.rearrange(reduced, shape, y=y)
    kept = tuple(axis for axis in range(x.rank) if axis not in axes)
    flat = (1, math.prod(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in axes))
    moved = build.rearrange(x, flat, perm=(*kept, *axes), y=build.fresh("moved"))
    if shape == flat[:2] or shape == (*flat[:2], 1):
        return build.add(ReduceStep(moved.name, y, op), shape)
    reduced = build.add(ReduceStep(moved.name, build.fresh("reduced"), op), flat[:2])
    return build.rearrange(reduced, shape, y=y)


def _log_sum_of_powers(x: Ref, axes: tuple[int, ...], build: Builder, *, keep: bool) -> Ref:
    top = reduce_axes(x, "max", axes, build, build.fresh("highest"))
    # An infinite maximum would leave inf - inf; any finite number serves in its place.
    largest = build.program.element.largest
    bounds = PostOp("max", scalar(-largest)), PostOp("min", scalar(largest))
    shift = build.map(top, *bounds, y=build.fresh("shift"))
    powers = build.map(x, PostOp("sub", shift.name), _EXP, y=build.fresh("powers"))
    total = reduce_axes(powers, "sum", axes, build, build.fresh("total"))
    if keep:
        return build.map(total, PostOp("log"), PostOp("add", shift.name))
    result = build.map(total, PostOp("log"), PostOp("add", shift.name), y=build.fresh("kept"))
    return build.rearrange(result, (size for axis, size in enumerate(x.shape) if axis not in axes))


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data")
    axes = _read_axes(node, inputs)
    keep = bool(node.integer("keepdims", 1))
    if node.op in _SIMPLE:
        return reduce_axes(x, _SIMPLE[node.op], axes, build, build.out(), keep=keep)
    if node.op == "ReduceLogSumExp":
        return x if not axes else _log_sum_of_powers(x, axes, build, keep=keep)
    before, after = _MADE[node.op]
    if node.op in _SQUARED:
        before = (PostOp("mul", x.name),)
    if before:
        x = build.map(x, *before, y=build.fresh("terms"))
    if not after:
        return reduce_axes(x, "sum", axes, build, build.out(), keep=keep)
    return build.map(reduce_axes(x, "sum", axes, build, build.fresh("total"), keep=keep), *after)


def _least(dtype: np.dtype[Any]) -> Any:
    """What the maximum of nothing is."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else False


def _greatest(dtype: np.dtype[Any]) -> Any:
    """What the minimum of nothing is."""
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max if dtype.kind in "iu" else True


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input data")
    axes = _read_axes(node, arrays)
    budget.take(x.shape, 4 * x.dtype.itemsize, "a constant")
    keep, empty = bool(node.integer("keepdims", 1)), {}
    if not x.size and node.op == "ReduceMean":
        raise ModelError(f"{node.op} of shape {x.shape}", need="elements to reduce")
    if not x.size and node.op in ("ReduceMax", "ReduceMin"):
        empty["initial"] = _least(x.dtype) if node.op == "ReduceMax" else _greatest(x.dtype)
    with np.errstate(all="ignore"):
        result = _FUNCTIONS[node.op](x, axis=axes, keepdims=keep, **empty)
    return np.asarray(result).astype(x.dtype)


for _name in _FUNCTIONS:
    register(_name, lower=_lower, fold=_fold, open_sizes=True)
