"""What a `PostOp` computes, in float64: for passes that have to know values."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.functions import FUNCTIONS
from omniconv.program.steps.post import ARITHMETIC, PostOp
from omniconv.reference.activation import evaluate_activation

Float64: TypeAlias = npt.NDArray[np.float64]

EVALUATED: Final = frozenset({"act", *ARITHMETIC, *FUNCTIONS})
"""The operations that :func:`evaluate_op` knows."""


def evaluate_op(op: PostOp, v: Float64, a: Float64) -> Float64:
    """The running value ``v`` after an operation; ``a`` is its operand, where it has one.

    Raises:
        NotImplementedError: an operation that is not in :data:`EVALUATED`.
    """
    if op.op in FUNCTIONS:
        return FUNCTIONS[op.op].evaluate(v)
    match op.op:
        case "act":
            assert op.activation is not None
            return evaluate_activation(op.activation, v)
        case "add":
            return v + a
        case "sub":
            return v - a
        case "rsub":
            return a - v
        case "mul":
            return v * a
        case "div":
            return v / a
        case "rdiv":
            return a / v
        case "max":
            return np.maximum(v, a)
        case "min":
            return np.minimum(v, a)
        case "prelu":
            return np.where(v >= 0, v, a * v)
    raise NotImplementedError(f"operation {op.op}")
