"""Minimal filtering with constant weights, which are transformed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.kernels.winograd.blocks import BlockAxis
from omniconv.compiler.kernels.winograd.points import Line
from omniconv.program.steps import Array

_AT_ONCE: Final = 2**16
"""Weights that are transformed at once: what they become stays in the cache."""


def transform_weights(w: Array, axes: Sequence[BlockAxis], lines: Sequence[Line], groups: int = 1) -> Array:
    """G g G^T at some points of some parts and phases, in float64, rounded once.

    Args:
        w: ``(out, in of a group, *taps)``.
        axes: blocks along each axis of the taps.
        lines: points, parts and phases along each.
        groups: of the layer.

    Returns:
        ``(groups * points * phases * out of a group, parts * in of a group, *taps)``, with the taps of the axes that
        are summed directly, in the order of the positions that they read.
    """
    some = max(1, _AT_ONCE // max(1, math.prod(w.shape[1:])))
    matrices = [
        None if axis.direct else _spread_kernels(axis)[np.ix_(line.phases, line.parts, line.points)]
        for axis, line in zip(axes, lines, strict=True)
    ]
    found: Array | None = None
    for first in range(0, len(w), some):
        part = _transform(w[first : first + some], axes, matrices)
        if found is None:
            found = np.empty((*part.shape[:3], len(w), *part.shape[4:]), w.dtype)
        found[:, :, :, first : first + some] = part
    assert found is not None
    count, phases, joined, outputs, inputs, *kept = found.shape
    grouped = found.reshape(count, phases, joined, groups, outputs // groups, inputs, *kept)
    ordered = grouped.transpose(3, 0, 1, 4, 2, 5, *range(6, grouped.ndim))
    return ordered.reshape(count * phases * outputs, joined * inputs, *kept)


def _transform(
    w: Array, axes: Sequence[BlockAxis], matrices: Sequence[npt.NDArray[np.float64] | None]
) -> npt.NDArray[np.float64]:
    """Some outputs: ``(points, phases, parts, out, in, *taps)``; axes that are summed directly have no matrix."""
    # The taps in front, where matrices are applied to them in turn; what has been made stands behind.
    u: npt.NDArray[np.float64] = np.ascontiguousarray(np.moveaxis(w, (0, 1), (-2, -1)), np.float64)
    u = u.reshape(*w.shape[2:], 1, 1, 1, *w.shape[:2])
    kept: list[int] = []
    for axis, matrix in zip(axes, matrices, strict=True):
        if matrix is None:
            u = np.moveaxis(u.take(axis.taps[0][0], axis=0), 0, -1)  # type: ignore[arg-type]
            kept.append(u.shape[-1])
            continue
        spread = _combine(matrix.reshape(-1, axis.kernel), u).reshape(*matrix.shape[:3], *u.shape[1:])
        taps = u.ndim - 6 - len(kept)
        behind = spread.transpose(
            *range(3, 3 + taps), 3 + taps, 2, 4 + taps, 0, 5 + taps, 1, *range(6 + taps, spread.ndim)
        )
        *left, before, now, phases, other, first, last = behind.shape[: taps + 6]
        u = behind.reshape(*left, before * now, phases * other, first * last, *behind.shape[taps + 6 :])
    return u


def _combine(matrix: npt.NDArray[np.float64], u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``matrix @ u`` along the first axis. A matrix of three columns is no work for BLAS, whose threads would meanwhile
    spin where others compile.
    """
    found = np.empty((len(matrix), *u.shape[1:]))
    term = np.empty(u.shape[1:])
    for row, coefficients in zip(found, matrix.tolist(), strict=True):
        first, *others = [tap for tap, coefficient in enumerate(coefficients) if coefficient] or [0]
        np.multiply(u[first], coefficients[first], out=row)
        for tap in others:
            row += np.multiply(u[tap], coefficients[tap], out=term)
    return found


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
