r"""Resize and Upsample: separable resampling, written out as tables of (input index, weight) for each spatial axis.

An output position :math:`o` of an axis maps to the input coordinate (scale :math:`s`, sizes :math:`n \to m`)

- half_pixel, pytorch_half_pixel (0 where m = 1): :math:`(o + 1/2) / s - 1/2`
- half_pixel_symmetric: half_pixel plus :math:`n/2 \, (1 - m / (s n))`
- asymmetric: :math:`o / s`; align_corners: :math:`o (n - 1) / (s n - 1)`; tf_half_pixel_for_nn: :math:`(o + 1/2) / s`

and then takes the nearest position, or 2 (linear) or 4 (cubic) neighbours, more where ``antialias`` widens the filter
of a reduction. Neighbours outside are the border, or with ``exclude_outside`` left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_integers, normalise_axes
from omniconv.graph.operator import register
from omniconv.program.steps import Array, ResizeStep
from omniconv.spec.conv import LIMIT

Float64: TypeAlias = npt.NDArray[np.float64]

COORDINATES: Final = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
)  # fmt: skip
NEAREST: Final = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
MAX_TAPS: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class Sampling:
    """How coordinates and weights are computed."""

    mode: str = "nearest"
    coordinates: str = "asymmetric"
    nearest: str = "floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def _coordinates(how: Sampling, size: int, output: int, scale: float, from_sizes: bool) -> Float64:
    o = np.arange(output, dtype=np.float64)
    # A scale that is a ratio of sizes divides exactly: multiply first.
    times, over = (float(size), float(output)) if from_sizes else (1.0, scale)
    match how.coordinates:
        case "align_corners":
            last = (output if from_sizes else scale * size) - 1
            return o * (size - 1) / last if last > 0 else o * 0.0
        case "asymmetric":
            return o * times / over
        case "tf_half_pixel_for_nn":
            return (o + 0.5) * times / over
        case "pytorch_half_pixel" if output == 1:
            return o * 0.0
    shift = size / 2 * (1 - output / (scale * size)) if how.coordinates == "half_pixel_symmetric" else 0.0
    return (o + 0.5) * times / over - 0.5 + shift


def _nearest(how: Sampling, x: Float64) -> Float64:
    match how.nearest:
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
    return np.ceil(x - 0.5)


def _kernel(how: Sampling, t: Float64) -> Float64:
    """The filter at distance ``t``: a triangle, or the cubic convolution kernel."""
    t = np.abs(t)
    if how.mode == "linear":
        return np.maximum(1.0 - t, 0.0)
    a = how.cubic_a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def plan_axis(
    how: Sampling, size: int, output: int, scale: float, *, from_sizes: bool
) -> tuple[npt.NDArray[np.int64], Array]:
    """The table ``(index, weight)``, each of shape ``(taps, output)``, of one axis."""
    x = _coordinates(how, size, output, scale, from_sizes)
    if how.mode == "nearest":
        index = np.clip(_nearest(how, x), 0, size - 1).astype(np.int64)[None]
        return index, np.ones(index.shape)
    shrink = min(scale, 1.0) if how.antialias else 1.0
    start, count = count_taps(how, scale)
    base = np.floor(x)
    offsets = np.arange(start, start + count, dtype=np.float64)[:, None]
    position = base[None] + offsets
    weight = _kernel(how, (position - x[None]) * shrink)
    if how.exclude_outside:
        weight = np.where((position < 0) | (position > size - 1), 0.0, weight)
    total = weight.sum(0, keepdims=True)
    if how.exclude_outside or how.antialias:
        weight = weight / np.where(total == 0, 1.0, total)
    return np.clip(position, 0, size - 1).astype(np.int64), weight


def count_taps(how: Sampling, scale: float) -> tuple[int, int]:
    """First offset and number of neighbours of each output."""
    if how.mode == "nearest":
        return 0, 1
    reach = 1 if how.mode == "linear" else 2
    wide = reach / min(scale, 1.0) if how.antialias else float(reach)
    start = math.floor(-wide) + 1
    return start, 2 - 2 * start if wide > reach else 2 * reach


def _emit(
    node: Node, x: Ref, sizes: Sequence[int], scales: Sequence[float], how: Sampling, from_sizes: bool, build: Builder
) -> Ref:
    if x.rank < 3:
        raise UnsupportedError(f"{node.op} of shape {x.shape}", need="(N, C, *spatial)")
    if tuple(sizes[:2]) != x.shape[:2]:
        raise UnsupportedError(f"{node.op} of shape {x.shape} to {tuple(sizes)}", need="equal batch and channels")
    if any(not 1 <= size <= LIMIT for size in sizes):
        raise ModelError(f"{node.op} to sizes {tuple(sizes)}", need=f"sizes from 1 to {LIMIT}")
    if tuple(sizes) == x.shape and all(scale == 1.0 for scale in scales):
        return x
    build.budget.check(sizes, build.program.element.bytes, "the result")
    index, weight = [], []
    for size, output, scale in zip(x.shape[2:], sizes[2:], scales[2:], strict=True):
        taps = count_taps(how, scale)[1]
        if taps > MAX_TAPS:
            raise UnsupportedError(f"antialias of a reduction by {1 / scale}", need=f"at most {MAX_TAPS} taps")
        build.budget.take((taps, output), 64, "a resize table")
        table = plan_axis(how, size, output, scale, from_sizes=from_sizes)
        index.append(table[0])
        weight.append(table[1])
    return build.add(ResizeStep(x.name, build.out(), tuple(index), tuple(weight)), sizes)


def _scales(operand: Operand | tuple[float, ...], rank: int) -> tuple[float, ...]:
    if isinstance(operand, tuple):
        values = operand
    else:
        array = as_constant(operand, "the input scales")
        if array.dtype.kind != "f" or array.ndim != 1 or array.size > 16:
            raise ModelError(f"scales are {array.dtype} of shape {array.shape}", need="a list of floats")
        values = tuple(float(item) for item in array)
    if len(values) != rank or not all(math.isfinite(value) and 0 < value <= LIMIT for value in values):
        raise ModelError(f"scales={values}", need=f"{rank} positive numbers")
    return values


def _lower_upsample(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    given = node.attributes.get("scales")
    if node.version < 9:
        scales = _scales(
            tuple(float(v) for v in given if isinstance(v, float)) if isinstance(given, tuple) else (), x.rank
        )
    else:
        scales = _scales(inputs[1], x.rank)
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise ModelError(f"mode={mode[:40]!r}", need="nearest or linear")
    sizes = [math.floor(size * scale) for size, scale in zip(x.shape, scales, strict=True)]
    return _emit(node, x, sizes, scales, Sampling(mode), False, build)


def _sampling(node: Node) -> Sampling:
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise ModelError(f"mode={mode[:40]!r}", need="nearest, linear or cubic")
    if node.version < 11:
        return Sampling(mode)
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    if coordinates not in COORDINATES:
        raise UnsupportedError(
            f"coordinate_transformation_mode={coordinates[:40]!r}", need="one of " + ", ".join(COORDINATES)
        )
    if nearest not in NEAREST:
        raise ModelError(f"nearest_mode={nearest[:40]!r}", need="one of " + ", ".join(NEAREST))
    return Sampling(
        mode, coordinates, nearest, node.number("cubic_coeff_a", -0.75),
        bool(node.integer("exclude_outside", 0)), bool(node.integer("antialias", 0)),
    )  # fmt: skip


def _lower_resize(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    how = _sampling(node)
    if node.version < 11:
        scales = _scales(inputs[1], x.rank)
        sizes = [math.floor(size * scale) for size, scale in zip(x.shape, scales, strict=True)]
        return _emit(node, x, sizes, scales, how, False, build)
    given = node.integers("axes")
    axes = tuple(range(x.rank)) if given is None else normalise_axes(given, x.rank)
    present = [inputs[i] is not None and as_constant(inputs[i], "scales or sizes").size > 0 for i in (2, 3)]
    if sum(present) != 1:
        raise ModelError("Resize has both or neither of scales and sizes", need="one of them")
    factors, targets = [1.0] * x.rank, list(x.shape)
    if present[0]:
        for axis, scale in zip(axes, _scales(inputs[2], len(axes)), strict=True):
            factors[axis], targets[axis] = scale, math.floor(x.shape[axis] * scale)
        return _emit(node, x, targets, factors, how, False, build)
    wanted = as_integers(inputs[3], "the input sizes")
    if len(wanted) != len(axes) or any(not 1 <= size <= LIMIT for size in wanted):
        raise ModelError(f"sizes={wanted[:16]}", need=f"{len(axes)} positive integers")
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise ModelError(f"keep_aspect_ratio_policy={policy[:40]!r}", need="stretch, not_larger or not_smaller")
    ratios = [size / x.shape[axis] for size, axis in zip(wanted, axes, strict=True)]
    common = min(ratios) if policy == "not_larger" else max(ratios)
    for axis, size, ratio in zip(axes, wanted, ratios, strict=True):
        if policy == "stretch":
            factors[axis], targets[axis] = ratio, size
        else:
            factors[axis], targets[axis] = common, math.floor(common * x.shape[axis] + 0.5)
    return _emit(node, x, targets, factors, how, policy == "stretch", build)


register("Upsample", lower=_lower_upsample, since=7, until=9)
register("Resize", lower=_lower_resize, since=10)
