"""Expand and Tile: of computed values, broadcasting axes of size 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import MAX_RANK, Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_integers, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import make_empty
from omniconv.spec import Shape


def _expanded(inputs: Operands) -> Shape:
    given = as_integers(inputs[1], "the input shape")
    if len(given) > MAX_RANK or any(size < 0 for size in given):
        raise ModelError(f"shape={given[:32]}", need=f"at most {MAX_RANK} sizes of 0 or more")
    return broadcast(shape_of(inputs[0], "the input"), given)


def _repeats(inputs: Operands) -> tuple[int, ...]:
    shape = shape_of(inputs[0], "the input")
    given = as_integers(inputs[1], "the input repeats")
    if len(given) != len(shape) or any(count < 0 for count in given):
        raise ModelError(f"repeats={given[:32]} for shape {shape}", need="one count of 0 or more for each axis")
    return given


def _lower_expand(_node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    shape = _expanded(inputs)
    if 0 in shape:
        return make_empty(shape, build)
    return x if shape == x.shape else build.map(x, shape=shape)


def _fold_expand(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    shape = _expanded(arrays)
    budget.take(shape, x.dtype.itemsize, "a constant")
    return np.broadcast_to(x, shape)


def _lower_tile(_node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    repeats = _repeats(inputs)
    shape = tuple(count * size for count, size in zip(repeats, x.shape, strict=True))
    if 0 in shape:
        return make_empty(shape, build)
    if all(1 in pair for pair in zip(repeats, x.shape, strict=True)):
        return x if shape == x.shape else build.map(x, shape=shape)
    sizes = list(x.shape)
    for axis, count in enumerate(repeats):
        if count > 1:  # an axis of size 1 in front of what is repeated, broadcast
            before, after = math.prod(sizes[:axis]), math.prod(sizes[axis:])
            seen = build.rearrange(x, (before, 1, after), y=build.fresh("seen"))
            x = build.map(seen, y=build.fresh("repeated"), shape=(before, count, after))
            sizes[axis] *= count
    return build.rearrange(x, shape)


def _fold_tile(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    repeats = _repeats(arrays)
    budget.take([count * size for count, size in zip(repeats, x.shape, strict=True)], x.dtype.itemsize, "a constant")
    return np.tile(x, repeats)


register("Expand", lower=_lower_expand, fold=_fold_expand, truths=True)
register("Tile", lower=_lower_tile, fold=_fold_tile, since=6, truths=True)
