r"""Resampling of one axis: which inputs, with which weights, feed each output position.

This is the one place where coordinates become tables. Output position :math:`o` of an axis that is resized from
:math:`n` to :math:`m` positions by the scale :math:`s` lies at the input coordinate

- half_pixel, and pytorch_half_pixel (0 where m = 1): :math:`(o + 1/2) / s - 1/2`
- half_pixel_symmetric: half_pixel plus :math:`n/2 \, (1 - m / (s n))`
- asymmetric: :math:`o / s`
- tf_half_pixel_for_nn: :math:`(o + 1/2) / s`
- align_corners: :math:`o (n - 1) / (m - 1)`, 0 where m = 1
- tf_crop_and_resize: :math:`(a + o (b - a) / (m - 1)) (n - 1)` for a part of the axis from a to b,
  :math:`(a + b) (n - 1) / 2` where m = 1
- and at :math:`o`, whatever the rule but the last, where s = 1, or with ``antialias`` n = m: that axis is not resized.

Then it takes the nearest position, or 2 (linear) or 4 (cubic) neighbours, more where ``antialias`` widens the filter of
a reduction. Neighbours outside are the border, or with ``exclude_outside`` left out. A part of an axis may reach over
its ends: outputs whose coordinate lies there have no inputs, `count_outside`.

A nearest position is a decision, which another rounding of the coordinate would change. For files it is therefore
decided as the runtimes decide it, on coordinates in float32 (``single``), with what is within `HALF` of halfway taken
for halfway. So is whether a coordinate of tf_crop_and_resize lies on the axis. Interpolation is continuous in the
coordinate: there a rounding of it is an error and nothing else, and coordinates are float64.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from omniconv.closing import Later
from omniconv.open_size import is_open
from omniconv.program.steps import Array
from omniconv.records import dataclass

Table: TypeAlias = tuple[npt.NDArray[np.int64], Array]
"""``(index, weight)``, each of shape ``(taps, output)``; weights in float64."""
Float64: TypeAlias = npt.NDArray[np.float64]

COORDINATES: Final = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
CROP: Final = "tf_crop_and_resize"
"""The rule that takes a part of the axis, or more than all of it."""
NEAREST: Final = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
EXACT: Final = 2**24
"""Integers up to here, and so their products as well, are float32's as they are."""
UNNAMED: Final = "ceil_when_shrinking"
"""The rounding of nearest before it had a name in the format: ceil where s < 1, else floor."""
TABLE_BYTES: Final = 64
"""What an entry of a table takes while tables are made and looked at [bytes]."""
HALF: Final = float(np.float32(1e-6))
"""How far from halfway between two positions still counts as halfway [positions]."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How coordinates and weights are computed.

    Attributes:
        mode: nearest, linear or cubic.
        coordinates: one of `COORDINATES`, or `CROP`.
        nearest: one of `NEAREST`, or `UNNAMED`.
        cubic_a: the parameter of the cubic convolution kernel.
        exclude_outside: whether neighbours outside are left out, the rest scaled up to a sum of one.
        antialias: whether the filter is widened by 1 / s where s < 1.
        single: whether coordinates are computed in float32.
    """

    mode: str = "nearest"
    coordinates: str = "asymmetric"
    nearest: str = "floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    single: bool = False


def scaled_size(size: int, scale: float, *, rounded: bool = False) -> int:
    """The size of an axis after resizing by a scale: the float32 product, cut off or rounded to the nearest."""
    if scale == int(scale) and int(scale) * size <= EXACT:
        return int(scale) * size
    return math.floor(float(np.float32(scale) * np.float32(size)) + (0.5 if rounded else 0.0))


def plan_axis(
    how: Sampling, size: int, output: int, scale: float | None = None, part: tuple[float, float] = (0.0, 1.0)
) -> Table:
    """The table of one axis.

    Args:
        how: how coordinates and weights are computed.
        size: input positions, n.
        output: output positions, m.
        scale: s; by default the ratio m / n, which float64 coordinates take as it is and float32 ones round.
        part: a and b of tf_crop_and_resize [lengths of the axis].
    """
    if scale is None and how.single:
        scale = float(np.float32(output) / np.float32(size))
    ratio = output / size if scale is None else scale
    x = _coordinates(how, size, output, scale, part)
    if how.mode == "nearest":
        index = np.clip(_round(how, x, ratio), 0, size - 1).astype(np.int64)[None]
        return index, np.ones(index.shape)
    if how.mode == "linear" and not how.antialias:
        x = np.clip(x, 0, size - 1)
    start, count = count_taps(how, ratio)
    position = np.floor(x) + np.arange(start, start + count, dtype=np.float64)[:, None]
    weight = _kernel(how, (position - x) * (min(ratio, 1.0) if how.antialias else 1.0))
    if how.exclude_outside:
        weight = np.where((position < 0) | (position > size - 1), 0.0, weight)
    if how.exclude_outside or how.antialias:
        total = weight.sum(0, keepdims=True)
        weight = weight / np.where(total == 0, 1.0, total)
    return np.clip(position, 0, size - 1).astype(np.int64), weight


def count_outside(how: Sampling, size: int, output: int, part: tuple[float, float]) -> tuple[int, int]:
    """How many of the first and of the last outputs lie outside the axis, with tf_crop_and_resize.

    Example:
        >>> count_outside(Sampling("linear", "tf_crop_and_resize"), 5, 6, (-0.5, 2.0))
        (1, 2)
    """
    x = _coordinates(how, size, output, None, part)
    inside = np.flatnonzero((x >= 0) & (x <= size - 1))
    return (int(inside[0]), output - 1 - int(inside[-1])) if inside.size else (output, 0)


def plan_open_axis(how: Sampling, size: int, output: int, scale: float | None = None) -> Table:
    """The same, also for open sizes: the table of these is made when they are known."""
    if not (is_open(size) or is_open(output)):
        return plan_axis(how, size, output, scale)
    # Without a scale it is the ratio of the sizes, which the number of taps may depend on.
    taps = count_taps(how, float(output) / float(size) if scale is None else scale)[1]
    whole = Later((taps, output), plan_axis, (how, size, output, scale))
    return cast("Table", (whole.then(itemgetter(0)), whole.then(itemgetter(1))))


def count_taps(how: Sampling, scale: float) -> tuple[int, int]:
    """First offset and number of neighbours of each output."""
    if how.mode == "nearest":
        return 0, 1
    reach = 1 if how.mode == "linear" else 2
    wide = reach / min(scale, 1.0) if how.antialias else float(reach)
    start = math.floor(-wide) + 1
    return start, 2 - 2 * start if wide > reach else 2 * reach


def _coordinates(
    how: Sampling, size: int, output: int, scale: float | None, part: tuple[float, float] = (0.0, 1.0)
) -> Float64:
    crop = how.coordinates == CROP
    real: Any = np.float32 if how.single or crop else np.float64
    o, n, m = np.arange(output, dtype=real), real(size), real(output)
    # 1 / s as a ratio: one of sizes divides exactly where it multiplies first.
    if crop:
        a, b = map(real, part)
        x = o * (b - a) * (n - 1) / (m - 1) + a * (n - 1) if output > 1 else (o + (a + b)) * (n - 1) / real(2)
        return np.asarray(x, np.float64)
    times, over = (n, m) if scale is None else (real(1), real(scale))
    if times == over or (how.antialias and output == size):
        return np.asarray(o, np.float64)
    match how.coordinates:
        case "align_corners":
            x = o * (n - 1) / (m - 1) if output > 1 else o
        case "asymmetric":
            x = o * times / over
        case "tf_half_pixel_for_nn":
            x = (o + real(0.5)) * times / over
        case "half_pixel_symmetric":
            length = m if scale is None else over * n
            shift = n / real(2) * (real(1) - m / length)
            # The runtimes add in float64 here, and round once.
            x = (shift + (o.astype(np.float64) + 0.5) * float(times) / float(over) - 0.5).astype(real)
        case "pytorch_half_pixel" if output == 1:
            x = o
        case _:
            x = (o + real(0.5)) * times / over - real(0.5)
    return np.asarray(x, np.float64)


def _round(how: Sampling, x: Float64, scale: float) -> Float64:
    """The nearest position."""
    rule = how.nearest
    if rule == UNNAMED:
        rule = "ceil" if scale < 1 else "floor"
    below = np.floor(x)
    match rule:
        case "floor":
            return below
        case "ceil":
            return np.ceil(x)
    half = np.abs(x - below - 0.5) <= HALF
    up = half if rule == "round_prefer_ceil" else np.zeros_like(half)
    return below + np.where(half, up, x - below > 0.5)


def _kernel(how: Sampling, t: Float64) -> Float64:
    """The filter at distance ``t``: a triangle, or the cubic convolution kernel."""
    t = np.abs(t)
    if how.mode == "linear":
        return np.maximum(1.0 - t, 0.0)
    a = how.cubic_a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
