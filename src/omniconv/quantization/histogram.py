r"""`Histogram`: the values of one tensor over all data, in bounded memory and whatever order they come in.

Bin ``k`` holds the values of :math:`[k 2^e, (k + 1) 2^e)`, exact zeros apart. Where they span more than
:data:`MOST_BINS` bins, ``e`` grows by one and bins join in pairs, which is exact: so the bins are those of all values
at once, with the smallest ``e`` (not below :data:`LEAST_EXPONENT`) for which their span fits, 0 included, and the
order of the data does not matter.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError
from omniconv.graph.nodes import shorten

MOST_BINS: Final = 4096
LEAST_EXPONENT: Final = -120
PIECE: Final = 2**18
"""Values that are sorted into bins at once."""


class Histogram:
    """Counts of the values of a tensor.

    Attributes:
        name: of the tensor, for messages.
        bounds: what is beyond counts as these, as nobody who reads it tells it apart.
        low, high: the smallest and the largest value; 0 where there are none.
        count: of all values.
        zeros: how many of them are exactly 0.
        exponent: ``e``.
        first: the ``k`` of the first bin.
        counts: of each bin.
    """

    def __init__(self, name: str, bounds: tuple[float, float] = (-math.inf, math.inf)) -> None:
        self.name, self.bounds = name, bounds
        self.low, self.high = math.inf, -math.inf
        self.count = self.zeros = 0
        self.exponent, self.first = LEAST_EXPONENT, 0
        self.counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count more values.

        Raises:
            DataError: NaN or infinities among them.
        """
        flat = np.asarray(values, np.float32).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = int(flat.size - np.isfinite(flat).sum())
            raise DataError(
                f"tensor {shorten(self.name)!r} has {bad} values of {flat.size} that are NaN or infinite",
                need="finite calibration data, and a network whose values stay finite on them",
                at=shorten(f"tensor {self.name!r}"),
            )
        if low < self.bounds[0] or high > self.bounds[1]:
            flat = np.clip(flat, *self.bounds)
            low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += flat.size
        self._fit()
        size = 2.0**-self.exponent
        for start in range(0, flat.size, PIECE):
            piece = flat[start : start + PIECE]
            kept = piece[piece != 0]
            self.zeros += piece.size - kept.size
            index = np.floor(kept.astype(np.float64) * size).astype(np.int64)
            self.counts += np.bincount(index - self.first, minlength=self.counts.size)

    def _fit(self) -> None:
        """Make the bins those of all values so far, of which the smallest and largest are known."""
        low, high, exponent = min(self.low, 0.0), max(self.high, 0.0), self.exponent
        while _find_bin(high, exponent) - _find_bin(low, exponent) >= MOST_BINS:
            exponent += 1
        shift = exponent - self.exponent
        first, last = _find_bin(low, exponent), _find_bin(high, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        if self.counts.size:
            old = np.arange(self.first, self.first + self.counts.size) >> min(shift, 62)
            np.add.at(counts, old - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, counts

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where bins begin, and where the last one ends."""
        return np.ldexp(np.arange(self.first, self.first + self.counts.size + 1, dtype=np.float64), self.exponent)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2


def _find_bin(value: float, exponent: int) -> int:
    """The bin of a value."""
    return math.floor(math.ldexp(value, -exponent))
