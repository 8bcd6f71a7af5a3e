"""Intervals against those that are known."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.study import bootstrap
from omniconv.study.bootstrap import compare_means, compare_sums, compare_times, interval, resample_accuracies


def test_one_seed_is_the_interval_of_a_share():
    """Of n independent answers, a share p of which are right, the mean has the deviation sqrt(p (1 - p) / n)."""
    right = np.zeros((1, 1, 400), bool)
    right[0, 0, :300] = True
    draws = resample_accuracies(right, draws=8000)[:, 0]
    deviation = np.sqrt(0.75 * 0.25 / 400)
    found = interval(0.75, draws)
    # the bounds of 8,000 draws vary by about 0.03 deviations themselves, and answers come in steps of 1 / 400
    assert found.low == pytest.approx(0.75 - 1.96 * deviation, abs=0.1 * deviation + 1 / 400)
    assert found.high == pytest.approx(0.75 + 1.96 * deviation, abs=0.1 * deviation + 1 / 400)


def test_seeds_are_drawn_too():
    """Networks of which each is right on all images or on none: only the seeds vary."""
    right = np.zeros((1, 4, 10), bool)
    right[0, :2] = True
    draws = resample_accuracies(right, draws=4000)[:, 0]
    values, counts = np.unique(draws.round(9), return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    # of 4,000 draws a share varies by 0.008 at most
    assert (counts / 4000).tolist() == pytest.approx([1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], abs=0.03)


def test_kinds_are_drawn_together():
    rng = np.random.default_rng(0)
    first = rng.random((3, 200)) < 0.8
    second = first.copy()
    second[:, :10] = ~second[:, :10]
    draws = resample_accuracies(np.stack([first, first, second]))
    assert np.array_equal(draws[:, 0], draws[:, 1])
    apart = (draws[:, 2] - draws[:, 0]).std()
    assert apart < 0.7 * (draws[:, 2] - draws[::-1, 0]).std()


def test_chunks_do_not_change_the_mean(monkeypatch):
    right = np.random.default_rng(0).random((2, 3, 50)) < 0.7
    whole = resample_accuracies(right)
    monkeypatch.setattr(bootstrap, "_CHUNK", 50 * 300)
    parts = resample_accuracies(right)
    assert whole.shape == parts.shape == (bootstrap.DRAWS, 2)
    assert parts.mean(axis=0) == pytest.approx(right.mean(axis=(1, 2)), abs=0.01)


def test_means_ratios_of_sums_and_of_times():
    values = np.random.default_rng(1).normal(5, 1, 400)
    found = compare_means(values)
    assert found.low == pytest.approx(values.mean() - 1.96 / 20, abs=0.02)
    assert found.high == pytest.approx(values.mean() + 1.96 / 20, abs=0.02)
    both = np.stack([2 * values, values], axis=1)
    assert compare_sums(both, 0, 1) == bootstrap.Spread(2.0, 2.0, 2.0)
    # a slow round is slow for both, and says nothing
    noise = 1 + 5 * (np.arange(15) % 3 == 0)
    assert compare_times(1.5 * noise, 1.0 * noise).value == 1.5
    found = compare_times(1.5 * noise, 1.0 * noise)
    assert (found.low, found.high) == (1.5, 1.5)
