"""Swish (opset 24): ``x * sigmoid(alpha * x)``; with alpha = 1 the activation ``silu``."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import PostOp
from omniconv.spec import Activation


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X")
    alpha = node.number("alpha", 1.0)
    if alpha == 1.0:
        return build.activate(x, "silu")
    gate = PostOp("act", activation=Activation.of("sigmoid"))
    return build.map(x, PostOp("mul", scalar(alpha)), gate, PostOp("mul", x.name))


register("Swish", lower=_lower, open_sizes=True)
