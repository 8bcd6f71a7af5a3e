"""`Team`: threads that run a table of steps together, and a pool of them.

The workers of a team are Python threads that stay in native code (see :mod:`omniconv.runtime.driver`): they never take
the interpreter lock, and the caller gives it up for the whole run. A run cannot be interrupted half-way; an interrupt
that comes meanwhile is raised when it is over.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.build import Kernel, load
from omniconv.compiler.cache import open_cache
from omniconv.compiler.target import select_target
from omniconv.errors import SpecError
from omniconv.runtime import driver
from omniconv.runtime.system import count_cpus, current_cpu, detect_system, free_semaphore, make_semaphore

MAX_THREADS: Final = 1024
MAX_IDLE: Final = max(16, 4 * count_cpus())
"""Threads that sleep in the pool for the next caller, about."""
IDLE_US: Final = 300.0
"""How long a worker spins for the next run before it sleeps [us]."""
BARRIER_US: Final = 20.0
"""How long a thread spins for the end of a step before it gives its processor to others, again and again [us]."""

_ENTRY: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@dataclass(slots=True, eq=False)
class _Control:
    """The control block of running workers: its memory, its words, and the code that works on it."""

    memory: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    address: int
    kernel: Kernel
    entry: ctypes._CFunctionType = field(repr=False)
    workers: list[threading.Thread] = field(default_factory=list)
    allowed: frozenset[int] = frozenset()
    avoided: int = -1
    counters: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    capacity: int = 0

    def spread(self) -> None:
        """Keep the workers off the processor that the caller runs on, where the system lets us say so.

        A system that wakes a thread on the processor of the one that woke it makes them take turns, until it notices
        after some milliseconds that the other processors are idle.
        """
        cpu = current_cpu()
        if cpu == self.avoided or not self.allowed:
            return
        others = self.allowed - {cpu}
        if len(others) < len(self.workers):
            return
        self.avoided = cpu
        try:
            for worker in self.workers:
                if worker.native_id is not None:
                    os.sched_setaffinity(worker.native_id, others)
        except OSError:  # the set of processors was changed from outside: leave them where they are
            self.allowed = frozenset()

    def reserve(self, steps: int) -> None:
        """Make room for the counters of so many steps. Between runs only."""
        if steps > self.capacity:
            threads = int(self.words[driver.THREADS])
            self.capacity = max(steps, 2 * self.capacity)
            self.counters = np.zeros(self.capacity * (threads + 1) * driver.LINE + driver.LINE, np.int64)
            self.words[driver.COUNTERS] = self.counters.ctypes.data + -self.counters.ctypes.data % (8 * driver.LINE)

    def stop(self) -> None:
        """Tell the workers to leave. Between runs only; to be called once."""
        self.words[driver.STOP], self.words[driver.STEPS] = 1, 0
        self.entry(self.address, 0, 0)

    def join(self, timeout: float = 2.0) -> None:
        """Wait until the workers have left."""
        deadline = time.monotonic() + timeout
        for worker in self.workers:
            worker.join(max(deadline - time.monotonic(), 0.0))


class Team:
    """A caller and ``threads - 1`` workers. The workers start with the first run; one run goes at a time.

    Args:
        threads: how many share the work, the caller included.
    """

    def __init__(self, threads: int) -> None:
        if isinstance(threads, bool) or not 1 <= threads <= MAX_THREADS:
            raise SpecError(f"threads={threads!r} is out of range", need=f"from 1 to {MAX_THREADS}")
        self.threads = threads
        self._lock = threading.Lock()
        self._control: _Control | None = None
        self._finalizer: weakref.finalize[[], Team] | None = None
        _teams.add(self)

    def forget(self) -> None:
        """Leave the workers alone and go on without: after a fork, in the child, where there are none."""
        self.detach()
        self._lock = threading.Lock()

    def detach(self) -> _Control | None:
        """Take the workers from the team; whoever gets them has to stop them."""
        control, finalizer = self._control, self._finalizer
        self._control = self._finalizer = None
        return control if finalizer is not None and finalizer.detach() else None

    @property
    def tick_seconds(self) -> float:
        """Length of one unit of the times that :meth:`run` writes [s]."""
        return detect_system().tick_seconds

    def run(self, table: int, steps: int, times: int = 0) -> None:
        """Run a table of steps, and return when every thread is done with it.

        Args:
            table: address of ``steps`` records of :data:`driver.STEP_WORDS` words.
            steps: number of records.
            times: address of ``steps + 1`` words, or 0. The caller writes the time before the first step and after
                each step, in units of :attr:`tick_seconds`.
        """
        if steps < 1:
            return
        with self._lock:
            control = self._start() if self._control is None else self._control
            control.spread()
            words = control.words
            control.reserve(steps)
            words[driver.TABLE], words[driver.STEPS], words[driver.TIMES] = table, steps, times
            control.entry(control.address, 0, 0)

    def close(self) -> None:
        """Stop the workers and wait until they are gone. A later run starts new ones."""
        with self._lock:
            control = self.detach()
            if control is not None:
                control.stop()
                control.join()

    def _start(self) -> _Control:
        control = _make_control(self.threads)
        try:
            for thread in range(1, self.threads):
                worker = threading.Thread(target=_serve, args=(control, thread), name=f"omniconv-{thread}", daemon=True)
                worker.start()
                control.workers.append(worker)
        except RuntimeError:  # no more threads: those that did start must not wait for ever
            control.stop()
            raise
        self._finalizer = weakref.finalize(self, control.stop)
        self._finalizer.atexit = False
        if hasattr(os, "sched_getaffinity") and self.threads > 1:
            control.allowed = frozenset(os.sched_getaffinity(0))
        self._control = control
        return control


class SoloRun:
    """A table of steps that one thread runs again and again; all that can be set up beforehand is.

    Args:
        table, steps: as for :meth:`Team.run`; the table has to live as long as this object.
    """

    __slots__ = ("_address", "_control", "_entry")

    def __init__(self, table: int, steps: int) -> None:
        self._control = _make_control(1)
        self._entry, self._address = self._control.entry, self._control.address
        words = self._control.words
        words[driver.TABLE], words[driver.STEPS] = table, steps

    def __call__(self, times: int = 0) -> None:
        """Run the table once."""
        if times:
            self._control.words[driver.TIMES] = times
            self._entry(self._address, 0, 0)
            self._control.words[driver.TIMES] = 0
        else:
            self._entry(self._address, 0, 0)


def _serve(control: _Control, thread: int) -> None:
    """A worker: native code until it is told to stop. Holds the control block, but not the team."""
    control.entry(control.address, thread, 0)
    free_semaphore(int(control.words[driver.WORKERS + thread * driver.LINE + driver.SEMAPHORE]))


def _make_control(threads: int) -> _Control:
    kernel, system = load_driver(), detect_system()
    memory = np.zeros(driver.WORKERS + (threads + 1) * driver.LINE, np.int64)
    skip = -memory.ctypes.data % (8 * driver.LINE) // 8
    words = memory[skip:]
    control = _Control(memory, words, words.ctypes.data, kernel, _ENTRY(kernel.address))
    pauses = pauses_per_us()
    crowded = threads > count_cpus()  # then whoever is waited for needs this very processor
    words[driver.THREADS] = threads
    words[driver.IDLE_SPINS] = 0 if crowded else int(IDLE_US * pauses)
    words[driver.BARRIER_SPINS] = 0 if crowded else int(BARRIER_US * pauses)
    words[driver.WAIT], words[driver.POST], words[driver.YIELD] = system.wait, system.post, system.give
    words[driver.CLOCK] = system.clock
    for thread in range(1, threads):
        line = driver.WORKERS + thread * driver.LINE
        words[line + driver.SEMAPHORE] = make_semaphore(control.address + 8 * (line + driver.ROOM))
    return control


@lru_cache(maxsize=1)
def load_driver() -> Kernel:
    """The driver's machine code; it stays for the life of the process."""
    target = select_target()
    return load([driver.driver_source(target, detect_system().clock_kind)], target, cache=open_cache())[0]


@lru_cache(maxsize=1)
def pauses_per_us() -> float:
    """Pause instructions in a microsecond: 10 to 300, by processor."""
    entry, count, best = _ENTRY(load_driver().address), 500, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        entry(None, -1, count)
        best = min(best, time.perf_counter() - start)
    return count / (best * 1e6)


_teams: Final[weakref.WeakSet[Team]] = weakref.WeakSet()
_idle: Final[dict[int, deque[Team]]] = {}  # pop and append are atomic: no lock that a fork could copy


@contextmanager
def acquire_team(threads: int) -> Iterator[Team]:
    """A team that nobody else uses, for the duration of a ``with`` block; made if all are busy.

    Example:
        >>> with acquire_team(1) as team:
        ...     team.threads
        1
    """
    team = _take_team(threads)
    try:
        yield team
    finally:
        _release_team(team)


def _take_team(threads: int) -> Team:
    try:
        return _idle[threads].pop()
    except LookupError:
        return Team(threads)


def run_on_team(threads: int, table: int, steps: int, times: int = 0) -> None:
    """:meth:`Team.run` on a team that nobody else uses: :func:`acquire_team` without what a ``with`` block costs."""
    team = _take_team(threads)
    try:
        team.run(table, steps, times)
    finally:
        _release_team(team)


def _release_team(team: Team) -> None:
    """Put a team back into the pool, unless more than :data:`MAX_IDLE` threads would wait there."""
    waiting = 0
    for size, teams in list(_idle.items()):
        waiting += size * len(teams)
    if waiting + team.threads <= max(MAX_IDLE, team.threads):
        _idle.setdefault(team.threads, deque()).append(team)
    else:
        team.close()


def _forget_after_fork() -> None:
    """In the child of a fork no worker is left: teams that it inherits start their own when they run."""
    _idle.clear()
    for team in list(_teams):
        team.forget()


@atexit.register
def _stop_all() -> None:
    """Stop every worker while the interpreter can still wait for it."""
    _idle.clear()
    controls = [control for team in list(_teams) if (control := team.detach()) is not None]
    for control in controls:
        control.stop()
    for control in controls:
        control.join(0.5)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
