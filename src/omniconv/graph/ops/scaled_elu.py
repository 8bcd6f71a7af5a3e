"""Selu and Celu, written with ``elu(x, a) = x if x >= 0 else a * (exp(x) - 1)``.

``selu(x) = gamma * elu(x, alpha)`` and ``celu(x) = max(x, alpha * elu(min(x, 0) / alpha, 1))``. Below zero the second
argument is the larger one, since ``exp(t) - 1 >= t``; from zero on it is 0, and x never passes through a division that
it could overflow in.
"""

from __future__ import annotations

from omniconv.compiler.program import PostOp
from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_ref
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.spec import Activation


def _lower_selu(node: Node, inputs: Operands, build: Builder) -> Operand:
    alpha, gamma = node.number("alpha", 1.67326319217681884765625), node.number("gamma", 1.05070102214813232421875)
    elu = PostOp("act", activation=Activation.of("elu", alpha=alpha))
    return build.map(as_ref(inputs[0], "the input X"), elu, PostOp("mul", scalar(gamma)))


def _lower_celu(node: Node, inputs: Operands, build: Builder) -> Operand:
    alpha = node.number("alpha", 1.0)
    if not alpha > 0:
        raise UnsupportedError(f"Celu with alpha={alpha}", need="alpha > 0")
    x = as_ref(inputs[0], "the input X")
    below = PostOp("min", scalar(0.0))
    elu = PostOp("act", activation=Activation.of("elu"))
    return build.map(
        x, below, PostOp("div", scalar(alpha)), elu, PostOp("mul", scalar(alpha)), PostOp("max", x.name)
    )  # fmt: skip


register("Selu", lower=_lower_selu)
register("Celu", lower=_lower_celu, since=12)
