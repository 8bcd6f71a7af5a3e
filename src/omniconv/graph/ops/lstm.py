"""LSTM: long short-term memory, in one direction or both, with or without peepholes; weights are constants.

Of ``com.microsoft.DynamicQuantizeLSTM`` an LSTM is left that rounds its states (:mod:`omniconv.graph.contributed`).

``clip`` bounds the sums of the gates, and not the cell, as ONNX Runtime and OpenVINO have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.graph.builder import Builder
from omniconv.graph.contributed import ROUNDED
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._recurrence import lower_recurrence


def _lower(node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    return lower_recurrence(node, inputs, build, "lstm")


def _lower_rounded(node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    return lower_recurrence(node, inputs, build, "lstm", rounded=True)


register("LSTM", lower=_lower, since=7)
register("LSTM", lower=_lower_rounded, since=7, domain=ROUNDED)
