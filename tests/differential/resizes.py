"""Resize and Upsample in every mode, by scales and by sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.differential.draft import Draft, UnfitError
from tests.differential.table import counted, generator

FACTORS = (0.3, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.5, 1.7, 2.0, 3.0, 3.3)


@generator("Upsample")
def _upsample(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    if g.opset > 9:
        raise UnfitError(op)
    shape = g.shape(x)
    scales = [1.0, 1.0, *(g.choose(*(f for f in FACTORS if f >= 1)) for _ in shape[2:])]
    mode = g.choose("nearest", "linear", None)
    if g.opset < 9:
        g.emit(op, x, scales=scales, mode=mode)
    else:
        g.emit(op, x, g.const(np.array(scales, np.float32)), mode=mode)


@generator("Resize", since=10)
def _resize(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    shape = g.shape(x)
    scales = [g.choose(*FACTORS) for _ in shape[2:]]
    if any(int(n * f) < 1 for n, f in zip(shape[2:], scales)):
        raise UnfitError(op)
    if g.opset == 10:
        g.emit(op, x, g.const(np.array([1.0, 1.0, *scales], np.float32)), mode=g.choose("nearest", "linear", None))
        return
    mode = g.choose("nearest", "nearest", "linear", "linear", "cubic")
    given: dict[str, Any] = {"mode": mode if mode != "nearest" or g.chance(0.7) else None}
    modes = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    if g.opset < 13:
        modes.append("tf_half_pixel_for_nn")
    if g.opset >= 19:
        modes.append("half_pixel_symmetric")
    given["coordinate_transformation_mode"] = g.choose(None, *modes)
    if mode == "nearest":
        given["nearest_mode"] = g.choose(None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        given["cubic_coeff_a"], given["exclude_outside"] = g.choose(None, -0.5, -0.75), g.choose(None, 0, 1)
    if g.opset >= 18 and mode != "nearest" and g.chance(0.3):
        given["antialias"] = 1
    partial = g.opset >= 18 and g.chance(0.3)
    if partial:
        given["axes"] = [counted(g, axis, len(shape)) for axis in range(2, len(shape))]
    ahead = [] if partial else [1.0, 1.0]
    roi = "" if g.opset >= 13 or g.chance(0.5) else g.const(np.array([], np.float32))
    if g.opset < 13 and not roi:
        roi = g.const(np.array([], np.float32))
    if g.chance(0.5):
        g.emit(op, x, roi, g.const(np.array([*ahead, *scales], np.float32)), **given)
        return
    sizes = [max(1, round(n * f)) for n, f in zip(shape[2:], scales)]
    if g.opset >= 18 and g.chance(0.15):
        given["keep_aspect_ratio_policy"] = g.choose("stretch", "not_larger", "not_smaller")
    empty = "" if g.opset >= 13 else g.const(np.array([], np.float32))
    g.emit(op, x, roi, empty, g.ints([*([] if partial else shape[:2]), *sizes]), **given)
