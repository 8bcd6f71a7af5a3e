"""The reshape family: Reshape, Flatten, Squeeze, Unsqueeze. None of them moves a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from omniconv.errors import ModelError, ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import MAX_RANK, Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_integers, normalise_axes
from omniconv.graph.operator import register
from omniconv.spec import Shape


def _reshape(node: Node, inputs: Operands, shape: Shape) -> Shape:
    given = as_integers(inputs[1], "the input shape")
    keep_zero = bool(node.integer("allowzero", 0))
    if len(given) > MAX_RANK or given.count(-1) > 1 or any(size < -1 for size in given):
        raise ModelError(f"shape={given[:32]}", need=f"at most {MAX_RANK} sizes of 0 or more, one of them -1")
    sizes = list(given)
    for axis, size in enumerate(given):
        if size == 0 and not keep_zero:
            if axis >= len(shape):
                raise ShapeError(
                    f"shape={given} copies axis {axis} of {shape}", need="0 only where the input has an axis"
                )
            sizes[axis] = shape[axis]
    if -1 in sizes:
        known = -math.prod(sizes)
        if not known or math.prod(shape) % known:
            raise ShapeError(f"{shape} cannot be read as {given}", need="equal numbers of elements")
        sizes[sizes.index(-1)] = math.prod(shape) // known
    return tuple(sizes)


def _flatten(node: Node, _inputs: Operands, shape: Shape) -> Shape:
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ShapeError(f"axis={axis} of a value of {len(shape)} axes", need=f"{-len(shape)} to {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _axes(node: Node, inputs: Operands) -> tuple[int, ...] | None:
    if len(inputs) > 1 and inputs[1] is not None:
        return as_integers(inputs[1], "the input axes")
    return node.integers("axes")


def _squeeze(node: Node, inputs: Operands, shape: Shape) -> Shape:
    given = _axes(node, inputs)
    if given is None:
        return tuple(size for size in shape if size != 1)
    axes = normalise_axes(given, len(shape))
    if any(shape[axis] != 1 for axis in axes):
        raise ShapeError(f"axes={given[:16]} of {shape} are not all of size 1", need="axes of size 1")
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _unsqueeze(node: Node, inputs: Operands, shape: Shape) -> Shape:
    given = _axes(node, inputs)
    if given is None or len(given) + len(shape) > MAX_RANK:
        raise ModelError("the input axes is missing or too long", need=f"axes, at most {MAX_RANK} in all")
    axes = normalise_axes(given, len(given) + len(shape))
    rest = iter(shape)
    return tuple(1 if axis in axes else next(rest) for axis in range(len(given) + len(shape)))


_TARGETS: Final[dict[str, Callable[[Node, Operands, Shape], Shape]]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    return build.rearrange(x, _TARGETS[node.op](node, inputs, x.shape))


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    target = _TARGETS[node.op](node, arrays, tuple(x.shape))
    if math.prod(target) != x.size:
        raise ShapeError(f"{x.shape} cannot be read as {target}", need="equal numbers of elements")
    if not x.flags.c_contiguous:
        budget.take(x.shape, x.dtype.itemsize, "a constant")
    return x.reshape(target)


for _name in _TARGETS:
    register(_name, lower=_lower, fold=_fold, since=5 if _name == "Reshape" else 1, truths=True, open_sizes=True)
