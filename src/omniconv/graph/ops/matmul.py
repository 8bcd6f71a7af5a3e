"""MatMul with a constant right side of one or two axes (leading axes of size 1 are dropped)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_ref, as_weights, broadcast
from omniconv.graph.operator import register
from omniconv.program.steps import Array, DenseStep


def _lower(_node: Node, inputs: Operands, build: Builder) -> Operand:
    x = as_ref(inputs[0], "the left side A", rank=1)
    b = as_weights(inputs[1], "the right side B")
    if b.ndim > 2 and (any(size != 1 for size in b.shape[:-2]) or b.ndim > x.rank):
        raise UnsupportedError(f"MatMul with B of shape {b.shape}", need="two axes", fix="a Conv with groups")
    if not b.size or b.ndim < 1:
        raise ShapeError(f"B has shape {b.shape}", need="one or two axes of size 1 or more")
    matrix: Array = b.reshape(-1, 1) if b.ndim == 1 else b.reshape(b.shape[-2:])
    if matrix.shape[0] != x.shape[-1]:
        raise ShapeError(f"A has {x.shape[-1]} columns, B {matrix.shape[0]} rows", need="equal sizes")
    build.budget.take(matrix.shape, build.program.element.bytes, "the weights")
    w: Array = np.ascontiguousarray(matrix.T)
    shape = (*x.shape[:-1], w.shape[0])
    if b.ndim > 1:
        return build.add(DenseStep(x.name, build.out(), w), shape)
    return build.rearrange(build.add(DenseStep(x.name, build.fresh("product"), w), shape), x.shape[:-1])


def _fold(_node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    a, b = arrays
    assert a is not None
    assert b is not None
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(f"A has shape {a.shape}, B {b.shape}", need="matching inner sizes")
    rows = a.shape[-2:-1] if a.ndim > 1 else ()
    columns = b.shape[-1:] if b.ndim > 1 else ()
    budget.take((*broadcast(tuple(a.shape[:-2]), tuple(b.shape[:-2])), *rows, *columns), a.dtype.itemsize, "a constant")
    if a.size * b.shape[-1] > 1 << 34:
        raise UnsupportedError("MatMul of two large constants", need="constants folded before loading")
    return np.asarray(np.matmul(a, b))


register("MatMul", lower=_lower, fold=_fold)
