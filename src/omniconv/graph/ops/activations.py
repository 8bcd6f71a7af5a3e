"""The unary activations: one table from ONNX's name to an `Activation`; constants are folded with the same formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.program.steps import PostOp
from omniconv.reference.activation import evaluate_activation
from omniconv.spec import Activation


def _gelu(node: Node) -> Activation:
    name = node.text("approximate", "none")
    if name not in ("none", "tanh"):
        raise ModelError(f"approximate={name[:40]!r}", need="none or tanh")
    return Activation.of("gelu_tanh" if name == "tanh" else "gelu")


TABLE: Final[dict[str, Callable[[Node], Activation]]] = {
    "Relu": lambda _: Activation.of("relu"),
    "LeakyRelu": lambda node: Activation.of("leaky_relu", alpha=node.number("alpha", 0.01)),
    "Elu": lambda node: Activation.of("elu", alpha=node.number("alpha", 1.0)),
    "Sigmoid": lambda _: Activation.of("sigmoid"),
    "HardSigmoid": lambda node: Activation.of(
        "hard_sigmoid", alpha=node.number("alpha", 0.2), beta=node.number("beta", 0.5)
    ),
    "HardSwish": lambda _: Activation.of("hard_swish"),
    "Tanh": lambda _: Activation.of("tanh"),
    "Exp": lambda _: Activation.of("exp"),
    "Sqrt": lambda _: Activation.of("sqrt"),
    "Abs": lambda _: Activation.of("abs"),
    "Neg": lambda _: Activation.of("neg"),
    "Gelu": _gelu,
}


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    return build.map(build.value(inputs[0], "the input X"), PostOp("act", activation=TABLE[node.op](node)))


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    budget.take(x.shape, 8, "a constant")
    if x.dtype.kind in "iu":
        return np.asarray(np.abs(x) if node.op == "Abs" else -x if node.op == "Neg" else np.maximum(x, 0))
    return evaluate_activation(TABLE[node.op](node), x.astype(np.float64)).astype(x.dtype)


for _name in TABLE:
    register(_name, lower=_lower, fold=_fold, open_sizes=True)
