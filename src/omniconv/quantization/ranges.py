r"""The range of a tensor that 8 bits are spread over: four rules, each from a histogram.

Every range holds 0, so that 0 (a padding, the floor of a ReLU) is represented exactly, and lies within the smallest
and the largest value. With ``s = (high - low) / 255`` a value becomes ``q(x) = low + s round((min(max(x, low), high)
- low) / s)``.

minmax
    ``low = min(x, 0)``, ``high = max(x, 0)``: nothing is cut off.
percentile
    ``high`` is the smallest end of a bin above which at most ``(1 - p / 100) n`` of all ``n`` values lie; ``low`` is
    found in the same way from below.
entropy
    The least Kullback-Leibler divergence :math:`\sum_i P_i \log(P_i / Q_i)`. ``P`` are the counts of the bins whose
    centres lie in the range, what was cut off added to the first and the last of them; ``Q`` is the same without
    what was cut off, after rounding: the mass of each of the 256 levels is shared equally by the bins of it that are
    not empty in ``P``. Both are scaled to 1; where ``Q`` has nothing, it counts as :data:`EMPTY`.
mse
    The least mean of ``(x - q(x))²``, every value in the middle of its bin.

Exact zeros, which every range represents, count for none of the last two. Both search along lines: first ``high`` among
:data:`STEPS` even fractions of its largest value, with the lowest ``low``, then ``low`` likewise with that ``high``. Of
equal candidates the widest is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.quantization.histogram import Histogram

RANGES: Final = ("minmax", "percentile", "entropy", "mse")
LEVELS: Final = 256
STEPS: Final = 128
"""Candidates of each end of a range."""
EMPTY: Final = 1e-9

Range: TypeAlias = tuple[float, float]
Loss: TypeAlias = Callable[[float, float], float]


def find_range(histogram: Histogram, rule: str, percentile: float = 99.99) -> Range:
    """The range of a tensor.

    Args:
        histogram: of its values.
        rule: one of :data:`RANGES`.
        percentile: ``p`` of the rule of that name [%].
    """
    widest = (min(histogram.low, 0.0), max(histogram.high, 0.0))
    if rule == "minmax" or not histogram.counts.any():
        return widest
    if rule == "percentile":
        return _cut_tails(histogram, percentile, widest)
    return _search(_divergence(histogram) if rule == "entropy" else _squared_error(histogram), widest)


def _cut_tails(histogram: Histogram, percentile: float, widest: Range) -> Range:
    allowed = (1 - percentile / 100) * histogram.count
    edges, counts = histogram.edges, histogram.counts
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)  # values from each edge on
    below = np.append(0, np.cumsum(counts))  # values before each edge
    zeros = histogram.zeros
    high = edges[np.flatnonzero(above + zeros * (edges <= 0) <= allowed)[0]]
    low = edges[np.flatnonzero(below + zeros * (edges > 0) <= allowed)[-1]]
    return max(min(float(low), 0.0), widest[0]), min(max(float(high), 0.0), widest[1])


def _search(loss: Loss, widest: Range) -> Range:
    low, high = widest
    fractions = [step / STEPS for step in range(STEPS, 0, -1)]
    if high > 0:
        high = min((high * part for part in fractions), key=lambda end: loss(low, end))
    if low < 0:
        low = min((low * part for part in fractions), key=lambda end: loss(end, high))
    return low, high


def _squared_error(histogram: Histogram) -> Loss:
    x, counts = histogram.centres, histogram.counts.astype(np.float64)
    kept = counts > 0
    x, counts = x[kept], counts[kept]

    def loss(low: float, high: float) -> float:
        scale = (high - low) / (LEVELS - 1)
        inside = np.clip(x, low, high)
        error = x - (low + scale * np.rint((inside - low) / scale))
        return float(counts @ (error * error))

    return loss


def _divergence(histogram: Histogram) -> Loss:
    x, counts = histogram.centres, histogram.counts.astype(np.float64)

    def loss(low: float, high: float) -> float:
        first, last = np.searchsorted(x, (low, high), side="left")
        last = min(max(int(last), int(first) + 1), x.size)
        first = min(int(first), last - 1)
        inside = counts[first:last]
        p: npt.NDArray[np.float64] = inside.copy()
        p[0] += counts[:first].sum()
        p[-1] += counts[last:].sum()
        scale = (high - low) / (LEVELS - 1)
        level = np.clip(np.rint((x[first:last] - low) / scale), 0, LEVELS - 1).astype(np.int64)
        kept = p > 0
        mass = np.bincount(level, inside, LEVELS)
        shared = np.bincount(level[kept], minlength=LEVELS)
        q = mass[level[kept]] / shared[level[kept]]
        if not q.any():
            return float("inf")
        p = p[kept] / p.sum()
        q = np.maximum(q / q.sum(), EMPTY)
        return float(p @ np.log(p / q))

    return loss
