"""The energy of a grid in images: what of their variance repeats with the stride.

For images y whose axes are multiples of the stride s, with the mean m[f] of all positions of phase f:

.. code-block:: text

    share = mean over images of var over f of m[f]  /  mean over images of var of y

This is the energy at the frequencies of the grid, the multiples of 1 / s on each axis without the constant one, over
the energy at all frequencies but the constant one (Parseval).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def split_phases(images: Float64, stride: int) -> Float64:
    """Images ``(n, *spatial)`` as ``(n, phases, positions)``; phases are numbered row by row.

    Example:
        >>> split_phases(np.arange(4.0)[None], 2).tolist()
        [[[0.0, 2.0], [1.0, 3.0]]]
    """
    n, *sizes = images.shape
    dims = len(sizes)
    split = images.reshape(n, *(part for size in sizes for part in (size // stride, stride)))
    phases = [2 + 2 * axis for axis in range(dims)]
    blocks = [1 + 2 * axis for axis in range(dims)]
    return split.transpose(0, *phases, *blocks).reshape(n, stride**dims, -1)


def find_share(images: Float64, stride: int) -> float:
    """The share of the energy that is at the frequencies of the grid.

    Example:
        >>> find_share(np.tile([1.0, -1.0], 4)[None], 2), find_share(np.repeat([1.0, -1.0], 4)[None], 2)
        (1.0, 0.0)
    """
    phases = split_phases(images, stride)
    whole = phases.reshape(len(images), -1).var(axis=1).mean()
    return float(phases.mean(axis=2).var(axis=1).mean() / whole) if whole > 0 else 0.0


def find_energies(images: Float64, stride: int) -> Float64:
    """The mean square of each phase, over all images."""
    return np.asarray((split_phases(images, stride) ** 2).mean(axis=(0, 2)))


def crop(images: Float64, border: int) -> Float64:
    """Images ``(n, *spatial)`` without so many positions on each side."""
    inside = slice(border, -border) if border else slice(None)
    return images[(slice(None), *[inside] * (images.ndim - 1))]
