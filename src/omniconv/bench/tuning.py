"""The search for better tiles: every choice that there is for a problem is compiled, verified and timed.

In three stages, all of them with the default in turns: a look at each choice, more rounds for the best few, and a fresh
comparison of the best one with the default. Only the last decides and is reported, because the best of many measured
times is too good to be true.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from omniconv.bench.compare import Comparison, Contender, Result, compare
from omniconv.bench.interleave import Timing, take_turn
from omniconv.bench.isolate import Site, count_repeats, find_sites
from omniconv.bench.peers import TimedCall
from omniconv.bench.sources import Case
from omniconv.bench.workload import Workload
from omniconv.compiler.planning.choice import list_choices
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.reference import random_weights
from omniconv.runtime.executable import Executable
from omniconv.target.model import Target

WITHIN: Final = 2.0
"""Choices that are expected to cost more than so many times the cheapest of their list are not tried."""
MOST: Final = 16
"""Most choices to try of each list."""
FINALISTS: Final = 4
"""Choices that go into the second stage."""
LEAST_GAIN: Final = 1.03
"""A choice is kept if the default takes so many times as long, and the middle halves of both do not overlap."""
CALL_SECONDS: Final = 3e-4
"""Least duration of what is timed, by doing a layer several times."""
STAGES: Final[tuple[dict[str, Any], ...]] = (
    {"rounds": 3, "turn": 5e-4, "seconds": 0.0, "drop_laggards": True},
    {"rounds": 9, "turn": 1e-3, "seconds": 0.0, "patience": 0.5},
    {"rounds": 15, "turn": 2e-3, "seconds": 0.0, "patience": 1.0},
)
"""Settings of :func:`omniconv.bench.interleave.interleave` for each stage."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found for one problem.

    Attributes:
        site: the problem.
        best: text of the choice that was fastest; the default if nothing was faster.
        gain: time of the default over that of the best choice, at least 1 where the default stays.
        kept: whether the gain is beyond the noise.
        seconds: median time of the layer with the default [s].
        tried: number of choices that were timed, the default included.
        wrong: choices whose results disagree with the default's, or that failed: defects.
    """

    site: Site
    best: str
    gain: float
    kept: bool
    seconds: float
    tried: int
    wrong: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            "layer": self.site.layer,
            "problem": self.site.problem.text(),
            "default": self.site.default,
            "best": self.best,
            "gain": self.gain,
            "kept": self.kept,
            "default_ms": self.seconds * 1e3,
            "tried": self.tried,
            "wrong": list(self.wrong),
        }


def programs_of(cases: Iterable[Case], seed: int = 0) -> Iterator[Program]:
    """A program with random weights for each problem of a corpus."""
    for case in cases:
        pairs = random_weights(case.spec, np.random.default_rng(seed))
        yield program_of(
            case.spec,
            case.shape,
            [(np.asarray(w, np.float32), None if b is None else np.asarray(b, np.float32)) for w, b in pairs],
        )


def collect_sites(programs: Iterable[Program], target: Target, layout: str) -> list[Site]:
    """The distinct problems of some programs."""
    found: dict[str, Site] = {}
    for program in programs:
        for site in find_sites(program, target, layout):
            found.setdefault(site.problem.text(), site)
    return list(found.values())


def select_choices(site: Site, target: Target) -> list[str]:
    """What to try for a problem: the default first, then what is expected to cost little more."""
    found = [site.default]
    for items in list_choices(site.problem, target):
        limit = WITHIN * min(cost for _, cost in items)
        ordered = sorted(items, key=lambda item: item[1])
        found += [text for text, cost in ordered[:MOST] if cost <= limit and text not in found]
    return [text for text in found if text == site.default or site.takes(target, text)]


def tune_sites(
    sites: Sequence[Site],
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    seconds: float | None = None,
    stages: Sequence[dict[str, Any]] = STAGES,
    on_site: Callable[[Site, float], None] | None = None,
) -> Iterator[Tuned]:
    """Search for each problem in turn.

    Args:
        sites: the problems.
        target: what to compile for.
        threads: threads that share each call.
        seed: of the layers' inputs.
        seconds: begin no further problem after so long [s].
        stages: settings of the three stages.
        on_site: called before each problem with the share of the work that is finished.
    """
    begin = time.perf_counter()
    for index, site in enumerate(sites):
        if seconds is not None and index and time.perf_counter() - begin > seconds:
            return
        if on_site is not None:
            on_site(site, index / len(sites))
        yield search(site, target, threads=threads, seed=seed, stages=stages)


def search(
    site: Site, target: Target, *, threads: int = 1, seed: int = 0, stages: Sequence[dict[str, Any]] = STAGES
) -> Tuned:
    """Try the choices for one problem.

    Raises:
        OmniconvError: the default itself cannot be compiled.
    """
    calls = _Calls(site, target, threads, seed)
    first = calls.measure(select_choices(site, target), stages[0])
    wrong = tuple(item.name for item in first.ours if not item.valid)
    order = sorted((item for item in first.ours if item.valid), key=lambda item: item.median)
    finalists = [item.name for item in order if item.name != site.default][:FINALISTS]
    if finalists:
        second = calls.measure([site.default, *finalists], stages[1])
        best = min(second.ours, key=lambda item: item.median).name
    else:
        best = site.default
    last = calls.measure(list(dict.fromkeys([site.default, best])), stages[2])
    default, winner = last.ours[0], last.ours[-1]
    gain = default.median / winner.median
    kept = gain > LEAST_GAIN and _apart(winner, default)
    median = default.median / calls.repeats
    return Tuned(site, best if kept else site.default, gain if kept else 1.0, kept, median, len(first.ours), wrong)


class _Calls:
    """The compiled choices of one problem; each is compiled once."""

    def __init__(self, site: Site, target: Target, threads: int, seed: int) -> None:
        self.site, self.target, self.threads, self.seed = site, target, threads, seed
        self.loaded: dict[str, TimedCall] = {}
        self.repeats = 1
        seconds = min(take_turn(self.load(site.default), 0.0, time.perf_counter) for _ in range(3))
        self.loaded.clear()
        self.repeats = count_repeats(seconds, CALL_SECONDS, surrounded=site.surrounded)

    def load(self, choice: str) -> TimedCall:
        """The call of a choice."""
        if choice not in self.loaded:
            layout = self.site.layout
            planned = self.site.plan(self.target, choice, self.repeats)
            compiled = Executable(planned, threads=self.threads, layout=layout, at=self.site.layer)
            generator = np.random.default_rng(self.seed)
            arrays = {name: generator.standard_normal(shape, np.float32) for name, shape in compiled.inputs.items()}
            self.loaded[choice] = lambda: list(compiled.run(arrays).values())
        return self.loaded[choice]

    def measure(self, choices: Sequence[str], stage: dict[str, Any]) -> Comparison:
        """Verify the choices against the first one, and time them in turns."""
        contenders = [Contender(text, lambda text=text: self.load(text)) for text in choices]  # type: ignore[misc]
        return compare(
            Workload(self.site.layer, b"", {}), contenders, [], threads=self.threads, keep_going=True, **stage
        )


def _apart(faster: Result, slower: Result) -> bool:
    """Whether the upper quartile of one lies below the lower quartile of the other."""
    assert faster.timing is not None
    assert slower.timing is not None
    return _quartiles(faster.timing)[1] < _quartiles(slower.timing)[0]


def _quartiles(timing: Timing) -> tuple[float, float]:
    if len(timing.seconds) < 2:
        return timing.median, timing.median
    low, _, high = statistics.quantiles(timing.seconds, n=4)
    return low, high
