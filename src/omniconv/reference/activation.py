"""The formulas of :mod:`omniconv.spec.activation`, evaluated in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.spec import Activation

Float64: TypeAlias = npt.NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Float64) -> Float64:
    # Never a large exponential: exp(-|x|) <= 1 on both sides.
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small), np.float64)


def _clip(x: Float64, low: float, high: float) -> Float64:
    return np.minimum(np.maximum(x, low), high)


EVALUATE: Final[dict[str, Callable[[Float64, Activation], Float64]]] = {
    "relu": lambda x, _: np.maximum(x, 0.0),
    "relu6": lambda x, _: _clip(x, 0.0, 6.0),
    "clip": lambda x, f: _clip(x, f["lo"], f["hi"]),
    "leaky_relu": lambda x, f: np.where(x >= 0, x, f["alpha"] * x),
    "elu": lambda x, f: np.where(x >= 0, x, f["alpha"] * np.expm1(np.minimum(x, 0.0))),
    "sigmoid": lambda x, _: _sigmoid(x),
    "silu": lambda x, _: x * _sigmoid(x),
    "hard_sigmoid": lambda x, f: _clip(f["alpha"] * x + f["beta"], 0.0, 1.0),
    "hard_swish": lambda x, _: x * _clip(x / 6.0 + 0.5, 0.0, 1.0),
    "tanh": lambda x, _: np.tanh(x),
    "exp": lambda x, _: np.exp(x),
    "sqrt": lambda x, _: np.sqrt(x),
    "abs": lambda x, _: np.abs(x),
    "neg": lambda x, _: -x,
    # 1 + erf(z) = erfc(-z) and 1 + tanh(z) = 2 sigmoid(2 z), which keep their digits far below zero.
    "gelu": lambda x, _: x / 2.0 * _erfc(-x / math.sqrt(2.0)),
    "gelu_tanh": lambda x, _: x * _sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)),
}
"""Name -> function of (x, activation). One entry for each key of `omniconv.spec.activation.FORMULAS`."""


def evaluate_activation(activation: Activation, x: Float64) -> Float64:
    """``f(x)`` in float64. Not-a-number and infinities follow IEEE 754, without warnings.

    Example:
        >>> evaluate_activation(Activation("relu6"), np.array([-1.0, 2.0, 9.0])).tolist()
        [0.0, 2.0, 6.0]
    """
    with np.errstate(all="ignore"):
        return EVALUATE[activation.name](x, activation)
