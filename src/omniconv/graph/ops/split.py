"""Split along an axis: sizes from the attribute (before opset 13), a constant input, or equal parts."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_integers, normalise_axis, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.integers import ceil_div


def _parts(node: Node, inputs: Operands) -> tuple[int, list[tuple[int, int]]]:
    """The axis, and the first position and size of each part."""
    shape = shape_of(inputs[0], "the input")
    axis = normalise_axis(node.integer("axis", 0), len(shape))
    count = len(node.outputs)
    sizes = node.integers("split")
    if sizes is None and len(inputs) > 1 and inputs[1] is not None:
        sizes = as_integers(inputs[1], "the input split")
    if sizes is None:
        wanted = node.integer("num_outputs", count)
        part = ceil_div(shape[axis], count)
        if wanted != count or (node.version < 18 and shape[axis] % count) or part * (count - 1) >= shape[axis]:
            raise ModelError(
                f"axis of size {shape[axis]} into {wanted} parts, {count} outputs", need="a size for each output"
            )
        sizes = (*(part,) * (count - 1), shape[axis] - part * (count - 1))
    if len(sizes) != count or sum(sizes) != shape[axis] or min(sizes) < 0:
        raise ModelError(
            f"split={sizes[:16]} of an axis of size {shape[axis]} into {count} outputs",
            need="sizes that add up to the axis",
        )
    firsts, first = [], 0
    for size in sizes:
        firsts.append((first, size))
        first += size
    return axis, firsts


def _lower(node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    x = build.value(inputs[0], "the input")
    axis, parts = _parts(node, inputs)
    found: list[Operand] = []
    for index, (first, size) in enumerate(parts):
        used = bool(node.outputs[index])
        found.append(take_slice(x, {axis: (first, 1, size)}, build, build.out(index)) if used else None)
    return found


def _fold(node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> Sequence[AnyArray]:
    x = arrays[0]
    assert x is not None
    axis, parts = _parts(node, arrays)
    return [x[(slice(None),) * axis + (slice(first, first + size),)] for first, size in parts]


register("Split", lower=_lower, fold=_fold, truths=True)
