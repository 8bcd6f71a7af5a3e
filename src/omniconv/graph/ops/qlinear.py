"""QLinearConv and QLinearMatMul: layers of integers, written as such; weights are constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._quantised import add_conv, add_dense, need_float32, read_layer


def _lower_conv(node: Node, inputs: Operands, build: Builder) -> Operand:
    need_float32(node, build)
    return add_conv(node, read_layer(node, inputs, 0), build)


def _lower_matmul(node: Node, inputs: Operands, build: Builder) -> Operand:
    need_float32(node, build)
    layer = read_layer(node, inputs, 1)
    if layer.w.ndim != 2:
        raise UnsupportedError(f"QLinearMatMul with weights of shape {layer.w.shape}", need="a matrix")
    return add_dense(replace(layer, w=np.ascontiguousarray(layer.w.T)), build)


register("QLinearConv", lower=_lower_conv, since=10, open_sizes=True)
register("QLinearMatMul", lower=_lower_matmul, since=10, open_sizes=True)
