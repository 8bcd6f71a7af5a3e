r"""Resize and Upsample: separable resampling, a table of (input index, weight) for each spatial axis.

This file reads the node: which axes, to which sizes, by which scales. What a coordinate is and what it weighs is in
:mod:`omniconv.program.sampling`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Final

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_integers, normalise_axes
from omniconv.graph.operator import register
from omniconv.integers import LIMIT
from omniconv.program.sampling import (
    COORDINATES,
    CROP,
    NEAREST,
    TABLE_BYTES,
    UNNAMED,
    Sampling,
    count_outside,
    count_taps,
    plan_axis,
    plan_open_axis,
    scaled_size,
)
from omniconv.program.steps import PadStep, ResizeStep
from omniconv.records import dataclass

MAX_TAPS: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class _Crop:
    """What tf_crop_and_resize reads: a part of every axis, and the value of what lies outside."""

    parts: tuple[tuple[float, float], ...]
    value: float


def _emit(
    node: Node,
    x: Ref,
    sizes: Sequence[int],
    scales: Sequence[float | None],
    how: Sampling,
    build: Builder,
    crop: _Crop | None = None,
) -> Operand:
    """Resize ``x`` to ``sizes`` by ``scales``; no scale is the ratio of the sizes. Nothing to resize is a copy."""
    if x.rank < 3:
        raise UnsupportedError(f"{node.op} of shape {x.shape}", need="(N, C, *spatial)")
    if tuple(sizes) == x.shape and crop is None:
        return x
    if tuple(sizes[:2]) != x.shape[:2]:
        raise UnsupportedError(f"{node.op} of shape {x.shape} to {tuple(sizes)}", need="equal batch and channels")
    if any(size > 1 and scale not in (None, 1.0) for size, scale in zip(x.shape[:2], scales, strict=False)):
        raise UnsupportedError(
            f"{node.op} of shape {x.shape} by scales {tuple(scales)}", need="batch and channels by scale 1"
        )
    if any(not 1 <= size <= LIMIT for size in sizes):
        raise ModelError(f"{node.op} to sizes {tuple(sizes)}", need=f"sizes from 1 to {LIMIT}")
    build.budget.check_value(sizes, build.program.element.bytes, "the result")
    for size, output, scale in zip(x.shape[2:], sizes[2:], scales[2:], strict=True):
        ratio = float(output) / float(size) if scale is None else scale
        taps = count_taps(how, ratio)[1]
        if taps > MAX_TAPS:
            raise UnsupportedError(f"antialias of a reduction by {1 / ratio}", need=f"at most {MAX_TAPS} taps")
        build.budget.take((taps, output), TABLE_BYTES, "a resize table")
    if crop is not None:
        return _emit_part(x, sizes, scales, how, build, crop)
    index, weight = [], []
    for size, output, scale in zip(x.shape[2:], sizes[2:], scales[2:], strict=True):
        table = plan_open_axis(how, size, output, scale)
        index.append(table[0])
        weight.append(table[1])
    return build.add(ResizeStep(x.name, build.out(), tuple(index), tuple(weight)), sizes)


def _emit_part(
    x: Ref, sizes: Sequence[int], scales: Sequence[float | None], how: Sampling, build: Builder, crop: _Crop
) -> Operand:
    """What lies on the axes is one block, as the coordinate grows or falls along each; all around it is one value.

    Open sizes are pinned.
    """
    if any(part != (0.0, 1.0) for part in crop.parts[:2]):
        raise UnsupportedError(f"a crop of batch or channels, {crop.parts[:2]}", need="all of them, from 0 to 1")
    shape, sizes = tuple(map(operator.index, x.shape)), tuple(map(operator.index, sizes))
    index, weight, pads = [], [], [(0, 0), (0, 0)]
    for size, output, scale, part in zip(shape[2:], sizes[2:], scales[2:], crop.parts[2:], strict=True):
        before, after = count_outside(how, size, output, part)
        table = plan_axis(how, size, output, scale, part)
        index.append(table[0][:, before : output - after])
        weight.append(table[1][:, before : output - after])
        pads.append((before, after))
    inner = [size - sum(pair) for size, pair in zip(sizes, pads, strict=True)]
    if 0 in inner:
        return np.full(sizes, crop.value, build.program.element.dtype)
    if not any(map(any, pads)):
        return build.add(ResizeStep(x.name, build.out(), tuple(index), tuple(weight)), sizes)
    block = build.add(ResizeStep(x.name, build.fresh("inside"), tuple(index), tuple(weight)), inner)
    return build.add(PadStep(block.name, build.out(), tuple(pads), "constant", crop.value), sizes)


def _scales(operand: Operand | tuple[float, ...], rank: int) -> tuple[float, ...]:
    if isinstance(operand, tuple):
        values = operand
    else:
        array = as_constant(operand, "the input scales")
        if array.dtype.kind != "f" or array.ndim != 1 or array.size > 16:
            raise ModelError(f"scales are {array.dtype} of shape {array.shape}", need="a list of floats")
        values = tuple(float(np.float32(item)) for item in array)
    if len(values) != rank or not all(math.isfinite(value) and 0 < value <= LIMIT for value in values):
        raise ModelError(f"scales={values}", need=f"{rank} positive numbers")
    return values


def _by_scales(
    node: Node, x: Ref, scales: Sequence[float], how: Sampling, build: Builder, crop: _Crop | None = None
) -> Operand:
    sizes = [scaled_size(size, scale) for size, scale in zip(x.shape, scales, strict=True)]
    return _emit(node, x, sizes, scales, how, build, crop)


def _crop(node: Node, roi: Operand, axes: Sequence[int], rank: int) -> _Crop:
    """The parts of all axes: the starts of ``axes``, then their ends; the other axes are whole."""
    array = as_constant(roi, "the input roi")
    if array.dtype.kind != "f" or array.shape != (2 * len(axes),) or not np.isfinite(array).all():
        raise ModelError(
            f"roi is {array.dtype} of shape {array.shape}, values {array.ravel()[:8]}",
            need=f"{len(axes)} starts and {len(axes)} ends, finite",
        )
    parts = [(0.0, 1.0)] * rank
    for axis, start, end in zip(axes, array[: len(axes)], array[len(axes) :], strict=True):
        parts[axis] = (float(start), float(end))
    return _Crop(tuple(parts), node.number("extrapolation_value", 0.0))


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
    if min(scales, default=1.0) < 1:
        # ONNX forbids it, and PyTorch, which writes it, means other sizes and coordinates than it says.
        raise ModelError(f"Upsample by {scales}", need="scales of at least 1", fix="opset 11 or newer, with Resize")
    return _by_scales(node, x, scales, Sampling(mode, single=mode == "nearest"), build)


def _sampling(node: Node) -> Sampling:
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise ModelError(f"mode={mode[:40]!r}", need="nearest, linear or cubic")
    single = mode == "nearest"
    if node.version < 11:
        return Sampling(mode, nearest=UNNAMED, single=single)
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    if coordinates not in (*COORDINATES, CROP):
        raise ModelError(
            f"coordinate_transformation_mode={coordinates[:40]!r}", need="one of " + ", ".join((*COORDINATES, CROP))
        )
    if nearest not in NEAREST:
        raise ModelError(f"nearest_mode={nearest[:40]!r}", need="one of " + ", ".join(NEAREST))
    antialias = bool(node.integer("antialias", 0))
    if antialias and mode == "nearest":
        raise ModelError("antialias=1 with mode='nearest'", need="mode linear or cubic")
    return Sampling(
        mode,
        coordinates,
        nearest,
        node.number("cubic_coeff_a", -0.75),
        bool(node.integer("exclude_outside", 0)),
        antialias,
        single,
    )


def _lower_resize(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=1)
    how = _sampling(node)
    if node.version < 11:
        return _by_scales(node, x, _scales(inputs[1], x.rank), how, build)
    given = node.integers("axes")
    axes = tuple(range(x.rank)) if given is None else normalise_axes(given, x.rank)
    crop = _crop(node, inputs[1], axes, x.rank) if how.coordinates == CROP else None
    present = [inputs[i] is not None and as_constant(inputs[i], "scales or sizes").size > 0 for i in (2, 3)]
    if sum(present) != 1:
        raise ModelError("Resize has both or neither of scales and sizes", need="one of them")
    if present[0]:
        scales = [1.0] * x.rank
        for axis, scale in zip(axes, _scales(inputs[2], len(axes)), strict=True):
            scales[axis] = scale
        return _by_scales(node, x, scales, how, build, crop)
    wanted = as_integers(inputs[3], "the input sizes")
    if len(wanted) != len(axes) or any(not 1 <= size <= LIMIT for size in wanted):
        raise ModelError(f"sizes={wanted[:16]}", need=f"{len(axes)} positive integers")
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy not in ("stretch", "not_larger", "not_smaller"):
        raise ModelError(f"keep_aspect_ratio_policy={policy[:40]!r}", need="stretch, not_larger or not_smaller")
    targets = list(x.shape)
    factors: list[float | None] = [None] * x.rank
    common = _common_scale(policy, [x.shape[axis] for axis in axes], wanted)
    for axis, size in zip(axes, wanted, strict=True):
        factors[axis] = common
        targets[axis] = size if common is None else scaled_size(x.shape[axis], common, rounded=True)
    return _emit(node, x, targets, factors, how, build, crop)


def _common_scale(policy: str, given: Sequence[int], wanted: Sequence[int]) -> float | None:
    """The scale of every axis under a policy that keeps the aspect ratio, in float32; none where sizes are met."""
    if policy == "stretch":
        return None
    ratios = np.asarray(wanted, np.float32) / np.asarray(given, np.float32)
    return float(ratios.min() if policy == "not_larger" else ratios.max())


register("Upsample", lower=_lower_upsample, since=7, until=9, open_sizes=True)
register("Resize", lower=_lower_resize, since=10, open_sizes=True)
