"""Cast and CastLike: of constants between numbers; of computed values to what they are, to truths and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.tensors import find_dtype, name_dtype, number_of, number_of_dtype
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    return _convert(node, build.value(inputs[0], "the input"), node.integer("to"), build)


def _lower_like(node: Node, inputs: Operands, build: Builder) -> Operand:
    """As Cast to the type of the second input, whose values do not count."""
    x, like = inputs[:2]
    if isinstance(like, np.ndarray):
        target = number_of_dtype(like.dtype)
    else:
        target = onnx.TensorProto.BOOL if like is not None and like.truth else number_of(build.given)
    if isinstance(x, np.ndarray):
        return _fold_to(node, x, target, build.budget)
    return _convert(node, build.value(x, "the input"), target, build)


def _convert(node: Node, x: Ref, target: int, build: Builder) -> Operand:
    given = number_of(build.given)
    boolean = onnx.TensorProto.BOOL
    if target == (boolean if x.truth else given):
        return x
    if target == given:
        return build.map(x, PostOp("mul", scalar(1.0)))
    if target == boolean:
        return build.decide(x, PostOp("equal", scalar(0.0)), PostOp("rsub", scalar(1.0)))
    raise UnsupportedError(
        f"{node.op} of a computed value to {name_dtype(target)}",
        need=f"{name_dtype(given)} or {name_dtype(boolean)}",
        fix=f"convert the model to {build.given}",
    )


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    return _fold_to(node, x, node.integer("to"), budget)


def _fold_like(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, like = arrays[:2]
    assert x is not None
    assert like is not None
    return _fold_to(node, x, number_of_dtype(like.dtype), budget)


def _fold_to(node: Node, x: AnyArray, target: int, budget: Budget) -> AnyArray:
    dtype = find_dtype(target, node.place)
    if dtype == x.dtype:
        return x
    budget.take(x.shape, dtype.itemsize, "a constant")
    return np.asarray(x.astype(dtype))


register("Cast", lower=_lower, fold=_fold, since=6, truths=True)
register("CastLike", lower=_lower_like, fold=_fold_like, since=15, truths=True)
