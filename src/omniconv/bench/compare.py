"""One workload, every contender: verify, then time in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

from omniconv.bench.interleave import DEFAULT_ROUNDS, DEFAULT_SECONDS, SETTLE_SECONDS, Timing, interleave
from omniconv.bench.peers import Peer, PeerError, TimedCall
from omniconv.bench.precision import FLOAT32, TOLERANCES
from omniconv.bench.workload import Array, Workload, max_difference, max_magnitude
from omniconv.errors import OmniconvError
from omniconv.integers import as_integer
from omniconv.records import dataclass

OURS: Final = "Omniconv"
DEFAULT_TOLERANCE: Final = TOLERANCES[FLOAT32]
"""Largest accepted difference, relative to the largest output magnitude (at least 1)."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Omniconv in one of the ways it can be called.

    Attributes:
        name: for tables and reports.
        load: compiles, and returns the call.
        layout: order of the arrays in memory.
        exact: whether Winograd filtering is forbidden.
        solo: whether it runs on one thread whatever the others do, to see how the work scales.
    """

    name: str
    load: Callable[[], TimedCall]
    layout: str = "NCHW"
    exact: bool = False
    solo: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """One contender; times and differences are ``None`` where it could not take part.

    Attributes:
        name: of the contender.
        runtime: of all contenders of one runtime.
        version: of its distribution.
        layout: order of the arrays in memory.
        exact: ours, without Winograd filtering.
        timing: one value a round.
        difference: largest absolute difference from our first contender; of that one, from the expected output.
        agrees: whether the difference is within the tolerance.
        reason: why it did not run.
        load_seconds: time to compile or load [s].
        solo: ours, on one thread beside others on several.
    """

    name: str
    runtime: str
    version: str = ""
    layout: str = "NCHW"
    exact: bool = False
    timing: Timing | None = None
    difference: float | None = None
    agrees: bool | None = None
    reason: str = ""
    load_seconds: float = 0.0
    solo: bool = False

    @property
    def median(self) -> float:
        """Median time [s]; infinite where it did not run."""
        return self.timing.median if self.timing is not None else float("inf")

    @property
    def valid(self) -> bool:
        """It ran and its output is not wrong."""
        return self.timing is not None and self.agrees is not False

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        found: dict[str, Any] = {"name": self.name, "version": self.version, "layout": self.layout}
        if self.exact:
            found["exact"] = True
        if self.solo:
            found["solo"] = True
        if self.timing is None:
            return {**found, "not_run": self.reason}
        return {**found, **self.timing.as_dict(), "max_difference": self.difference, "agrees": self.agrees}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contenders on one workload.

    Attributes:
        name: of the workload.
        ours: Omniconv, once for each layout and mode.
        peers: the others.
        macs: multiply-accumulates of the workload, where known [MAC].
        magnitude: of the largest output.
        title: where the workload comes from.
        probes: what else was timed in turns with them.
    """

    name: str
    ours: tuple[Result, ...]
    peers: tuple[Result, ...]
    macs: int | None = None
    magnitude: float = 0.0
    title: str = ""
    probes: Mapping[str, Timing] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether ours ran, and nothing that ran disagrees."""
        return all(item.timing is not None for item in self.ours) and all(
            item.agrees is not False for item in (*self.ours, *self.peers)
        )

    @property
    def our_best(self) -> Result | None:
        """Our fastest layout."""
        return fastest(item for item in self.ours if not (item.exact or item.solo))

    @property
    def best(self) -> Result | None:
        """The fastest peer, whatever layout it prefers."""
        return fastest(self.peers)

    def ratio(self, ours: Result | None = None, theirs: Result | None = None) -> float | None:
        """Median of a peer (default: the best) over ours (default: the best): above 1, ours is faster."""
        ours, theirs = ours or self.our_best, theirs or self.best
        return None if ours is None or theirs is None else theirs.median / ours.median

    def rate(self, result: Result | None) -> float | None:
        """Work of a contender per time [FLOP/s]."""
        return None if result is None or result.timing is None or not self.macs else 2 * self.macs / result.median

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report. ``ratio`` is the peer's median over ours: above 1, ours is faster."""
        best = self.our_best
        report: dict[str, Any] = {
            "workload": self.name,
            "title": self.title,
            "omniconv": self._describe(best or self.ours[0]),
            "layouts": [self._describe(item) for item in self.ours],
            "peers": [
                {**self._describe(item), **({"ratio": self.ratio(best, item)} if item.timing and best else {})}
                for item in self.peers
            ],
            "best_peer": self.best.name if self.best else None,
            "ratio": self.ratio(),
            "max_magnitude": self.magnitude,
            "agrees": self.agrees,
        }
        if self.macs is not None:
            report["macs"] = self.macs
        return report

    def _describe(self, item: Result) -> dict[str, Any]:
        found = item.as_dict()
        if item.runtime == OURS:
            found["load_seconds"] = item.load_seconds
        rate = self.rate(item)
        return found if rate is None else {**found, "gflop_per_second": rate * 1e-9}


def fastest(results: Iterable[Result]) -> Result | None:
    """The one with the shortest median among those that ran and agree."""
    return min((item for item in results if item.valid), key=lambda item: item.median, default=None)


def compare(
    workload: Workload,
    ours: Sequence[Contender],
    peers: Iterable[Peer],
    *,
    threads: int = 1,
    rounds: int = DEFAULT_ROUNDS,
    seconds: float = DEFAULT_SECONDS,
    turn: float = 0.0,
    drop_laggards: bool = False,
    patience: float = 0.0,
    tolerance: float = DEFAULT_TOLERANCE,
    expected: Sequence[Array] | None = None,
    macs: int | None = None,
    on_round: Callable[[int, float], None] | None = None,
    keep_going: bool = False,
    probes: Mapping[str, Callable[[], object]] | None = None,
) -> Comparison:
    """Load, verify and time.

    Args:
        workload: what to compute.
        ours: Omniconv, once for each layout and mode; the first that works is what the others are verified against.
        peers: the peers to compare with.
        threads: number of threads of every contender.
        rounds, seconds, turn, drop_laggards, patience, on_round: see :func:`omniconv.bench.interleave.interleave`.
        tolerance: largest accepted difference, relative to the largest output magnitude (at least 1); a peer that
            promises less is held to what it promises.
        expected: outputs of the reference, where they are known; what everybody is verified against then.
        macs: multiply-accumulates of the workload, where known [MAC].
        keep_going: note an error of ours as a result, instead of raising it.
        probes: other calls to time in turns with the contenders, to see what the machine does meanwhile.
    """
    threads, rounds = as_integer("threads", threads), as_integer("rounds", rounds)
    calls: dict[str, TimedCall] = {}
    results: list[Result] = []
    magnitude = max_magnitude(expected) if expected is not None else 0.0

    def judge(result: Result, call: TimedCall, allowed: float = tolerance) -> Result:
        nonlocal expected, magnitude
        produced = call()
        if expected is None:
            expected = [array.copy() for array in produced]
            magnitude = max_magnitude(expected)
            return replace(result, difference=0.0, agrees=True)
        difference = max_difference(expected, produced)
        return replace(result, difference=difference, agrees=difference <= allowed * max(magnitude, 1.0))

    for item in ours:
        result = Result(item.name, OURS, layout=item.layout, exact=item.exact, solo=item.solo)
        start = time.perf_counter()
        try:
            call = item.load()
            result = judge(replace(result, load_seconds=time.perf_counter() - start), call)
        except Exception as error:
            if not keep_going:
                raise
            what = str(error) if isinstance(error, OmniconvError) else f"{type(error).__name__}: {error}"
            results.append(replace(result, reason=what.strip().splitlines()[0] if what.strip() else what))
            continue
        calls[item.name] = call
        results.append(result)
    count = len(results)
    for peer in peers:
        result = Result(peer.name, peer.runtime or peer.name, peer.version, peer.layout)
        start = time.perf_counter()
        try:
            call = peer.load(workload, threads)
            allowed = max(tolerance, peer.promises.get(workload.precision, 0.0))
            result = judge(replace(result, load_seconds=time.perf_counter() - start), call, allowed)
        except PeerError as error:
            results.append(replace(result, reason=str(error)))
            continue
        calls[peer.name] = call
        results.append(result)
    settle = SETTLE_SECONDS if threads > 1 else 0.0
    timings = interleave(
        {**calls, **(probes or {})},
        rounds=rounds,
        seconds=seconds,
        settle=settle,
        turn=turn,
        drop_laggards=drop_laggards,
        patience=patience,
        on_round=on_round,
    )
    timed = [replace(item, timing=timings.get(item.name)) for item in results]
    return Comparison(
        workload.name,
        tuple(timed[:count]),
        tuple(timed[count:]),
        macs,
        magnitude,
        workload.title,
        {name: timings[name] for name in probes or {}},
    )
