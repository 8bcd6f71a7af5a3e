"""A long run of everything at once: networks, sizes, threads, callers, forks, calls that are given up, results that are
kept. Every answer is compared with the oracle the first time, and with the bits of that first answer from then on.

    python bench/soak.py --minutes 30                     # a line a minute, and a summary
    python bench/soak.py --minutes 30 --load 1 --seed 7   # at most the time of one processor

Acts are drawn one after the other: some callers at once on networks that are drawn for each call; a network that is
dropped while others run, and compiled anew with other threads; a child of a fork that goes on with all networks, while
callers of its parent run; calls of a pool that are cancelled, and one in the main thread that a signal ends; a memory
limit that is too small; results that are kept, and must not change while others are computed; a stream in chunks of any
size; networks that are saved, and loaded by a worker that is forked or spawned. Exit code 1 where an answer was wrong.

Resident memory is that of this process: after what is in use at first has been compiled, in the middle and at the end.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

import omniconv as oc
from omniconv.bench.machine import describe_machine
from omniconv.compiler.code.cache import open_cache
from omniconv.errors import HostWarning, LimitError
from omniconv.spec import Conv
from soak_subjects import Array, Subject, digest, draw_input, make_subjects
from soak_workers import METHODS, SavedCall, count_wrong

SIZES: Final = (7, 16, 30, 64, 96)
"""Heights and widths: some are too little work to be shared, some are shared."""
THREADS: Final = (None, 1, 2, 3)
MOST_CALLERS: Final = 4


STREAM, STREAM_SHAPE, WHOLE = Conv.of(3, 4, 5, dims=1), (1, 3, 1), 200
"""A layer that is streamed, its input, and positions of the whole."""


class GivenUpError(Exception):
    """What a signal raises in a call."""


class Soak:
    """The run.

    Args:
        seed: of everything that is drawn.
        sizes: heights and widths.
        methods: by which workers are started.

    Attributes:
        calls: answers that were looked at.
        wrong: what was asked of those that were wrong.
        acts: how often each act took place.
    """

    def __init__(self, seed: int, sizes: Sequence[int] = SIZES, methods: Sequence[str] = METHODS) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secrets
        self.subjects, self.sizes, self.methods = make_subjects(), sizes, methods
        self.calls, self.wrong, self.acts = 0, [], Counter[str]()  # type: ignore[var-annotated]
        self._nets: dict[tuple[str, int], Any] = {}
        self._answers: dict[tuple[str, int, int], bytes] = {}
        self._kept: list[tuple[tuple[str, int, int], Array]] = []
        self._lock = threading.Lock()
        weights = oc.random_weights(STREAM, 0, integer=True)
        self._sound = draw_input((*STREAM_SHAPE[:2], WHOLE), 0)
        self._heard = oc.reference(STREAM, self._sound, weights)
        self._stream = oc.compile(STREAM, (*STREAM_SHAPE[:2], WHOLE), weights, exact=True)

    def warm(self) -> None:
        """Compile everything once, and ask the oracle."""
        for subject in self.subjects:
            for size in self.sizes:
                for seed in range(2):
                    self.ask(subject, size, seed)

    def find(self, subject: Subject, size: int) -> Any:
        """What is compiled for a size."""
        key = subject.name, 0 if subject.open else size
        with self._lock:
            found = self._nets.get(key)
        if found is None:
            found = subject.compile(size, self.random.choice(THREADS))
            with self._lock:
                self._nets[key] = found
        return found

    def ask(self, subject: Subject, size: int, seed: int) -> Array:
        """One call, and whether it is right."""
        x = draw_input(subject.shape(size), seed)
        return self.judge(subject, size, seed, self.find(subject, size)(x), x)

    def judge(self, subject: Subject, size: int, seed: int, y: Array, x: Array) -> Array:
        """Compare an answer with the first one, or with the oracle."""
        key, bits = (subject.name, size, seed), digest(y)
        with self._lock:
            self.calls += 1
            first = self._answers.get(key)
        if first is None:
            right = subject.is_right(x, y)
            with self._lock:
                right &= self._answers.setdefault(key, bits) == bits
        else:
            right = first == bits
        if not right:
            self.wrong.append(key)
        return y

    def draw(self) -> tuple[Subject, int, int]:
        """A network, a size and an input."""
        return self.random.choice(self.subjects), self.random.choice(self.sizes), self.random.randrange(2)

    def ask_all(self, plan: Sequence[tuple[Subject, int, int]]) -> None:
        """Calls one after the other."""
        for item in plan:
            self.ask(*item)

    # -- acts

    def call_at_once(self, busy: Callable[[], object] = lambda: None, calls: int = 12) -> None:
        """Callers in threads, and meanwhile something else in this one."""
        plans = [[self.draw() for _ in range(calls)] for _ in range(self.random.randint(1, MOST_CALLERS))]
        with ThreadPoolExecutor(len(plans)) as pool:
            done = [pool.submit(self.ask_all, plan) for plan in plans]
            busy()
            for item in done:
                item.result()

    def drop(self) -> None:
        """A network goes while others run; it is compiled anew, with other threads, by who needs it next."""
        with self._lock:
            for key in self.random.sample(sorted(self._nets), min(2, len(self._nets))):
                del self._nets[key]
        self.call_at_once(gc.collect)

    def fork(self) -> None:
        """A child that goes on while callers of its parent run."""

        def split() -> None:
            plan = [self.draw() for _ in range(6)]
            for subject, size, _ in plan:
                self.find(subject, size)
            child = os.fork()
            if not child:
                signal.alarm(120)
                self._lock = threading.Lock()
                before = len(self.wrong)
                self.ask_all(plan)
                os._exit(len(self.wrong) - before)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            self.calls += len(plan)
            if status:
                self.wrong.append(("child", status, 0))

        self.call_at_once(split)

    def cancel(self) -> None:
        """Calls of a pool that are cancelled, and those of the main thread that a signal ends."""
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(self.ask, *self.draw()) for _ in range(20)]
            for item in waiting[::2]:
                item.cancel()
            pool.shutdown(cancel_futures=True)
        for item in waiting:
            if not item.cancelled():
                item.result()
        subject, size, seed = self.draw()
        net, x = self.find(subject, size), draw_input(subject.shape(size), seed)
        old = signal.signal(signal.SIGALRM, give_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, self.random.uniform(0.0001, 0.01))
            while True:
                net(x)
        except GivenUpError:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        self.judge(subject, size, seed, net(x), x)

    def limit(self) -> None:
        """A limit that is too small, while others run."""

        def refuse() -> None:
            try:
                self.random.choice(self.subjects[:5]).compile(self.sizes[-1], 2, limit=2**12)
            except LimitError:
                return
            self.wrong.append(("limit", 0, 0))

        self.call_at_once(refuse)

    def keep(self) -> None:
        """Results that are kept for a while, which later calls must not write to."""
        for key, y in self._kept:
            self.calls += 1
            if digest(y) != self._answers[key]:
                self.wrong.append(("kept", *key[1:]))
        keys = [self.draw() for _ in range(8)]
        self._kept = [((subject.name, size, seed), self.ask(subject, size, seed)) for subject, size, seed in keys]

    def listen(self) -> None:
        """A stream in chunks of any size, while others run."""

        def push() -> None:
            stream, at, parts = self._stream.stream(axis=2, chunk=16), 0, []
            while at < WHOLE:
                count = self.random.choice((1, 7, 16, 16, 16))
                parts.append(stream.push(np.ascontiguousarray(self._sound[..., at : at + count])))
                at += count
            found = np.concatenate([*parts, stream.flush()], axis=2)
            self.calls += len(parts)
            if not np.array_equal(found, self._heard):
                self.wrong.append(("stream", 0, 0))

        self.call_at_once(push)

    def hand_over(self) -> None:
        """Networks that are saved, and loaded by a worker, while others run."""

        def work() -> None:
            calls = []
            for subject, size, seed in [self.draw() for _ in range(3)]:
                self.ask(subject, size, seed)
                answer = self._answers[subject.name, size, seed]
                calls.append(SavedCall(self.find(subject, size), subject.shape(size), seed, answer))
            self.calls += len(calls)
            self.wrong += [("worker", 0, 0)] * count_wrong(self.random.choice(self.methods), calls)

        self.call_at_once(work)

    def act(self) -> None:
        """Something that is drawn."""
        acts = [self.call_at_once, self.drop, self.cancel, self.limit, self.keep, self.listen]
        if hasattr(os, "fork"):
            acts.append(self.fork)
        if open_cache() is not None:  # without a key a worker compiles
            acts.append(self.hand_over)
        chosen = self.random.choice(acts)
        self.acts[chosen.__name__] += 1
        chosen()


def give_up(*_: object) -> None:
    """A handler of signals."""
    raise GivenUpError


def resident_mib() -> float:
    """Resident memory of this process [MiB]."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmRSS in /proc/self/status")


def run(
    seconds: float,
    *,
    seed: int = 0,
    load: float = 0.0,
    sizes: Sequence[int] = SIZES,
    methods: Sequence[str] = METHODS,
    report: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Act for a while, and say how it went.

    Args:
        seconds: how long.
        seed, sizes, methods: see `Soak`.
        load: most processor time for each second; 0 for any.
        report: gets a line a minute.
    """
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    warnings.simplefilter("ignore", HostWarning)
    soak = Soak(seed, sizes, methods)
    soak.warm()
    for _ in range(5):
        soak.act()
    gc.collect()
    begun, spent, told = time.monotonic(), time.process_time(), 0
    memory = [resident_mib()]
    threads = threading.active_count()
    while (passed := time.monotonic() - begun) < seconds:
        soak.act()
        if load:
            ahead = (time.process_time() - spent) / load - (time.monotonic() - begun)
            time.sleep(max(0.0, ahead))
        if len(memory) == 1 and passed > seconds / 2:
            memory.append(resident_mib())
        if passed > 60 * (told + 1):
            told += 1
            report(f"{told:3} min: {soak.calls} calls, {len(soak.wrong)} wrong, {resident_mib():.1f} MiB")
    gc.collect()
    memory.append(resident_mib())
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "seed": seed,
        "calls": soak.calls,
        "wrong": soak.wrong,
        "acts": dict(soak.acts),
        "resident_mib": {"start": memory[0], "middle": memory[len(memory) // 2], "end": memory[-1]},
        "threads": {"start": threads, "end": threading.active_count()},
    }


def main() -> int:
    """Run, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = run(60 * options.minutes, seed=options.seed, load=options.load, report=lambda line: print(line, flush=True))
    print(json.dumps({**found, "machine": describe_machine(0)}, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
