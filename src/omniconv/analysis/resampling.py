"""The index tables of one axis of a resize, read back as a map: slope, shift, and what each output reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Positions: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resampling:
    """One axis of a resize.

    Attributes:
        slope, shift: output ``o`` is centred on input ``o * slope + shift``.
        regular: moving ``slope.denominator`` outputs moves all reads by ``slope.numerator`` inputs, inside.
        low, high: first and last position that each output of the table reads.
    """

    slope: Fraction
    shift: Fraction
    regular: bool
    low: Positions
    high: npt.NDArray[np.int64]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """First and last input position that outputs ``first..last`` read, continued beyond the table.

        Where the table is too short or too odd to show a period, the narrowest band along the slope that holds it.
        """
        if not self.regular:
            line = [o * self.slope + self.shift for o in range(self.low.size)]
            below = max(at - int(low) for at, low in zip(line, self.low, strict=True))
            above = max(int(high) - at for at, high in zip(line, self.high, strict=True))
            return (
                math.ceil(first * self.slope + self.shift - below),
                math.floor(last * self.slope + self.shift + above),
            )
        period = self.slope.denominator
        outputs = range(first, last + 1)
        ends = outputs if len(outputs) <= 2 * period else [*outputs[:period], *outputs[-period:]]
        pairs = [self._at(o) for o in ends]
        return min(low for low, _ in pairs), max(high for _, high in pairs)

    def _at(self, o: int) -> tuple[int, int]:
        """The reads of the output of the same phase in the middle of the table, moved."""
        period = self.slope.denominator
        start = self.low.size // 2 - period // 2
        base = start + (o - start) % period
        shift = (o - base) // period * self.slope.numerator
        return int(self.low[base]) + shift, int(self.high[base]) + shift


def read_table(index: npt.NDArray[np.int64], weight: npt.NDArray[np.float32], size: int) -> Resampling:
    """Read the tables of one axis with ``size`` input positions."""
    used = weight != 0
    low = np.where(used, index, np.iinfo(np.int64).max).min(axis=0)
    high = np.where(used, index, -1).max(axis=0)
    outputs = index.shape[1]
    centre = (index * weight.astype(np.float64)).sum(axis=0) / np.where(weight.sum(axis=0) == 0, 1, weight.sum(axis=0))
    slope, regular = _fit_slope(centre, size, low, high)
    residue = centre - np.arange(outputs) * float(slope)
    shift = Fraction(float(np.median(residue))).limit_denominator(max(2 * slope.denominator * slope.numerator, 2))
    return Resampling(slope, shift, regular, low.astype(np.int64), high.astype(np.int64))


def _fit_slope(centre: Floats, size: int, low: Positions, high: Positions) -> tuple[Fraction, bool]:
    """The slope, and whether the tables repeat with it; a slope with which they do is preferred."""
    outputs = centre.size
    candidates = [Fraction(size, outputs)]
    if outputs > 1 and size > 1:
        candidates.append(Fraction(size - 1, outputs - 1))
        inside = (centre > 0) & (centre < size - 1)
        if inside.sum() > 1:
            fitted = float(np.polyfit(np.flatnonzero(inside), centre[inside], 1)[0])
            candidates += [Fraction(fitted).limit_denominator(limit) for limit in (8, 64) if fitted > 1 / limit]
    for slope in candidates:
        if _repeats(slope, size, low, high):
            return slope, True
    if (low == high).all():
        return candidates[0], False
    positions = np.arange(outputs)

    def spread(slope: Fraction) -> float:
        residue = centre - positions * float(slope)
        return float(np.median(np.abs(residue - np.median(residue))))

    best = min(spread(slope) for slope in candidates)
    return next(slope for slope in candidates if spread(slope) <= best + 1e-9), False


def _repeats(slope: Fraction, size: int, low: Positions, high: Positions) -> bool:
    period, advance = slope.denominator, slope.numerator
    if low.size < 3 * period:
        return False
    inside = (low[:-period] > 0) & (high[period:] < size - 1)
    return bool(
        inside.any()
        and (low[period:] - low[:-period] == advance)[inside].all()
        and (high[period:] - high[:-period] == advance)[inside].all()
    )
