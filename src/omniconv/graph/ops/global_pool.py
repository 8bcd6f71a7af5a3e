"""GlobalAveragePool and GlobalMaxPool: all spatial axes to size 1."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.program.steps import ReduceStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    op = "max" if node.op == "GlobalMaxPool" else "mean"
    return build.add(ReduceStep(x.name, build.out(), op), (*x.shape[:2], *(1,) * (x.rank - 2)))


register("GlobalAveragePool", lower=_lower, open_sizes=True)
register("GlobalMaxPool", lower=_lower, open_sizes=True)
