"""LpNormalization, MeanVarianceNormalization and Hardmax: each value beside the others along some axes.

LpNormalization is ``x / |x|_p`` along one axis, p = 1 or 2, and 0 where the norm is 0. MeanVarianceNormalization is
``(x - mean) / (sqrt(variance) + 1e-9)``; the variance is the mean of the squared differences. Hardmax is 1 at the first
of the largest along an axis, else 0.
"""

from __future__ import annotations

import math

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, normalise_axes, normalise_axis
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops._standardise import ROOT
from omniconv.graph.ops.reduce import reduce_axes
from omniconv.program.steps import CumSumStep, PostOp
from omniconv.spec import Activation


def _lower_norm(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=1)
    axis, p = normalise_axis(node.integer("axis", -1), x.rank), node.integer("p", 2)
    if p not in (1, 2):
        raise ModelError(f"p={p}", need="1 or 2")
    part = PostOp("mul", x.name) if p == 2 else PostOp("act", activation=Activation.of("abs"))
    parts = build.map(x, part, y=build.fresh("parts"))
    total = reduce_axes(parts, "sum", (axis,), build, build.fresh("total"))
    norm = build.map(total, ROOT, y=build.fresh("norm")) if p == 2 else total
    nothing = build.decide(norm, PostOp("equal", scalar(0.0)), y=build.fresh("nothing"))
    return build.map(x, PostOp("div", norm.name), PostOp("drop", nothing.name), PostOp("add", scalar(0.0)))


def _lower_standard(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    given = node.integers("axes")
    axes = tuple(sorted(normalise_axes((0, 2, 3) if given is None else given, x.rank)))
    mean = reduce_axes(x, "mean", axes, build, build.fresh("mean"))
    centred = build.map(x, PostOp("sub", mean.name), y=build.fresh("centred"))
    squares = build.map(centred, PostOp("mul", centred.name), y=build.fresh("squares"))
    variance = reduce_axes(squares, "mean", axes, build, build.fresh("variance"))
    deviation = build.map(variance, ROOT, PostOp("add", scalar(1e-9)), y=build.fresh("deviation"))
    return build.map(centred, PostOp("div", deviation.name))


def _lower_hardmax(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=1)
    old = node.version < 13
    axis = normalise_axis(node.integer("axis", min(1, x.rank - 1) if old else -1), x.rank)
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])) if old else x.shape
    axis = 1 if old else axis
    flat = build.rearrange(x, shape, y=build.fresh("flat"))
    top = reduce_axes(flat, "max", (axis,), build, build.fresh("top"))
    # A NaN is the largest, and equals nothing: where neither is below the other.
    high = build.map(flat, PostOp("less", top.name), PostOp("rsub", scalar(1.0)), y=build.fresh("high"))
    before = build.add(CumSumStep(high.name, build.fresh("before"), axis, exclusive=True), shape)
    first = build.map(high, PostOp("drop", before.name), PostOp("add", scalar(0.0)), y=build.fresh("first"))
    return build.rearrange(first, x.shape)


register("LpNormalization", lower=_lower_norm)
register("MeanVarianceNormalization", lower=_lower_standard, since=9)
register("Hardmax", lower=_lower_hardmax)
