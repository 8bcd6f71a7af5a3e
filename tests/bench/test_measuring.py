from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from omniconv.bench.interleave import SETTLE_STEP, Timing, await_quiet, interleave
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


def test_a_pause_lasts_until_other_threads_sleep():
    """A thread that spins is waited for, but no longer than the limit."""
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            pass

    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        time.sleep(seconds)
        if len(pauses) == 4:
            stop.set()
            worker.join()

    worker = threading.Thread(target=spin)
    worker.start()
    try:
        await_quiet(1.0, sleep)
        assert 4 < len(pauses) < 100
    finally:
        stop.set()
    pauses.clear()
    await_quiet(SETTLE_STEP, pauses.append)
    assert len(pauses) == 1
