"""The index tables of one axis of a resize, read back as a map: slope, shift, and what each output reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.analysis.runs import Runs, join, move

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resampling:
    """One axis of a resize.

    Attributes:
        slope, shift: output ``o`` is centred on input ``o * slope + shift``.
        regular: moving ``slope.denominator`` outputs moves all reads by ``slope.numerator`` inputs, inside.
        taps: what each output of the table reads.
    """

    slope: Fraction
    shift: Fraction
    regular: bool
    taps: tuple[Runs, ...]

    def read(self, runs: Runs) -> Runs:
        """The input positions that outputs in ``runs`` read, continued beyond the table.

        Where the table is too short or too odd to show a period, the narrowest band along the slope that holds it.
        """
        if self.regular:
            return join(span for first, last in runs for o in range(first, last + 1) for span in self._at(o))
        line = [o * self.slope + self.shift for o in range(len(self.taps))]
        below = max((at - taps[0][0] for at, taps in zip(line, self.taps, strict=True) if taps), default=Fraction(0))
        above = max((taps[-1][1] - at for at, taps in zip(line, self.taps, strict=True) if taps), default=Fraction(0))
        return join(
            (
                math.ceil(first * self.slope + self.shift - below),
                math.floor(last * self.slope + self.shift + above),
            )
            for first, last in runs
        )

    def _at(self, o: int) -> Runs:
        """The reads of the output of the same phase in the middle of the table, moved."""
        period = self.slope.denominator
        start = len(self.taps) // 2 - period // 2
        base = start + (o - start) % period
        return move(self.taps[base], (o - base) // period * self.slope.numerator)


def read_table(index: npt.NDArray[np.int64], weight: npt.NDArray[np.floating[Any]], size: int) -> Resampling:
    """Read the tables of one axis with ``size`` input positions."""
    used = weight != 0
    taps = tuple(join((int(i), int(i)) for i in column[keep]) for column, keep in zip(index.T, used.T, strict=True))
    outputs = index.shape[1]
    centre = (index * weight.astype(np.float64)).sum(axis=0) / np.where(weight.sum(axis=0) == 0, 1, weight.sum(axis=0))
    slope, regular = _fit_slope(centre, size, taps)
    residue = centre - np.arange(outputs) * float(slope)
    shift = Fraction(float(np.median(residue))).limit_denominator(max(2 * slope.denominator * slope.numerator, 2))
    return Resampling(slope, shift, regular, taps)


def _fit_slope(centre: Floats, size: int, taps: tuple[Runs, ...]) -> tuple[Fraction, bool]:
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
        if _repeats(slope, size, taps):
            return slope, True
    if all(len(each) == 1 and each[0][0] == each[0][1] for each in taps):
        return candidates[0], False
    positions = np.arange(outputs)

    def spread(slope: Fraction) -> float:
        residue = centre - positions * float(slope)
        return float(np.median(np.abs(residue - np.median(residue))))

    best = min(spread(slope) for slope in candidates)
    return next(slope for slope in candidates if spread(slope) <= best + 1e-9), False


def _repeats(slope: Fraction, size: int, taps: tuple[Runs, ...]) -> bool:
    """Whether every output reads what the one a period before reads, moved, where neither is near an end."""
    period, advance = slope.denominator, slope.numerator
    if len(taps) < 3 * period or not all(taps):
        return False
    pairs = [
        (before, after)
        for before, after in zip(taps, taps[period:], strict=False)
        if before[0][0] > 0 and after[-1][1] < size - 1
    ]
    return bool(pairs) and all(move(before, advance) == after for before, after in pairs)
