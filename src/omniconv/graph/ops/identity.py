"""Identity, and Dropout as it is at inference: the value itself, and a mask that keeps everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, as_scalar, shape_of
from omniconv.graph.operator import register


def _lower_identity(_node: Node, inputs: Operands, _build: Builder) -> Operand:
    return inputs[0]


def _lower_dropout(node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    if node.version < 7 and not node.integer("is_test", 0):
        raise UnsupportedError("Dropout of opset 6 in training mode", need="is_test=1")
    training = len(inputs) > 2 and inputs[2] is not None and as_constant(inputs[2], "the input training_mode").any()
    if training and (inputs[1] is None or as_scalar(inputs[1], "the input ratio")):
        raise UnsupportedError(
            "Dropout in training mode", need="training_mode=false or ratio=0", fix="model.eval() before the export"
        )
    kept = np.array(True, build.given.dtype if node.version < 10 else np.bool_)
    return (inputs[0], np.broadcast_to(kept, shape_of(inputs[0], "the input data")))


def _fold(_node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    return as_constant(arrays[0], "the input")


register("Identity", lower=_lower_identity, fold=_fold, truths=True, open_sizes=True)
register("Dropout", lower=_lower_dropout, since=6)
