"""CumSum along a constant axis."""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_integers, normalise_axis
from omniconv.graph.operator import register
from omniconv.program.steps import CumSumStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input x", rank=1)
    axes = as_integers(inputs[1], "the input axis")
    if len(axes) != 1:
        raise ModelError(f"the input axis is {axes[:16]}", need="one integer")
    axis = normalise_axis(axes[0], x.rank)
    flags = {}
    for name in ("exclusive", "reverse"):
        flag = node.integer(name, 0)
        if flag not in (0, 1):
            raise ModelError(f"{name}={flag}", need="0 or 1")
        flags[name] = bool(flag)
    return build.add(CumSumStep(x.name, build.out(), axis, **flags), x.shape)


register("CumSum", lower=_lower, since=11)
