"""The functions of one variable that a program computes beside the activations of layers: formulas, and float64.

A `PostOp` names one of them as its operation. What they need, and NumPy lacks, stands here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.records import dataclass

Float64: TypeAlias = npt.NDArray[np.float64]


def erf(x: Float64) -> Float64:
    """The error function in float64, elementwise.

    Example:
        >>> float(erf(np.array([1.0])).round(4)[0])
        0.8427
    """
    flat = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)
    return flat.reshape(x.shape)


def _softplus(x: Float64) -> Float64:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _mish(x: Float64) -> Float64:
    return np.asarray(x * np.tanh(_softplus(x)))


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its formula, and its values in float64."""

    formula: str
    compute: Callable[[Any], Any]

    def evaluate(self, x: Float64) -> Float64:
        """Its values, without warnings where it is infinite or has none.

        Example:
            >>> FUNCTIONS["sign"].evaluate(np.array([-2.0, 0.0, 3.0])).tolist()
            [-1.0, 0.0, 1.0]
        """
        with np.errstate(all="ignore"):
            return np.asarray(self.compute(x), np.float64)


FUNCTIONS: Final = {
    "log": Function("ln x", np.log),
    "erf": Function("erf x", erf),
    "sign": Function("1 above 0, -1 below, else x", np.sign),
    "floor": Function("the largest whole number up to x", np.floor),
    "ceil": Function("the smallest whole number from x on", np.ceil),
    "round": Function("the nearest whole number, an even one halfway", np.rint),
    "sin": Function("sin x", np.sin),
    "cos": Function("cos x", np.cos),
    "tan": Function("tan x", np.tan),
    "asin": Function("asin x", np.arcsin),
    "acos": Function("acos x", np.arccos),
    "atan": Function("atan x", np.arctan),
    "sinh": Function("(exp(x) - exp(-x)) / 2", np.sinh),
    "cosh": Function("(exp(x) + exp(-x)) / 2", np.cosh),
    "asinh": Function("the inverse of sinh", np.arcsinh),
    "acosh": Function("the inverse of cosh, from 1 on", np.arccosh),
    "atanh": Function("the inverse of tanh, between -1 and 1", np.arctanh),
    "softplus": Function("ln(1 + exp(x))", _softplus),
    "softsign": Function("x / (1 + |x|)", lambda x: x / (1.0 + np.abs(x))),
    "mish": Function("x tanh(softplus(x))", _mish),
}
"""Each function by name."""
