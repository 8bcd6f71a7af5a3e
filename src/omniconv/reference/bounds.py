r"""How far a correct implementation may be from the reference.

For one convolution with :math:`K` products in each sum, any order of summation in arithmetic of unit roundoff :math:`u`
(:math:`2^{-24}` for float32) obeys

.. math:: |\hat y - y| \le \gamma_{K + 1} \Big(|b| + \sum |x| |w|\Big), \qquad \gamma_n = \frac{n u}{1 - n u} .

Along a chain the bound is carried from step to step (running error analysis): an error :math:`e` of the input becomes
:math:`\sum e |w|` after a convolution and at most :math:`L e` after an activation whose slope is at most :math:`L`
nearby.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.integers import ceil_div
from omniconv.reference.activation import Float64, evaluate_activation
from omniconv.reference.evaluate import Pair, run_conv, run_rearrangement, run_step, split_pairs
from omniconv.reference.weights import Weights, check_input, check_weights
from omniconv.spec import Activation, Chain, Conv, Resize, Spec, Split

SLOPES: Final[dict[str, float]] = {
    "relu": 1.0,
    "relu6": 1.0,
    "clip": 1.0,
    "sigmoid": 0.25,
    "silu": 1.1,
    "hard_swish": 1.5,
    "tanh": 1.0,
    "abs": 1.0,
    "neg": 1.0,
    "gelu": 1.13,
    "gelu_tanh": 1.13,
}
"""Largest slope of the activations that have one without looking at parameters or values."""

ACTIVATION_ROUNDINGS: Final = 32
"""Roundings allowed for one activation, relative to the larger of input and output (its exponential included)."""


def count_products(spec: Conv) -> int:
    """Products in the longest sum of one output: ``in / groups * taps``, transposed ceil(k / s) taps an axis."""
    taps = math.prod(
        ceil_div(k, s) if spec.transposed and d == 1 else k
        for k, s, d in zip(spec.kernel_size, spec.stride, spec.dilation, strict=True)
    )
    return spec.in_channels // spec.groups * taps


def gamma(terms: int, unit_roundoff: float) -> float:
    """``n u / (1 - n u)``."""
    return terms * unit_roundoff / (1.0 - terms * unit_roundoff)


def accumulate_bound(spec: Conv, x: object, weights: Weights) -> Float64:
    """``|b| + sum |x| |w|`` of every output of one convolution: the scale of its rounding errors.

    Example:
        >>> x, w, b = np.array([[[1.0, -2.0]]]), np.array([[[-3.0]]]), np.array([-4.0])
        >>> accumulate_bound(Conv.of(1, 1, 1, dims=1), x, (w, b)).tolist()
        [[[7.0, 10.0]]]
    """
    array = check_input(spec, x)
    [(w, b)] = check_weights(spec, weights)
    return _sum_magnitudes(spec, np.abs(array.astype(np.float64)), (w, b))


def error_bound(spec: Spec, x: object, weights: Weights, unit_roundoff: float = 2.0**-24) -> Float64:
    """Largest error each output may have in arithmetic of ``unit_roundoff``, any order of summation, fused or not.

    Args:
        spec: a `Conv` or a `Chain`.
        x: the input, exact.
        weights: exact weights; see :func:`omniconv.reference.check_weights`.
        unit_roundoff: half the distance of neighbouring numbers at 1; the default is that of float32.

    Raises:
        UnsupportedError: an activation whose slope has no bound at the values that occur.
    """
    value = check_input(spec, x).astype(np.float64)
    pairs = check_weights(spec, weights)
    error = np.zeros(value.shape)
    for step, shares in split_pairs(spec if isinstance(spec, Chain) else Chain((spec,)), pairs):
        produced = run_step(step, value, shares)
        match step:
            case Conv():
                error = _conv_error(step, value, error, shares[0], unit_roundoff)
            case Split():
                parts = zip(step.slices(), shares, strict=True)
                error = np.concatenate(
                    [_conv_error(c, value[:, s], error[:, s], pair, unit_roundoff) for (c, s, _), pair in parts], axis=1
                )
            case Activation():
                error = _activation_error(step, value, error, produced, unit_roundoff)
            case Resize(mode="linear"):
                magnitude = run_rearrangement(step, np.abs(value) + error)
                error = run_rearrangement(step, error) + gamma(4 * (value.ndim - 2), unit_roundoff) * magnitude
            case _:
                error = run_rearrangement(step, error)
        value = produced
    return error


def _sum_magnitudes(spec: Conv, x: Float64, pair: Pair) -> Float64:
    w, b = pair
    return run_conv(spec, x, np.abs(w.astype(np.float64)), None if b is None else np.abs(b.astype(np.float64)))


def _conv_error(spec: Conv, value: Float64, error: Float64, pair: Pair, unit_roundoff: float) -> Float64:
    rounding = gamma(count_products(spec) + 1, unit_roundoff) * _sum_magnitudes(spec, np.abs(value) + error, pair)
    return rounding + _sum_magnitudes(spec, error, (pair[0], None))


def _activation_error(
    step: Activation, value: Float64, error: Float64, produced: Float64, unit_roundoff: float
) -> Float64:
    rounding = gamma(ACTIVATION_ROUNDINGS, unit_roundoff) * (np.abs(value) + error + np.abs(produced))
    if step.name in SLOPES:
        return rounding + SLOPES[step.name] * error
    if step.name in {"leaky_relu", "elu"}:
        return rounding + max(1.0, abs(step["alpha"])) * error
    if step.name == "hard_sigmoid":
        return rounding + abs(step["alpha"]) * error
    if step.name == "exp":  # the slope at the upper end of the interval
        return (rounding + error) * evaluate_activation(step, value + error)
    raise UnsupportedError(f"error bound of activation {step.name}", need="a bounded slope")
