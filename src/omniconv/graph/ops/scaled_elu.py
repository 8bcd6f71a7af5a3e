"""Selu and Celu, written with ``elu(x, a) = x if x >= 0 else a * (exp(x) - 1)``.

``selu(x) = gamma * elu(x, alpha)`` and ``celu(x) = alpha * elu(x / alpha, 1)``.
"""

from __future__ import annotations

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import PostOp
from omniconv.spec import Activation


def _lower_selu(node: Node, inputs: Operands, build: Builder) -> Operand:
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    elu = PostOp("act", activation=Activation.of("elu", alpha=alpha))
    return build.map(build.value(inputs[0], "the input X"), elu, PostOp("mul", scalar(gamma)))


def _lower_celu(node: Node, inputs: Operands, build: Builder) -> Operand:
    alpha = node.number("alpha", 1.0)
    if not alpha > 0:
        raise UnsupportedError(f"Celu with alpha={alpha}", need="alpha > 0")
    elu = PostOp("act", activation=Activation.of("elu"))
    return build.map(
        build.value(inputs[0], "the input X"), PostOp("div", scalar(alpha)), elu, PostOp("mul", scalar(alpha))
    )


register("Selu", lower=_lower_selu)
register("Celu", lower=_lower_celu, since=12)
