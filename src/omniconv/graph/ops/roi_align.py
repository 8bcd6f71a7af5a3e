r"""RoiAlign: regions of feature maps, read between their pixels and averaged to one size; in NumPy, on the host.

A region is cut into bins, and a bin read at ``grid`` places along each axis, in the middle of equal parts: what a place
holds is the bilinear mean of the four pixels around it, and nothing beyond one pixel outside the map. Both axes are
read one after the other:

.. math:: y[r, c, i, j] = \frac{1}{g_h g_w} \sum_{a, b} \sum_{h, w} x[n_r, c, h, w]\; \beta_{ria}(h)\; \gamma_{rjb}(w) .

The largest value of a bin in place of the mean (``mode="max"``) is left to ``onnx.reference``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant
from omniconv.graph.operator import register
from omniconv.integers import LIMIT

_PLACE_BYTES = 64
"""Of a place along an axis while its pixels and their weights are found [bytes]."""


class _Samples(NamedTuple):
    """Where the places of an axis lie: pixels below and above each, the shares of both, and whether it is inside."""

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    below: AnyArray
    above: AnyArray
    inside: npt.NDArray[np.bool_]


def _find_places(start: AnyArray, length: AnyArray, bins: int, grid: int, size: int) -> _Samples:
    """The places of all bins of a region along one axis, in the type of its coordinates."""
    step = length / length.dtype.type(bins)
    parts = (np.arange(grid) + 0.5).astype(step.dtype) * step / step.dtype.type(max(grid, 1))
    at = (start + np.arange(bins).astype(step.dtype)[:, None] * step + parts).reshape(-1)
    inside = (at >= -1) & (at <= size)
    at = np.clip(at, 0, size - 1)
    low = at.astype(np.int64)
    share = at - low.astype(at.dtype)
    return _Samples(low, np.minimum(low + 1, size - 1), 1 - share, share, inside)


def _check(node: Node, x: AnyArray, rois: AnyArray, batches: AnyArray) -> tuple[int, int, int]:
    """Sizes of the result and the places of a bin along each axis, 0 where the size of a region decides.

    Raises:
        ModelError, ShapeError: inputs or attributes that do not fit.
    """
    if x.ndim != 4 or 0 in x.shape or rois.shape != (batches.size, 4) or batches.ndim != 1:
        raise ShapeError(
            f"x has shape {x.shape}, rois {rois.shape}, batch_indices {batches.shape}",
            need="(N, C, H, W), (regions, 4), (regions,)",
        )
    if batches.size and not (int(batches.min()) >= 0 and int(batches.max()) < x.shape[0]):
        raise ModelError(f"batch indices {int(batches.min())} to {int(batches.max())}", need=f"0 to {x.shape[0] - 1}")
    height, width = node.integer("output_height", 1), node.integer("output_width", 1)
    ratio = node.integer("sampling_ratio", 0)
    if not (1 <= height <= LIMIT and 1 <= width <= LIMIT and ratio <= LIMIT):
        raise ModelError(
            f"output_height={height}, output_width={width}, sampling_ratio={ratio}",
            need=f"at most {LIMIT}, sizes of 1 or more",
        )
    return height, width, max(ratio, 0)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, rois, batches = (
        as_constant(item, name) for item, name in zip(arrays, ("X", "rois", "batch_indices"), strict=True)
    )
    height, width, ratio = _check(node, x, rois, batches)
    mode, frame = node.text("mode", "avg"), node.text("coordinate_transformation_mode", "half_pixel")
    if mode != "avg":
        raise UnsupportedError(f"mode={mode[:40]!r}", need="mode=avg")
    half = node.version >= 16 and frame == "half_pixel"
    scale, offset = x.dtype.type(node.number("spatial_scale", 1.0)), x.dtype.type(0.5 if half else 0.0)
    shape = (batches.size, x.shape[1], height, width)
    budget.take(shape, x.dtype.itemsize, "the regions")
    y = np.zeros(shape, x.dtype)
    corners = rois.astype(x.dtype) * scale - offset
    lengths = corners[:, 2:] - corners[:, :2]
    if not (np.isfinite(corners).all() and np.isfinite(lengths).all()):
        raise ModelError(f"a region that is not finite, at spatial_scale={scale}", need="finite corners and sizes")
    if not half:
        lengths = np.maximum(lengths, 1)
    for index, (batch, corner, length) in enumerate(zip(batches, corners, lengths, strict=True)):
        axes = []
        for axis, bins, size in ((1, height, x.shape[2]), (0, width, x.shape[3])):
            grid = ratio or int(np.ceil(length[axis] / x.dtype.type(bins)))
            budget.check((bins, max(grid, 0)), _PLACE_BYTES, "the places of a region")
            axes.append((grid, _find_places(corner[axis], length[axis], bins, grid, size)) if grid > 0 else None)
        rows, columns = axes
        if rows is None or columns is None:  # a region of no size has no places, and their mean is 0
            continue
        y[index] = _read(x[batch], rows[1], columns[1], budget).reshape(
            x.shape[1], height, rows[0], width, columns[0]
        ).sum((2, 4)) / x.dtype.type(rows[0] * columns[0])
    return y


def _read(x: AnyArray, rows: _Samples, columns: _Samples, budget: Budget) -> AnyArray:
    """``(C, H, W)`` at all places of a region; 0 at those outside, whatever the pixels hold that are nearest."""
    left, right = int(columns.low.min()), int(columns.high.max()) + 1
    budget.check((x.shape[0], rows.low.size, right - left + columns.low.size), 4 * x.itemsize, "the places of a region")
    near = x[:, :, left:right]
    lines = near[:, rows.low] * rows.below[:, None] + near[:, rows.high] * rows.above[:, None]
    places = lines[:, :, columns.low - left] * columns.below + lines[:, :, columns.high - left] * columns.above
    return np.asarray(np.where(rows.inside[:, None] & columns.inside, places, x.dtype.type(0)))


register("RoiAlign", fold=_fold, since=10)
