from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.ring import Kernels, acquire_team, make_table, run_ring

from omniconv.runtime import threads
from omniconv.runtime.threads import Team


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("omniconv-")}


@pytest.fixture
def empty_pool() -> None:
    """Without the teams that other tests left, which may fill it."""
    for teams in threads._idle.values():
        while teams:
            teams.pop().close()


def test_a_closed_team_starts_again(kernels: Kernels) -> None:
    before = workers()
    team = Team(3)
    assert workers() == before  # nothing is started for a team that never runs
    for _ in range(3):
        assert run_ring(team, kernels, 5, 9)[1] == 0
        mine = workers() - before
        assert len(mine) == 2
        team.close()
        assert not any(thread.is_alive() for thread in mine)
        team.close()


def test_a_forgotten_team_stops(kernels: Kernels) -> None:
    before = workers()
    team = Team(3)
    run_ring(team, kernels, 5, 9)
    mine, alive = workers() - before, weakref.ref(team)
    del team
    gc.collect()
    assert alive() is None
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_team_that_cannot_start_leaves_nothing_behind(
    error: type[BaseException], kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = workers()
    start, started = threading.Thread.start, []

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise error("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    team = Team(4)
    with pytest.raises(error, match="can't start"):
        run_ring(team, kernels, 5, 9)
    monkeypatch.undo()
    for thread in started:
        thread.join(10)
    assert workers() == before
    assert run_ring(team, kernels, 5, 9)[1] == 0
    team.close()


@pytest.mark.usefixtures("empty_pool")
def test_the_pool_gives_each_caller_a_team(kernels: Kernels) -> None:
    with acquire_team(2) as one, acquire_team(2) as two, acquire_team(1) as three:
        assert one is not two
        assert (one.threads, two.threads, three.threads) == (2, 2, 1)
        last = one
    with acquire_team(2) as again:
        assert again is last
    wrong: list[int] = []

    def call(number: int) -> None:
        for _ in range(60):
            with acquire_team(1 + number % 3) as team:
                values, fails = run_ring(team, kernels, 20, 11)
                if fails or values.tolist() != [20] * 11:
                    wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong
    idle = sum(size * len(teams) for size, teams in threads._idle.items())
    assert idle <= threads.MAX_IDLE + 3 * 8  # eight may put one back at once


@pytest.mark.usefixtures("empty_pool")
def test_many_callers_leave_few_threads_behind(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_IDLE", 4)
    counts = np.zeros(4, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, 4, 0)])
    gate = threading.Barrier(6)

    def call() -> None:
        job = threads.Job(table.ctypes.data, 1)
        for _ in range(20):
            gate.wait()
            threads.run_on_team(2, job)

    callers = [threading.Thread(target=call) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert counts.tolist() == [120] * 4
    assert sum(size * len(teams) for size, teams in threads._idle.items()) <= threads.MAX_IDLE + 2 * 6


def test_callers_of_one_team_take_turns(kernels: Kernels) -> None:
    team = Team(2)
    counts = np.zeros(16, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, 16, 0)])
    callers = [threading.Thread(target=lambda: [team.run(table.ctypes.data, 1) for _ in range(200)]) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert counts.tolist() == [800] * 16
    team.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_the_child_of_a_fork_has_teams_of_its_own(kernels: Kernels) -> None:
    held = Team(2)
    run_ring(held, kernels, 5, 9)
    with acquire_team(2) as team:
        run_ring(team, kernels, 5, 9)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            fine = run_ring(held, kernels, 50, 9)[1] == 0
            with acquire_team(2) as fresh:
                fine &= fresh is not team and run_ring(fresh, kernels, 50, 9)[1] == 0
            held.close()
            code = 0 if fine else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run_ring(held, kernels, 50, 9)[1] == 0
    held.close()


AT_EXIT = """
import sys, threading, time
from tests.runtime import ring as t
from omniconv.runtime.threads import Team
kernels = t.make_kernels()
team = Team(3)
assert t.run_ring(team, kernels, 50, 9)[1] == 0
with t.acquire_team(2) as other:
    t.run_ring(other, kernels, 50, 9)
def on_and_on():
    with t.acquire_team(2) as third:
        while True:
            t.run_ring(third, kernels, 50, 9)
if sys.argv[1] == "busy":
    threading.Thread(target=on_and_on, daemon=True).start()
    time.sleep(0.05)
print("done")
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_process_with_teams_ends(state: str) -> None:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, state], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
