"""Intervals by bootstrap: what is measured is drawn again, with replacement, and the middle 95 % of the results count.

Accuracies are drawn anew in both ways that they vary: over the seeds, and over the images of the test. All kinds are
drawn with the same seeds and images, so that differences are paired.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.analysis import Record
from omniconv.records import dataclass

Float64 = npt.NDArray[np.float64]

DRAWS: Final = 2000
LEVEL: Final = 0.95
_CHUNK: Final = 2**22
"""Numbers held at once."""


@dataclass(frozen=True, slots=True)
class Spread(Record):
    """A value, and the bounds within which the middle of the draws lie."""

    value: float
    low: float
    high: float


def interval(value: float, draws: Float64, level: float = LEVEL) -> Spread:
    """The percentiles of draws.

    Example:
        >>> interval(0.5, np.linspace(0, 1, 101), 0.9)
        Spread(value=0.5, low=0.05, high=0.95)
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Spread(float(value), round(float(low), 12), round(float(high), 12))


def resample_accuracies(right: npt.NDArray[np.bool_], seed: int = 0, draws: int = DRAWS) -> Float64:
    """Mean accuracies of each kind, ``(draws, kinds)``, over seeds and images drawn with replacement.

    Args:
        right: whether a network of a kind and a seed names an image rightly, ``(kinds, seeds, images)``.
        seed: of the draws.
        draws: how many.
    """
    kinds, seeds, images = right.shape
    rng = np.random.default_rng([seed, 2])
    flat = right.reshape(kinds * seeds, images).T.astype(np.float32)
    found = np.empty((draws, kinds))
    step = max(1, _CHUNK // images)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        of_images = rng.multinomial(images, np.full(images, 1 / images), count).astype(np.float32)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count)
        sums = (of_images @ flat).reshape(count, kinds, seeds).astype(np.float64)
        found[start : start + count] = np.einsum("dks,ds->dk", sums, of_seeds) / (images * seeds)
    return found


def resample_rows(values: Float64, seed: int = 0, draws: int = DRAWS) -> Float64:
    """The rows of an array drawn with replacement, ``(draws, rows, ...)``: the same rows for all columns."""
    rng = np.random.default_rng([seed, 3])
    rows = len(values)
    return np.asarray(values[rng.integers(0, rows, (draws, rows))])


def compare_means(values: Float64, seed: int = 0, level: float = LEVEL) -> Spread:
    """The mean of the rows."""
    return interval(float(values.mean()), resample_rows(values, seed).mean(axis=1), level)


def compare_times(above: Float64, below: Float64, seed: int = 0) -> Spread:
    """The ratio of two median times, whose rounds were measured in turns and are drawn together.

    Example:
        >>> compare_times(np.full(9, 3.0), np.full(9, 2.0))
        Spread(value=1.5, low=1.5, high=1.5)
    """
    both = np.stack([above, below], axis=1)
    medians = np.median(resample_rows(both, seed), axis=1)
    value = float(np.median(above) / np.median(below))
    return interval(value, medians[:, 0] / medians[:, 1])


def compare_sums(parts: Float64, above: int, below: int, seed: int = 0) -> Spread:
    """The ratio of the sums of two columns over rows that are drawn together."""
    sums = resample_rows(parts[:, [above, below]], seed).sum(axis=1)
    totals = parts.sum(axis=0)
    return interval(float(totals[above] / totals[below]), sums[:, 0] / sums[:, 1])
