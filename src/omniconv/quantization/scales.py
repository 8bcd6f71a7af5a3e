r"""Scales and zero points: real numbers as integers of 8 bits, ``x = s (q - z)``.

Activations are ``uint8`` with one scale and zero point a tensor: ``s = (high - low) / 255``, ``z = round(-low / s)``,
so that 0 is an integer exactly. Weights are ``int8`` with ``z = 0`` and a scale a channel (or one for all): ``s =
max|w| / 127``, or ``/ 63`` with ``reduce_range``, for runtimes whose multiply-adds of bytes saturate (``pmaddubsw``
on x86 without VNNI); Omniconv's do not. Biases are ``int32`` with ``s = s_x s_w``. Where a bias would not fit, the
scale of its channel's weights grows.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.graph.nodes import AnyArray
from omniconv.records import dataclass

LEAST: Final = float(np.finfo(np.float32).tiny)
"""No scale is smaller: below, floats lose digits."""
LARGEST_BIAS: Final = 2**30
"""A bias takes at most half of the accumulator."""
ACCUMULATOR: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Affine:
    """``x = scale (q - zero)`` with ``q`` from 0 to 255; ``scale`` is a float32."""

    scale: float
    zero: int

    @property
    def low(self) -> float:
        """The smallest number."""
        return -self.zero * self.scale

    @property
    def high(self) -> float:
        """The largest number."""
        return (255 - self.zero) * self.scale

    def round(self, x: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The integers of an array, halves to even."""
        q = np.rint(np.asarray(x, np.float32) / np.float32(self.scale)) + self.zero
        return np.asarray(np.clip(q, 0, 255), np.uint8)


def find_affine(low: float, high: float) -> Affine:
    """The scale and zero point of a range, which is widened to hold 0; a tensor of zeros has the scale 1.

    Example:
        >>> find_affine(-1.0, 1.55)
        Affine(scale=0.009999999776482582, zero=100)
        >>> find_affine(0.0, 0.0)
        Affine(scale=1.0, zero=0)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Affine(1.0, 0)
    scale = np.float32(max((high - low) / 255, LEAST))
    if low == 0 and float(scale) * 255 > high and scale > LEAST:
        # Then a runtime may drop a clip at `high`, as nothing beyond it is represented.
        scale = np.nextafter(scale, np.float32(0))
    return Affine(float(scale), min(max(round(-low / float(scale)), 0), 255))


@dataclass(frozen=True, slots=True, eq=False)
class WeightCode:
    """Weights as integers.

    Attributes:
        integers: int8, in the shape of the weights.
        scales: float32, one for each channel of ``axis``, or a scalar.
        axis: of the channels; ``None`` for one scale.
    """

    integers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    axis: int | None

    @property
    def floats(self) -> npt.NDArray[np.float32]:
        """What the integers stand for."""
        return np.asarray(self.integers.astype(np.float32) * self.wide, np.float32)

    @property
    def wide(self) -> npt.NDArray[np.float32]:
        """The scales in a form that broadcasts with the integers."""
        if self.axis is None:
            return self.scales
        return self.scales.reshape([-1 if n == self.axis else 1 for n in range(self.integers.ndim)])


def quantize_weights(
    weights: AnyArray, axis: int | None, *, reduce_range: bool = False, least: AnyArray | float = 0.0
) -> WeightCode:
    """Weights as integers; channels of zeros have the largest scale of the others, or 1.

    Args:
        weights: float32.
        axis: of channels with scales of their own; ``None`` for one scale.
        reduce_range: 7 bits, -63 to 63.
        least: no scale is smaller, for each channel or all.
    """
    largest = 63 if reduce_range else 127
    others = None if axis is None else tuple(n for n in range(weights.ndim) if n != axis)
    top = np.abs(weights).max(axis=others).astype(np.float64) if weights.size else np.zeros(())
    scales = np.maximum(top / largest, np.maximum(LEAST, least))
    widest = float(scales[top > 0].max()) if (top > 0).any() else 1.0
    scales = np.where(top > 0, scales, np.maximum(widest, least)).astype(np.float32)
    code = WeightCode(np.zeros(weights.shape, np.int8), scales, axis)
    integers = np.clip(np.rint(weights / code.wide), -largest, largest).astype(np.int8)
    return WeightCode(integers, scales, axis)


def find_least_scales(bias: AnyArray | None, input_scale: float) -> AnyArray | float:
    """The weights' scales below which a channel's bias would not fit: ``|b| / (s_x 2^30)``."""
    if bias is None:
        return 0.0
    return np.asarray(np.abs(bias.astype(np.float64)) / (input_scale * LARGEST_BIAS))


def quantize_bias(bias: AnyArray, input_scale: float, scales: AnyArray) -> tuple[AnyArray, AnyArray] | None:
    """A bias as int32, and its scales; ``None`` where these are no usual float32, or it does not fit."""
    product = (np.float32(input_scale) * np.broadcast_to(scales, bias.shape)).astype(np.float32)
    if not (np.isfinite(product).all() and (product >= LEAST).all()):
        return None
    integers = np.rint(bias.astype(np.float64) / product.astype(np.float64))
    if np.abs(integers).max(initial=0) > ACCUMULATOR:
        return None
    return integers.astype(np.int32), product


def find_largest_sum(
    integers: npt.NDArray[np.int8], sum_axes: tuple[int, ...], zero: int, bias: AnyArray | None
) -> int:
    """The largest magnitude that an accumulator can reach, whatever comes in.

    Every product ``w (q - z)`` lies between ``-w z`` and ``w (255 - z)``; also without the zero point, as some runtimes
    sum, between 0 and ``255 w``.
    """
    wide = integers.astype(np.int64)
    positive = np.where(wide > 0, wide, 0).sum(axis=sum_axes)
    negative = np.where(wide < 0, wide, 0).sum(axis=sum_axes)
    offset: Any = 0 if bias is None else bias.astype(np.int64)
    ends = (
        positive * (255 - zero) - negative * zero,
        negative * (255 - zero) - positive * zero,
        positive * 255,
        negative * 255,
    )
    return max(int(max(np.abs(end).max(initial=0), np.abs(end + offset).max(initial=0))) for end in ends)


def is_usual(value: float) -> bool:
    """Whether a product of scales is a float32 with all its digits."""
    return math.isfinite(value) and LEAST <= value <= float(np.finfo(np.float32).max)
