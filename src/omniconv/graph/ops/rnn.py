"""RNN: a plain recurrent layer, in one direction or both."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._recurrence import lower_recurrence


def _lower(node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    return lower_recurrence(node, inputs, build, "rnn")


register("RNN", lower=_lower, since=7)
