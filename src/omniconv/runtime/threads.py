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
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import field
from functools import lru_cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.code.build import LoadedKernel, Source, begin, load
from omniconv.compiler.code.cache import open_cache
from omniconv.integers import as_integer
from omniconv.processors import MAX_THREADS, count_cpus
from omniconv.records import dataclass
from omniconv.runtime import driver
from omniconv.runtime.system import current_cpu, detect_system, free_semaphore, make_semaphore
from omniconv.target.select import select_target

PROCESSORS: Final = count_cpus()
MAX_IDLE: Final = max(16, 4 * PROCESSORS)
"""Threads that sleep in the pool for the next caller, about."""
IDLE_US: Final = 300.0
"""How long a worker spins for the next run before it sleeps [us]."""
BARRIER_US: Final = 20.0
"""How long a thread spins for the end of a step before it gives its processor to others, again and again [us]."""

_ENTRY: Final = ctypes.CFUNCTYPE(ctypes.c_int64)
"""Without the types of the arguments: objects of ctypes that were made beforehand are passed, which takes a third of
the time of converting numbers. Arrays are passed by address."""
_CALLER: Final = ctypes.c_int64(0)
_ARRAY_DATA: Final = object.__basicsize__
"""Where in a NumPy array object the address of its elements is [bytes]: it is the first member, part of NumPy's binary
interface."""


class Job:
    """A table of steps to run, and the words that hold addresses of the caller's arrays.

    Args:
        table: address of ``steps`` records of :data:`driver.STEP_WORDS` words.
        steps: number of records.
        arrays: how many arrays of the caller there are.
        bindings: rows of the address of a word, the number of an array, and an offset: before each run the address of
            the array's elements plus the offset [bytes] is written to the word.
        own: how far the memory of a thread is behind that of the one before it [bytes].

    Attributes:
        arrays: before a run, to be set to the ``id`` of each array; the caller keeps the arrays alive.
        words: what the driver gets.
    """

    __slots__ = ("_bindings", "arrays", "steps", "words")

    def __init__(
        self, table: int = 0, steps: int = 0, arrays: int = 0, bindings: npt.ArrayLike = (), own: int = 0
    ) -> None:
        self.arrays = (ctypes.c_int64 * arrays)()
        first = ctypes.addressof(self.arrays)
        self._bindings = np.array(bindings, np.int64).reshape(-1, 3)
        self._bindings[:, 1] = first + 8 * self._bindings[:, 1]
        self.words = (ctypes.c_int64 * driver.JOB_WORDS)()
        self.words[driver.BINDINGS], self.words[driver.COUNT] = self._bindings.ctypes.data, len(self._bindings)
        self.words[driver.MEMBER], self.words[driver.JOB_OWN] = _ARRAY_DATA, own
        self.set(table, steps)

    def set(self, table: int, steps: int, times: int = 0) -> None:
        """Run another table from now on, and write times to ``steps + 1`` words at this address if it is not 0."""
        self.steps = steps
        words = self.words
        words[driver.JOB_TABLE], words[driver.JOB_STEPS], words[driver.JOB_TIMES] = table, steps, times


def list_places(addresses: ctypes.Array[ctypes.c_int64]) -> list[ctypes.c_int64 | int]:
    """What :attr:`Job.arrays` can hold in the place of arrays whose elements are at the addresses in this table."""
    first = ctypes.addressof(addresses) - _ARRAY_DATA
    return [first + 8 * place for place in range(len(addresses))]


@dataclass(slots=True, eq=False)
class _Control:
    """The control block of running workers, and the code that works on it."""

    words: ctypes.Array[ctypes.c_int64]
    kernel: LoadedKernel
    entry: ctypes._CFunctionType = field(repr=False)
    workers: list[threading.Thread] = field(default_factory=list)
    allowed: frozenset[int] = frozenset()
    counters: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def run(self, job: Job) -> None:
        """Run a job. One at a time."""
        answer = self.entry(self.words, _CALLER, job.words)
        if answer == driver.CROWDED:
            self.reserve(job.steps)
            answer = self.entry(self.words, _CALLER, job.words)
        if answer == driver.MOVED:
            self.spread()

    def spread(self) -> None:
        """Keep the workers off the processor that the caller runs on, where the system lets us say so.

        A system that wakes a thread on the processor of the one that woke it makes them take turns, until it notices
        after some milliseconds that the other processors are idle.
        """
        cpu = current_cpu()
        others = self.allowed - {cpu}
        if len(others) < len(self.workers):
            self.words[driver.GET_CPU] = 0  # never ask again
            return
        self.words[driver.AVOIDED] = cpu
        try:
            for worker in self.workers:
                if worker.native_id is not None:
                    os.sched_setaffinity(worker.native_id, others)
        except OSError:  # the set of processors was changed from outside: leave them where they are
            self.words[driver.GET_CPU] = 0

    def reserve(self, steps: int) -> None:
        """Make room for the counters of so many steps. Between runs only."""
        threads, room = self.words[driver.THREADS], max(steps, 2 * self.words[driver.ROOM_STEPS])
        self.counters = np.zeros(room * (threads + 1) * driver.LINE + driver.LINE, np.int64)
        self.words[driver.COUNTERS] = self.counters.ctypes.data + -self.counters.ctypes.data % (8 * driver.LINE)
        self.words[driver.ROOM_STEPS] = room

    def stop(self) -> None:
        """Tell the workers to leave. Between runs only; to be called once."""
        self.words[driver.STOP] = 1
        # The table stays, in case that this is the end of the process and some worker is late.
        self.entry(self.words, _CALLER, Job(self.words[driver.TABLE]).words)

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
        self.threads = as_integer("threads", threads, 1, MAX_THREADS)
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
        job = Job()
        job.set(table, steps, times)
        with self._lock:
            self.run_job(job)

    def run_job(self, job: Job) -> None:
        """Run a job on a team that nobody else uses."""
        (self._control or self._start()).run(job)

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
                control.workers.append(worker)
                worker.start()
            if hasattr(os, "sched_getaffinity") and self.threads > 1:
                control.allowed = frozenset(os.sched_getaffinity(0))
                control.words[driver.GET_CPU] = detect_system().cpu
                control.spread()
            finalizer = weakref.finalize(self, control.stop)
            finalizer.atexit = False
            self._control, self._finalizer = control, finalizer
        except BaseException:  # no more threads, or an interrupt: those that did start must not wait for ever
            self._control = self._finalizer = None
            control.stop()
            raise
        return control


def make_solo_run(job: Job) -> Callable[[], object]:
    """A call that runs a job on the thread of the caller, with all set up that can be beforehand.

    One call at a time; the job has to live as long.
    """
    control = _make_control(1)
    return partial(control.entry, control.words, _CALLER, job.words)


def _serve(control: _Control, thread: int) -> None:
    """A worker: native code until it is told to stop. Holds the control block, but not the team."""
    control.entry(control.words, ctypes.c_int64(thread), _CALLER)
    free_semaphore(control.words[driver.WORKERS + thread * driver.LINE + driver.SEMAPHORE])


def _make_control(threads: int, parallel: int = 0) -> _Control:
    """A control block: for workers, or for threads that the function at an address lends.

    See :mod:`omniconv.runtime.driver`.
    """
    kernel, system = load_driver(), detect_system()
    count = driver.WORKERS + threads * driver.LINE
    memory = bytearray(8 * (count + driver.LINE))
    skip = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % (8 * driver.LINE)
    words = (ctypes.c_int64 * count).from_buffer(memory, skip)
    control = _Control(words, kernel, _ENTRY(kernel.address))
    pauses = pauses_per_us()
    crowded = threads > 1 and count_cpus() < threads  # then whoever is waited for needs this very processor
    words[driver.THREADS] = threads
    words[driver.IDLE_SPINS] = 0 if crowded else int(IDLE_US * pauses)
    words[driver.BARRIER_SPINS] = 0 if crowded else int(BARRIER_US * pauses)
    words[driver.WAIT], words[driver.POST], words[driver.YIELD] = system.wait, system.post, system.give
    words[driver.CLOCK], words[driver.PARALLEL] = system.clock, parallel
    for thread in range(1, 1 if parallel else threads):
        line = driver.WORKERS + thread * driver.LINE
        words[line + driver.SEMAPHORE] = make_semaphore(ctypes.addressof(words) + 8 * (line + driver.ROOM))
    if threads == 1:
        words[driver.ROOM_STEPS] = 2**62  # what nobody shares is not counted
    return control


@lru_cache(maxsize=1)
def load_driver() -> LoadedKernel:
    """The driver's machine code; it stays for the life of the process."""
    target = select_target("native")
    return load([_describe_driver()], target, cache=open_cache())[0]


def begin_driver() -> None:
    """Have a thread compile the driver, which whoever runs something will ask for."""
    if not load_driver.cache_info().currsize:
        begin(_describe_driver(), select_target("native"), cache=open_cache())


def _describe_driver() -> Source:
    return driver.driver_source(select_target("native"), detect_system().clock_kind)


@lru_cache(maxsize=1)
def pauses_per_us() -> float:
    """Pause instructions in a microsecond: 10 to 300, by processor."""
    entry, count, best = _ENTRY(load_driver().address), 500, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        entry(None, ctypes.c_int64(-1), ctypes.c_int64(count))
        best = min(best, time.perf_counter() - start)
    return count / (best * 1e6)


_teams: Final[weakref.WeakSet[Team]] = weakref.WeakSet()
# Pop and append are atomic: no lock that a fork could copy.
_idle: Final[defaultdict[int, deque[Team]]] = defaultdict(deque)
_running: set[int] = set()
"""The threads whose jobs run on teams just now. To add and discard is atomic, too."""
_is_child = False
_lent: Final[defaultdict[tuple[int, int], deque[_Control]]] = defaultdict(lambda: deque(maxlen=MAX_IDLE))


def take_team(threads: int) -> Team:
    """A team that nobody else uses, until it is given to :func:`release_team`; made if all are busy."""
    try:
        return _idle[threads].pop()
    except LookupError:
        return Team(threads)


def run_on_team(threads: int, job: Job) -> None:
    """Run a job on a team that nobody else uses: of so many threads or, while other jobs run, of as many as there are
    processors for each. More would wait for one another in turns, which takes longer for all; what a job computes does
    not depend on who does it.
    """
    running, caller = _running, threading.get_ident()  # in the child of a fork there is another set
    try:
        running.add(caller)
        callers = len(running)
        team = take_team(threads if callers == 1 else max(1, min(threads, PROCESSORS // callers)))
        try:
            team.run_job(job)
        finally:
            release_team(team)
    finally:
        running.discard(caller)


def run_on_lent(parallel: int, threads: int, job: Job) -> None:
    """Run a job on threads that the function at an address lends, see :mod:`omniconv.runtime.driver`.

    After a fork, in the child, whoever lends them has none and may wait for them for ever; there a team does it.
    """
    if _is_child:
        run_on_team(threads, job)
        return
    idle = _lent[parallel, threads]
    try:
        control = idle.pop()
    except IndexError:
        control = _make_control(threads, parallel)
    try:
        control.run(job)
    finally:
        idle.append(control)


def release_team(team: Team) -> None:
    """Put a team back into the pool, unless more than :data:`MAX_IDLE` threads would wait there."""
    teams = _idle[team.threads]
    waiting = team.threads * len(teams)
    if len(_idle) > 1:  # teams of other sizes wait too, which is rare
        waiting = sum(size * len(others) for size, others in list(_idle.items()))
    if not waiting or waiting + team.threads <= MAX_IDLE:
        teams.append(team)
    else:
        team.close()


def _forget_after_fork() -> None:
    """In the child of a fork no worker is left: teams that it inherits start their own when they run."""
    global _is_child, _running
    _is_child, _running = True, set()
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
