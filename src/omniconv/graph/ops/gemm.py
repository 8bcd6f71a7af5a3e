"""Gemm: ``alpha * A' @ B' + beta * C`` with a constant B; C a constant or a computed value."""

from __future__ import annotations

import numpy as np

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_ref, as_weights, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops.arithmetic import combine
from omniconv.program.steps import Array, DenseStep, PostOp


def _scale(array: Array, factor: float) -> Array:
    with np.errstate(all="ignore"):
        return array if factor == 1.0 else array.astype(np.float64) * factor


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = as_ref(inputs[0], "the input A")
    b = as_weights(inputs[1], "the input B")
    if x.rank != 2 or b.ndim != 2:
        raise ShapeError(f"A has shape {x.shape}, B {b.shape}", need="two axes each")
    if node.integer("transA", 0):
        x = build.rearrange(x, x.shape[::-1], perm=(1, 0), y=build.fresh("transposed"))
    w = b if node.integer("transB", 0) else b.T
    if w.shape[1] != x.shape[1] or not w.size:
        raise ShapeError(f"A has {x.shape[1]} columns, B {w.shape[1]} rows", need="equal sizes, 1 or more")
    build.budget.take(w.shape, build.program.element.bytes, "the weights")
    w = np.ascontiguousarray(_scale(w, node.number("alpha", 1.0)))
    shape = (x.shape[0], w.shape[0])
    c, beta = inputs[2], node.number("beta", 1.0)
    if c is None:
        return build.add(DenseStep(x.name, build.out(), w), shape)
    if broadcast(shape, shape_of(c, "the input C")) != shape:
        raise ShapeError(f"C of shape {shape_of(c, 'C')} does not broadcast to {shape}", need="C no larger than A @ B")
    if not isinstance(c, Ref):
        bias = _scale(as_weights(c, "the input C"), beta)
        if bias.ndim < 2 or bias.shape[0] == 1:
            spread = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (shape[1],)))
            return build.add(DenseStep(x.name, build.out(), w, spread), shape)
        product = build.add(DenseStep(x.name, build.fresh("product"), w), shape)
        return build.map(product, PostOp("add", bias))
    product = build.add(DenseStep(x.name, build.fresh("product"), w), shape)
    if beta != 1.0:
        c = build.map(c, PostOp("mul", scalar(beta)), y=build.fresh("scaled"))
    return combine(product, c, "add", build)


register("Gemm", lower=_lower, since=6)
