"""Identity, and Dropout as it is at inference: the value itself."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant
from omniconv.graph.operator import register


def _lower_identity(_node: Node, inputs: Operands, _build: Builder) -> Operand:
    return inputs[0]


def _lower_dropout(node: Node, inputs: Operands, _build: Builder) -> Sequence[Operand]:
    if any(node.outputs[1:]):
        raise UnsupportedError("Dropout with its mask", need="one output")
    if node.version < 7 and not node.integer("is_test", 0):
        raise UnsupportedError("Dropout of opset 6 in training mode", need="is_test=1")
    if len(inputs) > 2 and inputs[2] is not None and as_constant(inputs[2], "the input training_mode").any():
        raise UnsupportedError("Dropout in training mode", need="training_mode=false")
    return (inputs[0], None)


def _fold(_node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    return as_constant(arrays[0], "the input")


register("Identity", lower=_lower_identity, fold=_fold)
register("Dropout", lower=_lower_dropout, since=6)
