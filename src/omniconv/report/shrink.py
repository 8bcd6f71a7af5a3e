"""Arrays brought into a form that can be drawn: two axes, few enough cells."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]

MOST: Final = 256
PERIODS: Final = 4


def as_plane(values: npt.NDArray[np.float64]) -> Plane:
    """Two axes: one more for a row, the middle of the first ones for a volume.

    Example:
        >>> as_plane(np.ones(3)).shape, as_plane(np.ones((5, 2, 4))).shape
        ((1, 3), (2, 4))
    """
    plane = np.asarray(values, np.float64)
    while plane.ndim > 2:
        plane = plane[plane.shape[0] // 2]
    return plane.reshape(1, -1) if plane.ndim < 2 else plane


def tile_counts(counts: npt.NDArray[np.float64], least: int = 8) -> Plane:
    """The phases repeated until each axis has at least ``least`` positions and some periods.

    Example:
        >>> tile_counts(np.float64([1, 2])).tolist()
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    """
    repeats = [max(PERIODS, math.ceil(least / size)) if size < least else 2 for size in counts.shape]
    return np.tile(counts, repeats)


def shrink(plane: Plane, most: int = MOST) -> Plane:
    """At most ``most`` cells on each axis: means of blocks.

    Example:
        >>> shrink(np.float64([[1, 1, 0, 0], [1, 1, 0, 0]]), 2).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    for axis in range(plane.ndim):
        size = plane.shape[axis]
        if size > most:
            starts = np.unique(np.arange(most) * size // most)
            lengths = np.diff(np.append(starts, size))
            sums = np.add.reduceat(plane, starts, axis=axis)
            plane = sums / lengths.reshape([-1 if n == axis else 1 for n in range(plane.ndim)])
    return plane
