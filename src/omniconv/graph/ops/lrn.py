"""LRN: local response normalisation across channels."""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.program.steps import LrnStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    size = node.integer("size")
    if not 1 <= size <= 1 << 20:
        raise ModelError(f"size={size}", need="a positive number of channels")
    alpha, beta, bias = node.number("alpha", 1e-4), node.number("beta", 0.75), node.number("bias", 1.0)
    return build.add(LrnStep(x.name, build.out(), size, alpha, beta, bias), x.shape)


register("LRN", lower=_lower, open_sizes=True)
