from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from tests.machines import MACHINES, NEON, V3
from tests.runtime.ring import Kernels, make_table, run_ring

from omniconv.errors import SpecError
from omniconv.runtime import driver, threads
from omniconv.runtime.threads import Team, load_driver
from omniconv.target.model import Target


@pytest.mark.parametrize("units", [0, 1, 2, 3, 5, 7, 8, 100])
@pytest.mark.parametrize("grain", [0, 1, 3, 1000])
def test_shares_cover_every_unit_once(team: Team, kernels: Kernels, units: int, grain: int) -> None:
    counts = np.zeros(units + 1, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, units, grain)])
    for _ in range(20):
        team.run(table.ctypes.data, 1)
    assert counts.tolist() == [20] * units + [0]


@pytest.mark.parametrize("grain", [0, 1, 2, 1000])
def test_no_one_takes_more_than_the_grain(team: Team, kernels: Kernels, grain: int) -> None:
    units = 100
    ends = np.full(units + 1, -1, np.int64)
    args = np.array([ends.ctypes.data], np.int64)
    table = make_table([(kernels.share.address, args.ctypes.data, units, grain)])
    team.run(table.ctypes.data, 1)
    parts = [(begin, int(end)) for begin, end in enumerate(ends) if end >= 0]
    assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
    assert parts[-1][1] == units
    owners = {units * t // team.threads for t in range(team.threads)}
    assert owners <= {begin for begin, _ in parts}
    if team.threads > 1:
        most = grain or -(-(units // -team.threads) // -driver.PARTS)
        assert max(end - begin for begin, end in parts) <= most


def test_steps_follow_one_another(team: Team, kernels: Kernels) -> None:
    for size in (1, 2, team.threads, 29):
        values, wrong = run_ring(team, kernels, 501, size)
        assert wrong == 0
        assert values.tolist() == [501] * size


@pytest.mark.parametrize("count", [2, 4])
def test_a_hundred_thousand_steps(count: int, kernels: Kernels) -> None:
    team = Team(count)
    values, wrong = run_ring(team, kernels, 100_000, 8)
    assert wrong == 0
    assert values.tolist() == [100_000] * 8
    team.close()


def test_many_short_runs(team: Team, kernels: Kernels) -> None:
    counts = np.zeros(16, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, 16, 0)])
    for _ in range(2000):
        team.run(table.ctypes.data, 1)
    assert counts.tolist() == [2000] * 16


@pytest.mark.parametrize("idle", [0.0, 5.0])
def test_workers_wake_up_again(idle: float, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_US", idle)
    team = Team(2)
    for pause in [0.0, 0.00001, 0.00003, 0.0001, 0.001, 0.02] * 30:
        time.sleep(pause)
        values, wrong = run_ring(team, kernels, 3, 5)
        assert (wrong, values.tolist()) == (0, [3] * 5)
    team.close()


def test_no_steps_is_nothing(team: Team, kernels: Kernels) -> None:
    """Nothing is written, and the team works as before."""
    times = np.full(2, -1, np.int64)
    team.run(0, 0, times.ctypes.data)
    assert times[1] == -1
    values, wrong = run_ring(team, kernels, 3, 5)
    assert (wrong, values.tolist()) == (0, [3] * 5)


def test_times_rise_and_are_seconds(team: Team, kernels: Kernels) -> None:
    counts = np.zeros(100_000, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, 100_000, 0)] * 5)
    times = np.full(7, -1, np.int64)
    before = time.monotonic()
    team.run(table.ctypes.data, 5, times.ctypes.data)
    after = time.monotonic()
    assert times[6] == -1
    assert (np.diff(times[:6]) > 0).all()
    assert (times[5] - times[0]) * team.tick_seconds <= after - before
    if sys.platform == "linux":
        assert before <= times[0] * team.tick_seconds
        assert times[5] * team.tick_seconds <= after


@pytest.mark.parametrize("wrong", [0, -1, 1025, True])
def test_team_sizes(wrong: int) -> None:
    with pytest.raises(SpecError, match="from 1 to 1024"):
        Team(wrong)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX signals")
def test_signals_do_not_disturb_a_run(kernels: Kernels) -> None:
    caught: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda number, _: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        team = Team(2)
        for _ in range(200):
            time.sleep(0.0004)
            values, wrong = run_ring(team, kernels, 200, 9)
            assert (wrong, values.tolist()) == (0, [200] * 9)
        team.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert caught


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_comes_after_the_run(kernels: Kernels) -> None:
    counts = np.zeros(2_000_000, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, counts.size, 0)] * 200)
    team = Team(2)
    team.run(table.ctypes.data, 1)
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))

    def run_on_and_on() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            team.run(table.ctypes.data, 200)

    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_on_and_on()
    timer.join()
    assert not ((counts - 1) % 200).any()
    assert run_ring(team, kernels, 5, 9)[1] == 0
    team.close()


def test_a_machine_with_one_processor(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count_cpus", lambda: 1)
    team = Team(3)
    values, wrong = run_ring(team, kernels, 300, 9)
    assert (wrong, values.tolist()) == (0, [300] * 9)
    assert team._control is not None
    assert team._control.words[driver.BARRIER_SPINS] == 0
    team.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no thread affinity")
def test_one_allowed_processor(kernels: Kernels) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        team = Team(3)
        values, wrong = run_ring(team, kernels, 300, 9)
        assert (wrong, values.tolist()) == (0, [300] * 9)
        team.close()
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or threads.count_cpus() < 2, reason="needs two processors")
def test_workers_keep_off_the_processor_of_the_caller(kernels: Kernels) -> None:
    allowed = os.sched_getaffinity(0)
    team = Team(2)
    run_ring(team, kernels, 3, 9)
    assert team._control is not None
    worker = team._control.workers[0].native_id
    assert worker is not None
    try:
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(0, {cpu})
            run_ring(team, kernels, 3, 9)
            assert os.sched_getaffinity(worker) == allowed - {cpu}
    finally:
        os.sched_setaffinity(0, allowed)
    team.close()


@pytest.mark.parametrize("target", [V3, NEON, MACHINES["risc-v"]], ids=lambda target: target.triple)
@pytest.mark.parametrize("clock", ["posix", "mac", "windows"])
def test_the_driver_is_valid_for_every_system(target: Target, clock: str) -> None:
    import llvmlite.binding as llvm

    llvm.parse_assembly(driver.emit_driver("f", target.traits.pause, clock), context=llvm.create_context()).verify()


def test_pauses_are_measured() -> None:
    assert threads.pauses_per_us() > 0
    entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(load_driver().address)
    assert entry(None, -1, 1) == 0


def test_a_job_binds_the_arrays_of_the_caller(team: Team) -> None:
    """Each word gets the address of its array's elements, plus the offset, whatever arrays the job ran with before."""
    words = np.zeros(3, np.int64)
    place = words.ctypes.data
    job = threads.Job(arrays=2, bindings=[(place, 0, 0), (place + 8, 1, 64), (place + 16, 0, 4)])
    for size in (0, 5, 1000):
        first, second = np.zeros(size, np.float32), np.zeros((size, 2))[1:]
        job.arrays[0], job.arrays[1] = id(first), id(second)
        team.run_job(job)
        at, other = (array.__array_interface__["data"][0] for array in (first, second))
        assert words.tolist() == [at, other + 64, at + 4]


def test_each_thread_is_told_where_its_own_memory_is(team: Team, kernels: Kernels) -> None:
    """So far behind that of the thread before it as the job says, whichever units it takes."""
    many = team.threads
    found, count = np.full(many, -1, np.int64), np.zeros(1, np.int64)
    args = np.array([found.ctypes.data, count.ctypes.data, many], np.int64)
    table = make_table([(kernels.meet.address, args.ctypes.data, many, 1)])
    team.run_job(threads.Job(table.ctypes.data, 1, own=192))
    assert sorted(found.tolist()) == [192 * thread for thread in range(many)]
