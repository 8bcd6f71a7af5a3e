"""MaxPool without its optional indices."""

from __future__ import annotations

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._pool import lower_pool


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    if any(node.outputs[1:]):
        raise UnsupportedError("MaxPool with indices", need="one output")
    return lower_pool(node, x, "max", False, build)


register("MaxPool", lower=_lower, open_sizes=True)
