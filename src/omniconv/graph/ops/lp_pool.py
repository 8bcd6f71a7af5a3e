"""LpPool and GlobalLpPool: the p-th root of the sum of the p-th powers of what a window holds; padding counts as 0."""

from __future__ import annotations

import math

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops._pool import lower_pool
from omniconv.graph.ops._standardise import ROOT
from omniconv.graph.ops.reduce import reduce_axes
from omniconv.program.steps import PostOp
from omniconv.spec import Activation

_ABS = PostOp("act", activation=Activation.of("abs"))


def _raise(node: Node, x: Ref, build: Builder) -> tuple[Ref, tuple[PostOp, ...]]:
    """``|x|^p``, and what takes the root."""
    p = node.integer("p", 2)
    if p < 1:
        raise ModelError(f"p={p}", need="1 or more")
    y = build.fresh("powers")
    if p == 2:
        return build.map(x, PostOp("mul", x.name), y=y), (ROOT,)
    if p == 1:
        return build.map(x, _ABS, y=y), ()
    return build.map(x, _ABS, PostOp("pow", scalar(p)), y=y), (PostOp("pow", scalar(1.0 / p)),)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    powers, root = _raise(node, x, build)
    means = lower_pool(node, powers, "mean", True, build, y=build.fresh("means"))
    kernel = node.integers("kernel_shape") or ()
    if node.integer("ceil_mode", 0):
        raise UnsupportedError("LpPool with ceil_mode=1", need="ceil_mode=0")
    # With its padding counted, every window is divided by the same number.
    return build.map(means, PostOp("mul", scalar(math.prod(kernel))), *root)


def _lower_global(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    powers, root = _raise(node, x, build)
    total = reduce_axes(powers, "sum", tuple(range(2, x.rank)), build, build.fresh("total"))
    return build.map(total, *root)


register("LpPool", lower=_lower, since=2)
register("GlobalLpPool", lower=_lower_global, since=2)
