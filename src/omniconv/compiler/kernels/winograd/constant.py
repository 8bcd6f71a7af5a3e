"""Minimal filtering with constant weights, which are transformed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from omniconv.compiler.kernels.winograd.blocks import BlockAxis, Line
from omniconv.program.steps import Array


def transform_weights(w: Array, axes: Sequence[BlockAxis], lines: Sequence[Line], groups: int = 1) -> Array:
    """G g G^T of every phase, at some points of some parts, in float64, rounded once.

    Args:
        w: ``(out, in of a group, *taps)``.
        axes: blocks along each axis of the taps.
        lines: points and parts along each.
        groups: of the layer.

    Returns:
        ``(groups * points * phases * out of a group, parts * in of a group, *taps)``, with the taps of the axes that
        are summed directly, in the order of the positions that they read.
    """
    # (points, phases, parts, out, in, taps); each axis takes the first of the taps that are left.
    u: npt.NDArray[np.float64] = w.astype(np.float64)[None, None, None]
    kept: list[int] = []
    for axis, (points, parts) in zip(axes, lines, strict=True):
        if axis.direct:
            u = np.moveaxis(u.take(axis.taps[0][0], axis=5), 5, -1)  # type: ignore[arg-type]
            kept.append(u.shape[-1])
            continue
        matrix = _spread_kernels(axis)[:, parts.start : parts.stop, points.start : points.stop]
        spread = np.tensordot(matrix, u, axes=(3, 5))  # (phases, parts, points of the axis, *u)
        u = spread.transpose(3, 2, 4, 0, 5, 1, *range(6, spread.ndim))
        before, now, phases, other, first, last, *rest = u.shape
        u = u.reshape(before * now, phases * other, first * last, *rest)
    count, phases, joined, outputs, inputs = u.shape[:5]
    grouped = u.reshape(count, phases, joined, groups, outputs // groups, inputs, *kept)
    ordered = grouped.transpose(3, 0, 1, 4, 2, 5, *range(6, grouped.ndim))
    transformed: Array = ordered.reshape(count * phases * outputs, joined * inputs, *kept).astype(w.dtype)
    return transformed


def _spread_kernels(axis: BlockAxis) -> npt.NDArray[np.float64]:
    """G of every phase and part of an axis, for the taps of the kernel as they are numbered."""
    found = np.zeros((axis.phases, axis.parts, axis.points, axis.kernel))
    matrix = axis.filtering.kernel if axis.filtered else np.ones((1, 1))
    for phase, parts in enumerate(axis.taps):
        for part, taps in enumerate(parts):
            for column, tap in enumerate(taps):
                if tap is not None:
                    found[phase, part, :, tap] = matrix[:, column]
    return found
