"""Callers that come at once, go away in the middle, fork, fail, and drop what others do not use any more."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.ring import Kernels, make_table

import omniconv as oc
from omniconv.errors import ShapeError
from omniconv.graph.export import export
from omniconv.runtime import threads
from omniconv.runtime.executable import Executable
from omniconv.runtime.inputs import Array
from omniconv.runtime.threads import Job, Team, run_on_team

SPEC, SHAPE = oc.depthwise_separable(in_channels=16, out_channels=32, kernel_size=3, padding="same"), (1, 16, 24, 24)
NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def draw(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def build(many: int = 2) -> Executable:
    weights = oc.random_weights(SPEC, np.random.default_rng(0))
    found = oc.compile(SPEC, SHAPE, weights, threads=many)
    assert isinstance(found, Executable)
    return found


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many threads each job was given, of four processors."""
    found: list[int] = []
    take = threads.take_team

    def count(many: int) -> Team:
        found.append(many)
        return take(many)

    monkeypatch.setattr(threads, "take_team", count)
    monkeypatch.setattr(threads, "PROCESSORS", 4)
    yield found
    assert not threads._running


def run_at_once(callers: int, call: Callable[[int], None]) -> None:
    """Threads that all begin together; what one of them raises is raised here."""
    start = threading.Barrier(callers)
    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(lambda n: (start.wait(), call(n)), number) for number in range(callers)]:
            done.result()


@pytest.mark.parametrize(
    ("others", "asked", "taken"), [(0, 8, 8), (1, 4, 2), (1, 1, 1), (2, 4, 1), (3, 2, 1), (9, 4, 1)]
)
def test_callers_share_the_processors(
    others: int, asked: int, taken: int, sizes: list[int], kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone gets what it asks for; with others each gets its part, and every unit is done once all the same."""
    monkeypatch.setattr(threads, "_running", set(range(1, others + 1)))
    counts = np.zeros(100, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, 100, 0)] * 3)
    run_on_team(asked, Job(table.ctypes.data, 3))
    assert sizes == [taken]
    assert counts.tolist() == [3] * 100
    threads._running.difference_update(range(1, others + 1))


def test_a_job_that_fails_is_not_counted_any_more(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Team, __: Job) -> None:
        raise MemoryError

    monkeypatch.setattr(Team, "run_job", fail)
    for _ in range(3):
        with pytest.raises(MemoryError):
            run_on_team(3, Job())
    assert sizes == [3, 3, 3]


@pytest.mark.parametrize("callers", [2, 8])
def test_the_bits_of_all_callers_are_those_of_one(callers: int) -> None:
    """Whatever their part of the processors is: the plan is for three threads, and runs on three, two or one."""
    net, inputs = build(3), [draw(seed) for seed in range(callers)]
    wants = [build(1)(x) for x in inputs]

    def call(number: int) -> None:
        for _ in range(40):
            assert np.array_equal(net(inputs[number]), wants[number])

    run_at_once(callers, call)


def test_errors_of_one_caller_are_its_own() -> None:
    net, x = build(), draw(0)
    want = net(x)

    def call(number: int) -> None:
        for _ in range(40):
            if number % 2:
                with pytest.raises(ShapeError):
                    net(x[..., 1:])
            else:
                assert np.array_equal(net(x), want)

    run_at_once(4, call)


def test_executables_go_while_others_run() -> None:
    """Some callers compile, call and drop; their code and memory go, and that of the others stays."""
    net, x, gone = build(), draw(0), []
    want = net(x)

    def call(number: int) -> None:
        for turn in range(30 if number % 2 else 8):
            if number % 2:
                assert np.array_equal(net(x), want)
                continue
            spec = oc.depthwise(in_channels=4 + 2 * number + turn, kernel_size=3, padding=1)
            mine = oc.compile(spec, (1, spec.in_channels, 9, 9), oc.random_weights(spec, np.random.default_rng(turn)))
            ones = np.ones((1, spec.in_channels, 9, 9), np.float32)
            assert np.array_equal(mine(ones), mine(ones))
            gone.append(weakref.ref(mine))

    run_at_once(4, call)
    gc.collect()
    assert len(gone) == 16
    assert not any(item() for item in gone)
    assert np.array_equal(net(x), want)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("interruptible")
def test_interrupts_leave_everything_in_order() -> None:
    """Wherever they come: the next call is right, no worker is left over, and no job counts as running."""
    net, x = build(), draw(0)
    want = net(x)
    stop, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    def disturb() -> None:
        while not stop.wait(0.002):
            signal.pthread_kill(main, signal.SIGINT)

    caught, before = 0, threading.active_count()
    disturber = threading.Thread(target=disturb)
    try:
        disturber.start()
        while caught < 40:
            try:
                while True:
                    net(x)
            except KeyboardInterrupt:
                caught += 1
    except KeyboardInterrupt:  # while the last one was counted
        pass
    finally:
        while True:
            try:
                stop.set()
                disturber.join()
                break
            except KeyboardInterrupt:
                continue
    assert np.array_equal(net(x), want)
    assert not threads._running - {main}
    gc.collect()
    deadline = time.monotonic() + 10
    while (
        threading.active_count() > before + 2 and time.monotonic() < deadline
    ):  # teams that were lost stop by themselves
        time.sleep(0.01)
    assert threading.active_count() <= before + 2


def test_cancelled_calls_never_run_or_end() -> None:
    """Those of a pool that wait are dropped; one that runs goes on, and nobody is disturbed."""
    net, x = build(), draw(0)
    want = net(x)
    ran: list[bool] = []

    def call() -> None:
        ran.append(np.array_equal(net(x), want))

    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[None]] = [pool.submit(call) for _ in range(200)]
        cancelled = sum(item.cancel() for item in waiting[::2])
        pool.shutdown(cancel_futures=True)
    assert cancelled
    assert len(ran) == sum(not item.cancelled() for item in waiting)
    assert all(ran)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(lambda: [net(x) for _ in range(500)]), 0.001)
        assert np.array_equal(await asyncio.to_thread(net, x), want)

    asyncio.run(give_up())
    assert np.array_equal(net(x), want)


@NO_FORK
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_while_calls_run() -> None:
    """The child has the caller that forked alone: it starts workers of its own, shares the processors with nobody, and
    its calls are right; those of the parent go on.
    """
    net, x = build(), draw(0)
    want, stop = net(x), threading.Event()

    def call() -> None:
        while not stop.is_set():
            assert np.array_equal(net(x), want)

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(call) for _ in range(3)]
        try:
            for _ in range(8):
                child = os.fork()
                if not child:
                    signal.alarm(60)
                    fine = not threads._running and all(np.array_equal(net(x), want) for _ in range(5))
                    os._exit(0 if fine and not threads._running else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            stop.set()
        for caller in callers:
            caller.result()


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory as Linux tells it")
@pytest.mark.filterwarnings("ignore")
def test_a_short_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds of what `bench/soak.py` does for half an hour."""
    bench = Path(__file__).parents[2] / "bench"
    monkeypatch.syspath_prepend(str(bench))
    run = runpy.run_path(str(bench / "soak.py"))["run"]
    found = run(1.0, sizes=(9, 24), methods=["fork"], seed=int(os.environ.get("OMNICONV_SEED", "0")))
    assert found["calls"] > 100
    assert not found["wrong"]
    assert found["threads"]["end"] <= found["threads"]["start"] + 8
    assert found["resident_mib"]["end"] <= found["resident_mib"]["start"] + 64


_inherited: list[Executable] = []


def work(model: bytes | None, seed: int) -> bytes:
    """In another process: on what it inherits, or on what it compiles."""
    if model is not None and not _inherited:
        _inherited.append(oc.compile(model))  # type: ignore[arg-type]
    return bytes(_inherited[0](draw(seed)).tobytes())


@pytest.mark.parametrize("method", [pytest.param("fork", marks=NO_FORK), pytest.param("spawn", marks=pytest.mark.wide)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_give_the_same_bits(method: str) -> None:
    model = export(SPEC, SHAPE, oc.random_weights(SPEC, np.random.default_rng(0))).SerializeToString()
    net = oc.compile(model)
    wants = [net(draw(seed)).tobytes() for seed in range(6)]
    context: BaseContext = multiprocessing.get_context(method)
    _inherited[:] = [net] if method == "fork" else []  # type: ignore[list-item]
    try:
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            given = None if method == "fork" else model
            assert list(pool.map(work, [given] * 6, range(6))) == wants
    finally:
        _inherited.clear()
