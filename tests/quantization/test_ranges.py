"""Histograms and ranges, against what brute force finds in all values at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from omniconv.errors import DataError
from omniconv.quantization.histogram import MOST_BINS, Histogram
from omniconv.quantization.ranges import EMPTY, LEVELS, RANGES, STEPS, find_range

RNG = np.random.default_rng(0)
DATA = {
    "normal": RNG.standard_normal(4000),
    "relu": np.maximum(RNG.standard_normal(3000), 0) * 3,
    "outlier": np.append(RNG.standard_normal(2000) * 0.1, [50.0]),
    "negative": -RNG.exponential(2.0, 1500),
    "constant": np.full(100, 0.75),
    "tiny": RNG.standard_normal(500) * 1e-20,
    "wide": RNG.standard_normal(800) * np.exp2(RNG.integers(-20, 20, 800)),
    "far": RNG.uniform(7, 8, 700),
}


def make(x, parts=1):
    found = Histogram("x")
    for part in np.array_split(x.astype(np.float32), parts):
        found.add(part)
    return found


@pytest.mark.parametrize("name", DATA)
def test_bins_are_those_of_all_values_at_once_in_any_order(name):
    x = DATA[name].astype(np.float32)
    one, many, turned = make(x), make(x, 7), make(x[::-1], 3)
    for other in (many, turned):
        assert (other.exponent, other.first, other.zeros, other.count) == (one.exponent, one.first, one.zeros, x.size)
        assert np.array_equal(other.counts, one.counts)
    kept = x[x != 0].astype(np.float64)
    counts = np.histogram(kept, one.edges)[0]
    assert kept.max() < one.edges[-1]  # NumPy's last bin holds its end as well
    assert np.array_equal(one.counts, counts)
    assert one.counts.size <= MOST_BINS + 1
    assert one.counts.sum() + one.zeros == x.size
    # The smallest width that fits: half of it would need more bins.
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    half = 2.0 ** (one.exponent - 1)
    assert math.floor(high / half) - math.floor(low / half) >= MOST_BINS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_name_their_tensor(value):
    found = Histogram("conv7/out", (-3.0, 3.0))
    with pytest.raises(DataError, match=r"tensor 'conv7/out' has 1 values of 3 that are NaN or infinite"):
        found.add(np.array([1, value, 2], np.float32))


def test_nothing_but_zeros():
    found = make(np.zeros(10))
    assert (found.zeros, found.low, found.high) == (10, 0, 0)
    assert {find_range(found, rule) for rule in RANGES} == {(0.0, 0.0)}


def squared_error(x, counts, low, high):
    total = 0.0
    scale = (high - low) / (LEVELS - 1)
    for value, count in zip(x, counts, strict=True):
        level = round((min(max(value, low), high) - low) / scale)
        total += count * (value - (low + level * scale)) ** 2
    return total


def divergence(x, counts, low, high):
    """By loops over bins and levels, as the definition reads."""
    inside = [n for n, value in enumerate(x) if low <= value < high] or [min(int(np.searchsorted(x, low)), len(x) - 1)]
    p = {n: float(counts[n]) for n in inside}
    p[inside[0]] += sum(counts[: inside[0]])
    p[inside[-1]] += sum(counts[inside[-1] + 1 :])
    scale = (high - low) / (LEVELS - 1)
    level = {n: min(max(round((x[n] - low) / scale), 0), LEVELS - 1) for n in inside}
    q = {}
    for n in inside:
        if p[n] > 0:
            same = [m for m in inside if level[m] == level[n]]
            q[n] = sum(counts[m] for m in same) / sum(1 for m in same if p[m] > 0)
    if not any(q.values()):
        return math.inf
    wanted, found = sum(p.values()), sum(q.values())
    return sum(p[n] / wanted * math.log(p[n] / wanted / max(q[n] / found, EMPTY)) for n in q)


def search(loss, histogram):
    x, counts = histogram.centres.tolist(), histogram.counts.tolist()
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    parts = [step / STEPS for step in range(STEPS, 0, -1)]
    if high > 0:
        losses = [loss(x, counts, low, high * part) for part in parts]
        high *= parts[losses.index(min(losses))]
    if low < 0:
        losses = [loss(x, counts, low * part, high) for part in parts]
        low *= parts[losses.index(min(losses))]
    return low, high


@pytest.mark.parametrize(("rule", "loss"), [("mse", squared_error), ("entropy", divergence)])
@pytest.mark.parametrize("name", ["relu", "outlier"])
def test_searched_ranges_are_the_best_that_brute_force_finds(rule, loss, name, monkeypatch):
    monkeypatch.setattr("omniconv.quantization.histogram.MOST_BINS", 400)  # loops over fewer bins
    monkeypatch.setattr("omniconv.quantization.ranges.STEPS", 16)
    monkeypatch.setitem(globals(), "STEPS", 16)
    histogram = make(DATA[name])
    wanted, found = search(loss, histogram), find_range(histogram, rule)
    x, counts = histogram.centres.tolist(), histogram.counts.tolist()
    assert loss(x, counts, *found) == pytest.approx(loss(x, counts, *wanted), rel=1e-9)
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("percent", [99.0, 99.9, 100.0])
def test_percentiles_cut_no_more_than_allowed_and_no_less_than_a_bin(name, percent):
    x = DATA[name].astype(np.float32)
    histogram = make(x)
    low, high = find_range(histogram, "percentile", percent)
    allowed = (1 - percent / 100) * x.size
    size = 2.0**histogram.exponent
    assert (x > high).sum() <= allowed
    assert (x < low).sum() <= allowed
    if 0 < high < x.max():
        assert (x >= high - size).sum() > allowed
    if x.min() < low < 0:
        assert (x < low + size).sum() > allowed


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("rule", RANGES)
def test_every_range_holds_zero_and_lies_within_the_values(name, rule):
    histogram = make(DATA[name])
    low, high = find_range(histogram, rule)
    assert min(histogram.low, 0) <= low <= 0 <= high <= max(histogram.high, 0)
    assert low < high


def test_an_outlier_is_cut_off_by_all_rules_but_minmax():
    histogram = make(DATA["outlier"])
    tops = {rule: find_range(histogram, rule, 99.9)[1] for rule in RANGES}
    assert tops.pop("minmax") == 50
    assert tops["percentile"] < 1
    assert tops["entropy"] < 5
