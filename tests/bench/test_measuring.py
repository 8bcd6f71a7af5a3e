from __future__ import annotations

import numpy as np
import pytest

from omniconv.bench.interleave import Timing, interleave
from omniconv.bench.machine import describe_machine
from omniconv.bench.workload import max_difference, max_magnitude


class Clock:
    """Advances only when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_turns_rotate_and_every_timed_call_follows_an_untimed_one():
    clock, order = Clock(), []

    def call(name, seconds):
        def run():
            order.append(name)
            clock.now += seconds

        return run

    timings = interleave({"a": call("a", 1.0), "b": call("b", 3.0)}, rounds=3, seconds=0, warm_up=1, clock=clock)
    assert "".join(order) == "ab" + "aabb" + "bbaa" + "aabb"
    assert timings["a"].seconds == (1.0,) * 3
    assert timings["b"].median == 3.0


def test_it_measures_until_both_rounds_and_seconds_are_done():
    clock, shares = Clock(), []

    def call():
        clock.now += 0.25

    timings = interleave(
        {"a": call}, rounds=2, seconds=2.0, warm_up=0, clock=clock, on_round=lambda _, s: shares.append(s)
    )
    assert len(timings["a"].seconds) == 4
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert len(interleave({"a": call}, rounds=7, seconds=0.1, clock=clock)["a"].seconds) == 7


def test_statistics():
    timing = Timing("a", (4.0, 1.0, 2.0, 3.0, 100.0))
    assert timing.median == 3.0
    assert timing.fastest == 1.0
    assert timing.as_dict()["median_ms"] == 3000.0
    assert Timing("a", (1.0,)).spread == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([np.inf, np.nan], [np.inf, np.nan], 0.0),
        ([np.inf, 0.0], [-np.inf, 0.0], np.inf),
        ([np.nan], [0.0], np.inf),
        ([], [], 0.0),
        ([1.0], [1.0, 1.0], np.inf),
    ],
)
def test_differences(ours, theirs, difference):
    assert max_difference([np.array(ours)], [np.array(theirs)]) == difference


def test_missing_outputs_differ():
    assert max_difference([np.zeros(1)], []) == np.inf
    assert max_difference([np.zeros(1, np.float32)], [np.zeros(1, np.int64)]) == np.inf


def test_magnitude_counts_finite_values():
    assert max_magnitude([np.array([-3.0, np.inf, np.nan]), np.array([])]) == 3.0


def test_a_report_says_where_its_numbers_come_from():
    machine = describe_machine(2)
    assert machine["cpu"]
    assert machine["threads"] == 2
    assert "numpy" in machine["versions"]
