"""Cast: of constants between numbers; of computed values to what they are, to truths and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.tensors import find_dtype, name_dtype, number_of
from omniconv.program.steps import PostOp


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    target = node.integer("to")
    given = number_of(build.given)
    boolean = onnx.TensorProto.BOOL
    if target == (boolean if x.truth else given):
        return x
    if target == given:
        return build.map(x, PostOp("mul", scalar(1.0)))
    if target == boolean:
        return build.decide(x, PostOp("equal", scalar(0.0)), PostOp("rsub", scalar(1.0)))
    raise UnsupportedError(
        f"Cast of a computed value to {name_dtype(target)}",
        need=f"{name_dtype(given)} or {name_dtype(boolean)}",
        fix=f"convert the model to {build.given}",
    )


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    dtype = find_dtype(node.integer("to"), node.place)
    if dtype == x.dtype:
        return x
    budget.take(x.shape, dtype.itemsize, "a constant")
    return np.asarray(x.astype(dtype))


register("Cast", lower=_lower, fold=_fold, since=6, truths=True)
