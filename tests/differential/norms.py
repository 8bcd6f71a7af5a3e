"""Reductions, norms and pools of powers beyond sums: their values, and how far float32 may be from them.

Where an input is not exact and nothing simple can be said, the bound is infinite, and the element is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

ROUNDINGS = 64
"""Of powers, roots and logarithms beside those of a sum."""
SMALLEST = 2.0**-126
LARGEST = float(np.finfo(np.float32).max)


def _given(node: NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def axes_of(node: NodeProto, arrays: Sequence[Any]) -> tuple[int, ...]:
    """The axes of a reduction."""
    given, rank = _given(node), arrays[0].ndim
    axes = given.get("axes")
    if axes is None and len(arrays) > 1 and arrays[1] is not None:
        axes = arrays[1].tolist()
    if not axes:
        return () if given.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(axis % rank for axis in axes)


def _reduce(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    x, axes = arrays[0], axes_of(node, arrays)
    how: dict[str, Any] = {"axis": axes, "keepdims": bool(_given(node).get("keepdims", 1))}
    match node.op_type:
        case "ReduceL1":
            return [np.abs(x).sum(**how)]
        case "ReduceL2":
            return [np.sqrt((x * x).sum(**how))]
        case "ReduceSumSquare":
            return [(x * x).sum(**how)]
        case "ReduceLogSum":
            return [np.log(x.sum(**how))]
        case "ReduceProd":
            return [x.prod(**how)]
    return [np.logaddexp.reduce(x, **how)]


def _flat(node: NodeProto, opset: int, x: np.ndarray) -> tuple[np.ndarray, int]:
    """What the operator works on, and along which axis: before opset 13 the axes from one on are one."""
    axis = _given(node).get("axis", -1 if opset >= 13 else 1) % x.ndim
    return (x, axis) if opset >= 13 else (x.reshape(math.prod(x.shape[:axis]), -1), 1)


def _hardmax(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    flat, axis = _flat(node, opset, arrays[0])
    y = np.zeros_like(flat)
    np.put_along_axis(y, np.expand_dims(np.argmax(flat, axis), axis), 1.0, axis)
    return [y.reshape(arrays[0].shape)]


def _lp_norm(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator has no absolute values for p = 1, and takes axis 0 for the last one."""
    x, given = arrays[0], _given(node)
    axis, p = given.get("axis", -1), given.get("p", 2)
    norm = np.abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
    return [np.where(norm == 0, 0.0, x / norm)]


def _lp_pool(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    x, given = arrays[0], _given(node)
    p = given.get("p", 2)
    powers = np.abs(x) ** p
    if node.op_type == "GlobalLpPool":
        return [powers.sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)]
    kernel, dims = given["kernel_shape"], x.ndim - 2
    pads, strides = given.get("pads", [0] * 2 * dims), given.get("strides", [1] * dims)
    wide = np.pad(powers, [(0, 0), (0, 0), *zip(pads[:dims], pads[dims:])])
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel, tuple(range(2, x.ndim)))
    picked = windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]
    return [picked.sum(tuple(range(x.ndim, 2 * x.ndim - 2))) ** (1 / p)]


def _thresholded(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.where(arrays[0] > _given(node).get("alpha", 1.0), arrays[0], 0.0)]


REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd")
VALUES: dict[str, Callable[..., list[np.ndarray]]] = {
    **dict.fromkeys(REDUCTIONS, _reduce), "Hardmax": _hardmax, "LpNormalization": _lp_norm,
    "LpPool": _lp_pool, "GlobalLpPool": _lp_pool,
    # Those of the evaluator overflow, or take NaN for a number above the threshold.
    "Softplus": lambda node, opset, arrays: [np.logaddexp(arrays[0], 0.0)],
    "Mish": lambda node, opset, arrays: [arrays[0] * np.tanh(np.logaddexp(arrays[0], 0.0))],
    "ThresholdedRelu": _thresholded,
}  # fmt: skip
JUDGED = (*REDUCTIONS, "Hardmax", "LpNormalization", "LpPool", "GlobalLpPool", "RMSNormalization")


def bound(
    node: NodeProto, x: np.ndarray, error: np.ndarray, arrays: Sequence[Any], y: np.ndarray, u: float
) -> np.ndarray:
    """How far float32 may be from ``y``, which is what the node makes of x, known up to ``error``."""
    op, size, unknown = node.op_type, np.abs(x), bool(error.any())
    terms = (x.size + ROUNDINGS) * u
    rounding = 4 * u * np.nan_to_num(np.abs(y), posinf=0.0)

    def total(values: np.ndarray, op: str = "ReduceL1") -> np.ndarray:
        other = helper.make_node(op, list(node.input), ["y"], **_given(node))
        return _reduce(other, 0, [values, *arrays[1:]])[0]

    if op == "Hardmax":
        return np.full(y.shape, math.inf if unknown else 0.0)
    if op == "ReduceLogSumExp":
        largest = float(np.nan_to_num(size, posinf=0.0).max(initial=0.0))
        return rounding + float(error.max(initial=0.0)) + terms + 4 * u * largest
    if op == "ReduceLogSum":
        lost, found = terms * total(size + error) + total(error), np.exp(y)
        return np.where(lost < found / 2, 2 * lost / np.where(found == 0, 1.0, found), math.inf) + rounding
    if op in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
        wider = total(size + error, op)
        least = 2.0**-74 * math.sqrt(x.size) if op == "ReduceL2" else 2.0**-149 * x.size
        square = wider * wider if op == "ReduceL2" else wider
        known = (square < LARGEST) | ~np.isfinite(y)
        return np.where(known, np.where(np.isfinite(y), np.abs(wider - y) + terms * wider + least, 0.0), math.inf)
    # Partial products and powers must stay in the range.
    if op == "ReduceProd":
        small = np.prod(np.where(size > 0, np.minimum(size, 1.0), 1.0))
        inside = bool(np.prod(np.maximum(size, 1.0)) < LARGEST and small > SMALLEST)
    else:
        powers = size ** (_given(node).get("p", 2) if "Pool" in op else 2)
        inside = bool(powers.sum() < LARGEST and (powers[size > 0] > SMALLEST).all())
    known_all = inside and not unknown and bool(np.isfinite(x).all())
    return 4 * terms * np.abs(y) + 2.0**-140 if known_all else np.full(y.shape, math.inf)
