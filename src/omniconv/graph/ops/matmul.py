"""MatMul of values and constants, with NumPy broadcasting of the axes before the matrices.

A constant right side that is one matrix makes a dense layer; any other product is one of two values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.program.steps import Array, DenseStep, ProductStep
from omniconv.spec import Shape


def _lower(_node: Node, inputs: Operands, build: Builder) -> Operand:
    return matmul(inputs[0], inputs[1], build)


def matmul(left: Operand, right: Operand, build: Builder, *, y: str | None = None) -> Ref:
    """Append ``left @ right``, of values and constants."""
    a, b = shape_of(left, "the left side A"), shape_of(right, "the right side B")
    if not (a and b and all(a) and all(b)):
        raise ShapeError(f"A has shape {a}, B {b}", need="one axis or more of size 1 or more each")
    if a[-1] != b[-2:][0]:
        raise ShapeError(f"A has {a[-1]} columns, B {b[-2:][0]} rows", need="equal sizes")
    shape = (*broadcast(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))
    y = y or build.out()
    x = build.value(left, "the left side A")
    if isinstance(right, Ref) or len(b) > len(a) or any(size != 1 for size in b[:-2]):
        return multiply(x, build.value(right, "the right side B"), shape, build, y=y)
    matrix = as_weights(right, "the right side B").reshape((-1, 1) if len(b) == 1 else b[-2:])
    build.budget.take(matrix.shape, build.program.element.bytes, "the weights")
    w: Array = np.ascontiguousarray(matrix.T)
    if len(b) > 1:
        return build.add(DenseStep(x.name, y, w), shape)
    return build.rearrange(build.add(DenseStep(x.name, build.fresh("product"), w), (*a[:-1], 1)), shape, y=y)


def multiply(a: Ref, b: Ref, shape: Shape, build: Builder, *, y: str | None = None) -> Ref:
    """Append ``a @ b``; vectors become matrices, and the result has ``shape``."""
    left = build.rearrange(a, (1, *a.shape), y=build.fresh("row")) if a.rank == 1 else a
    right = build.rearrange(b, (*b.shape, 1), y=build.fresh("column")) if b.rank == 1 else b
    whole = (*broadcast(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    result = y or build.out()
    if whole == shape:
        return build.add(ProductStep(left.name, result, right.name), shape)
    product = build.add(ProductStep(left.name, build.fresh("product"), right.name), whole)
    return build.rearrange(product, shape, y=result)


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


register("MatMul", lower=_lower, fold=_fold, open_sizes=True)
