"""The index tables of one axis of a resize, read back as a map: slope, shift, and what each output reads."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.analysis.runs import Runs, join, move
from omniconv.records import dataclass

Floats: TypeAlias = npt.NDArray[np.float64]
Positions: TypeAlias = npt.NDArray[np.int64]


_NONE: Final = np.iinfo(np.int64).max
"""Stands behind the positions of an output that reads fewer than others."""


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """One axis of a resize.

    Attributes:
        slope, shift: output ``o`` is centred on input ``o * slope + shift``.
        regular: moving ``slope.denominator`` outputs moves all reads by ``slope.numerator`` inputs, inside.
        reads: the positions that each output of the table reads, a column each, sorted; then :data:`_NONE`.
    """

    slope: Fraction
    shift: Fraction
    regular: bool
    reads: Positions

    def read(self, runs: Runs) -> Runs:
        """The input positions that outputs in ``runs`` read, continued beyond the table.

        Where the table is too short or too odd to show a period, the narrowest band along the slope that holds it.
        """
        if self.regular:
            return join(span for first, last in runs for o in range(first, last + 1) for span in self._at(o))
        lowest, highest = self.reads[0].tolist(), np.where(self.reads == _NONE, -1, self.reads).max(0).tolist()
        line = [o * self.slope + self.shift for o in range(len(lowest))]
        below = max((at - low for at, low in zip(line, lowest, strict=True) if low != _NONE), default=Fraction(0))
        above = max((high - at for at, high in zip(line, highest, strict=True) if high >= 0), default=Fraction(0))
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
        start = self.reads.shape[1] // 2 - period // 2
        base = start + (o - start) % period
        taps = join((i, i) for i in self.reads[:, base].tolist() if i != _NONE)
        return move(taps, (o - base) // period * self.slope.numerator)


def read_table(index: Positions, weight: npt.NDArray[np.floating[Any]], size: int) -> Resampling:
    """Read the tables of one axis with ``size`` input positions."""
    reads = np.sort(np.where(weight != 0, index, _NONE), 0)
    reads[1:][reads[1:] == reads[:-1]] = _NONE
    reads = np.sort(reads, 0)
    outputs = index.shape[1]
    centre = (index * weight.astype(np.float64)).sum(axis=0) / np.where(weight.sum(axis=0) == 0, 1, weight.sum(axis=0))
    slope, regular = _fit_slope(centre, size, reads)
    residue = centre - np.arange(outputs) * float(slope)
    shift = Fraction(float(np.median(residue))).limit_denominator(max(2 * slope.denominator * slope.numerator, 2))
    return Resampling(slope, shift, regular, reads)


def _fit_slope(centre: Floats, size: int, reads: Positions) -> tuple[Fraction, bool]:
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
        if _repeats(slope, size, reads):
            return slope, True
    if ((reads != _NONE).sum(0) == 1).all():
        return candidates[0], False
    positions = np.arange(outputs)

    def spread(slope: Fraction) -> float:
        residue = centre - positions * float(slope)
        return float(np.median(np.abs(residue - np.median(residue))))

    best = min(spread(slope) for slope in candidates)
    return next(slope for slope in candidates if spread(slope) <= best + 1e-9), False


def _repeats(slope: Fraction, size: int, reads: Positions) -> bool:
    """Whether every output reads what the one a period before reads, moved, where neither is near an end."""
    period, advance = slope.denominator, slope.numerator
    if reads.shape[1] < 3 * period or (reads[0] == _NONE).any():
        return False
    before, after = reads[:, :-period], reads[:, period:]
    inside = (before[0] > 0) & (np.where(after == _NONE, -1, after).max(0) < size - 1)
    moved = np.where(before == _NONE, _NONE, before + np.where(before == _NONE, 0, advance))
    return bool(inside.any() and (moved == after)[:, inside].all())
