"""AveragePool: the mean over the positions inside the input, or with ``count_include_pad`` inside the padded input."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._pool import lower_pool


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    return lower_pool(node, x, "mean", bool(node.integer("count_include_pad", 0)), build)


register("AveragePool", lower=_lower, open_sizes=True)
