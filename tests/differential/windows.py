"""Convolutions, pools and Col2Im of one ONNX node in float64, tap by tap, from the formulas of the standard."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper


def _pads(given: dict[str, Any], sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]) -> list[Any]:
    dims, auto = len(sizes), given.get("auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, extent, stride in zip(sizes, extents, strides):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
        return pairs
    flat = [0] * 2 * dims if auto == "VALID" else given.get("pads", [0] * 2 * dims)
    return list(zip(flat[:dims], flat[dims:]))


def evaluate(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Conv, ConvTranspose, MaxPool or AveragePool."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    x = arrays[0]
    dims = x.ndim - 2
    kernel = list(given.get("kernel_shape") or arrays[1].shape[2:])
    strides, dilations = given.get("strides", [1] * dims), given.get("dilations", [1] * dims)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations)]
    if node.op_type == "ConvTranspose":
        return [_transposed(given, arrays, kernel, strides, dilations, extents)]
    pads = _pads(given, x.shape[2:], extents, strides)
    rooms = [size + sum(pair) - extent for size, pair, extent in zip(x.shape[2:], pads, extents)]
    if min(rooms) < 0:
        raise ValueError("a window larger than its input")
    ceil = given.get("ceil_mode", 0) and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    counts = [(-(-room // s) if ceil else room // s) + 1 for room, s in zip(rooms, strides)]
    if ceil:  # a window that would start after the input and the padding before it is dropped
        counts = [
            n - 1 if (n - 1) * s >= size + pair[0] else n
            for n, s, size, pair in zip(counts, strides, x.shape[2:], pads)
        ]
    more = [
        max(0, (n - 1) * s + e - size - sum(pair))
        for n, s, e, size, pair in zip(counts, strides, extents, x.shape[2:], pads)
    ]
    far = [(before, after + m) for (before, after), m in zip(pads, more)]
    lowest = -np.inf if node.op_type == "MaxPool" else 0.0
    wide = np.pad(x, [(0, 0), (0, 0), *far], constant_values=lowest)
    taps = list(itertools.product(*map(range, kernel)))

    def view(array: np.ndarray, tap: tuple[int, ...]) -> np.ndarray:
        cuts = (slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(tap, dilations, strides, counts))
        return array[(slice(None), slice(None), *cuts)]

    if node.op_type == "Conv":
        return [_conv(given, arrays, wide, taps, view, counts)]
    parts = [view(wide, tap) for tap in taps]
    if node.op_type == "MaxPool":
        return [np.max(parts, axis=0)]
    counted = [pair if given.get("count_include_pad", 0) else (0, 0) for pair in pads]
    inside = np.pad(np.ones((1, 1, *x.shape[2:])), [(0, 0), (0, 0), *counted], constant_values=1.0)
    inside = np.pad(inside, [(0, 0), (0, 0), *((f[0] - c[0], f[1] - c[1]) for f, c in zip(far, counted))])
    return [np.sum(parts, axis=0) / sum(view(inside, tap) for tap in taps)]


def fold_windows(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Col2Im, entry by entry."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    x, image, kernel = arrays
    dims, taps = len(image), list(itertools.product(*map(range, kernel)))
    strides, dilations = given.get("strides", [1] * dims), given.get("dilations", [1] * dims)
    pads = given.get("pads", [0] * 2 * dims)
    rows = zip(image, kernel, strides, dilations, pads[:dims], pads[dims:])
    blocks = list(itertools.product(*(range((i + a + b - d * (k - 1) - 1) // s + 1) for i, k, s, d, a, b in rows)))
    columns = x.reshape(x.shape[0], -1, len(taps), len(blocks))
    y = np.zeros((*columns.shape[:2], *image))
    for (t, tap), (b, block) in itertools.product(enumerate(taps), enumerate(blocks)):
        at = tuple(n * s + k * d - p for n, k, s, d, p in zip(block, tap, strides, dilations, pads))
        if all(0 <= place < size for place, size in zip(at, image)):
            y[(slice(None), slice(None), *at)] += columns[:, :, t, b]
    return [y]


def _conv(
    given: dict[str, Any], arrays: Sequence[Any], wide: np.ndarray, taps: Any, view: Any, counts: Any
) -> np.ndarray:
    w, groups = arrays[1], given.get("group", 1)
    n, channels = wide.shape[:2]
    split = wide.reshape(n, groups, channels // groups, *wide.shape[2:])
    y = np.zeros((n, groups, w.shape[0] // groups, *counts))
    wg = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for tap in taps:
        part = view(split.reshape(n, channels, *wide.shape[2:]), tap).reshape(n, groups, channels // groups, *counts)
        y += np.einsum("goi,ngi...->ngo...", wg[(slice(None),) * 3 + tap], part)
    y = y.reshape(n, w.shape[0], *counts)
    return y if len(arrays) < 3 or arrays[2] is None else y + arrays[2].reshape(-1, *(1,) * len(counts))


def _transposed(
    given: dict[str, Any], arrays: Sequence[Any], kernel: Any, strides: Any, dilations: Any, extents: Any
) -> np.ndarray:
    x, w = arrays[:2]
    dims, groups, sizes = x.ndim - 2, given.get("group", 1), x.shape[2:]
    extra = given.get("output_padding", [0] * dims)
    auto = given.get("auto_pad", b"NOTSET").decode()
    full = [(i - 1) * s + e + a for i, s, e, a in zip(sizes, strides, extents, extra)]
    wanted = list(given["output_shape"][-dims:]) if given.get("output_shape") else None
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [i * s for i, s in zip(sizes, strides)]
    if wanted is not None:
        totals = [f - o for f, o in zip(full, wanted)]
        pairs = [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals]
        if min(totals) < 0:
            raise ValueError("an output longer than the taps reach")
    else:
        flat = [0] * 2 * dims if auto == "VALID" else given.get("pads", [0] * 2 * dims)
        pairs = list(zip(flat[:dims], flat[dims:]))
    if any(f <= sum(pair) for f, pair in zip(full, pairs)):
        raise ValueError("nothing is left")
    n, icg, ocg = x.shape[0], x.shape[1] // groups, w.shape[1]
    y = np.zeros((n, groups * ocg, *full))
    split, wg = x.reshape(n, groups, icg, *sizes), w.reshape(groups, icg, ocg, *kernel)
    for tap in itertools.product(*map(range, kernel)):
        part = np.einsum("gio,ngi...->ngo...", wg[(slice(None),) * 3 + tap], split).reshape(n, groups * ocg, *sizes)
        cuts = (slice(t * d, t * d + s * (i - 1) + 1, s) for t, d, s, i in zip(tap, dilations, strides, sizes))
        y[(slice(None), slice(None), *cuts)] += part
    y = y[(slice(None), slice(None), *(slice(a, f - b) for (a, b), f in zip(pairs, full)))]
    return y if len(arrays) < 3 or arrays[2] is None else y + arrays[2].reshape(-1, *(1,) * dims)
