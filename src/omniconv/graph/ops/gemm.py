"""Gemm: ``alpha * A' @ B' + beta * C``, each of them a constant or a computed value."""

from __future__ import annotations

import numpy as np

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops.arithmetic import combine
from omniconv.graph.ops.matmul import multiply
from omniconv.program.steps import Array, DenseStep, PostOp
from omniconv.spec import Shape


def _scale(array: Array, factor: float) -> Array:
    with np.errstate(all="ignore"):
        return array if factor == 1.0 else array.astype(np.float64) * factor


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x, b = build.value(inputs[0], "the input A"), inputs[1]
    form = shape_of(b, "the input B")
    if x.rank != 2 or len(form) != 2:
        raise ShapeError(f"A has shape {x.shape}, B {form}", need="two axes each")
    if node.integer("transA", 0):
        x = build.rearrange(x, x.shape[::-1], perm=(1, 0), y=build.fresh("transposed"))
    rows, columns = form[::-1] if node.integer("transB", 0) else form
    if rows != x.shape[1] or not all(form):
        raise ShapeError(f"A has {x.shape[1]} columns, B {rows} rows", need="equal sizes, 1 or more")
    shape = (x.shape[0], columns)
    if inputs[2] is not None and broadcast(shape, shape_of(inputs[2], "the input C")) != shape:
        raise ShapeError(
            f"C of shape {shape_of(inputs[2], 'C')} does not broadcast to {shape}", need="C no larger than A @ B"
        )
    if isinstance(b, Ref):
        return _add(node, _multiply(node, x, b, shape, inputs[2] is None, build), inputs[2], build)
    w = as_weights(b, "the input B")
    w = w if node.integer("transB", 0) else w.T
    build.budget.take(w.shape, build.program.element.bytes, "the weights")
    w = np.ascontiguousarray(_scale(w, node.number("alpha", 1.0)))
    c = inputs[2]
    if c is not None and not isinstance(c, Ref) and (c.ndim < 2 or c.shape[0] == 1):
        bias = _scale(as_weights(c, "the input C"), node.number("beta", 1.0))
        spread = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (columns,)))
        return build.add(DenseStep(x.name, build.out(), w, spread), shape)
    y = build.out() if c is None else build.fresh("product")
    return _add(node, build.add(DenseStep(x.name, y, w), shape), c, build)


def _multiply(node: Node, x: Ref, b: Ref, shape: Shape, last: bool, build: Builder) -> Ref:
    """``alpha * A @ B'`` for a computed B; whether it is the last of the node."""
    if node.integer("transB", 0):
        b = build.rearrange(b, b.shape[::-1], perm=(1, 0), y=build.fresh("transposed"))
    alpha = node.number("alpha", 1.0)
    product = multiply(x, b, shape, build, y=build.out() if last and alpha == 1.0 else build.fresh("product"))
    if alpha == 1.0:
        return product
    return build.map(product, PostOp("mul", scalar(alpha)), y=build.out() if last else build.fresh("scaled"))


def _add(node: Node, product: Ref, c: Operand, build: Builder) -> Ref:
    """``product + beta * C``."""
    if c is None:
        return product
    beta = node.number("beta", 1.0)
    if not isinstance(c, Ref):
        return build.map(product, PostOp("add", _scale(as_weights(c, "the input C"), beta)))
    if beta != 1.0:
        c = build.map(c, PostOp("mul", scalar(beta)), y=build.fresh("beta"))
    return combine(product, c, "add", build)


register("Gemm", lower=_lower, since=6, open_sizes=True)
