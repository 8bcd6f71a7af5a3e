"""One workload, every contender: verify, then time in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from omniconv.bench.interleave import DEFAULT_ROUNDS, DEFAULT_SECONDS, SETTLE_SECONDS, Timing, interleave
from omniconv.bench.peers import Call, Peer, PeerError
from omniconv.bench.workload import Workload, max_difference, max_magnitude

OURS = "Omniconv"
DEFAULT_TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest output magnitude (at least 1)."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One peer against ours; times and differences are ``None`` where it could not take part."""

    name: str
    version: str
    timing: Timing | None = None
    difference: float | None = None
    agrees: bool | None = None
    reason: str = ""

    def as_dict(self, ours: Timing) -> dict[str, Any]:
        """For a JSON report."""
        found: dict[str, Any] = {"name": self.name, "version": self.version}
        if self.timing is None:
            return {**found, "not_run": self.reason}
        return {
            **found,
            **self.timing.as_dict(),
            "max_difference": self.difference,
            "agrees": self.agrees,
            "ratio": self.timing.median / ours.median,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contenders on one workload."""

    name: str
    ours: Timing
    peers: tuple[PeerResult, ...]
    load_seconds: float
    macs: int | None = None
    magnitude: float = 0.0
    title: str = ""

    @property
    def agrees(self) -> bool:
        """Whether no peer that ran disagrees."""
        return all(peer.agrees is not False for peer in self.peers)

    @property
    def best(self) -> PeerResult | None:
        """The fastest peer."""
        ran = [peer for peer in self.peers if peer.timing is not None]
        return min(ran, key=lambda peer: peer.timing.median if peer.timing else 0.0, default=None)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report. ``ratio`` is the peer's median over ours: above 1, ours is faster."""
        report: dict[str, Any] = {
            "workload": self.name,
            "title": self.title,
            "omniconv": {**self.ours.as_dict(), "load_seconds": self.load_seconds},
            "peers": [peer.as_dict(self.ours) for peer in self.peers],
            "max_magnitude": self.magnitude,
            "agrees": self.agrees,
        }
        if self.macs is not None:
            report["macs"] = self.macs
            report["omniconv"]["gflop_per_second"] = 2e-9 * self.macs / self.ours.median
        return report


def compare(
    workload: Workload,
    ours: Callable[[], Call],
    peers: Iterable[Peer],
    *,
    threads: int = 1,
    rounds: int = DEFAULT_ROUNDS,
    seconds: float = DEFAULT_SECONDS,
    tolerance: float = DEFAULT_TOLERANCE,
    macs: int | None = None,
    on_round: Callable[[int, float], None] | None = None,
) -> Comparison:
    """Load, verify and time.

    Args:
        workload: what to compute.
        ours: loads the workload into Omniconv and returns the call.
        peers: the peers to compare with.
        threads: number of threads of every contender.
        rounds: least number of rounds.
        seconds: least time spent measuring [s].
        tolerance: largest accepted difference, relative to the largest output magnitude (at least 1).
        macs: multiply-accumulates of the workload, where known [MAC].
        on_round: progress, see :func:`omniconv.bench.interleave.interleave`.
    """
    start = time.perf_counter()
    our_call = ours()
    load_seconds = time.perf_counter() - start
    expected = list(our_call())
    magnitude = max_magnitude(expected)
    calls: dict[str, Call] = {OURS: our_call}
    results: list[PeerResult] = []
    for peer in peers:
        try:
            call = peer.load(workload, threads)
            produced = list(call())
        except PeerError as error:
            results.append(PeerResult(peer.name, peer.version, reason=str(error)))
            continue
        difference = max_difference(expected, produced)
        agrees = difference <= tolerance * max(magnitude, 1.0)
        calls[peer.name] = call
        results.append(PeerResult(peer.name, peer.version, difference=difference, agrees=agrees))
    settle = SETTLE_SECONDS if threads > 1 else 0.0
    timings = interleave(calls, rounds=rounds, seconds=seconds, settle=settle, on_round=on_round)
    return Comparison(
        workload.name,
        timings[OURS],
        tuple(PeerResult(r.name, r.version, timings.get(r.name), r.difference, r.agrees, r.reason) for r in results),
        load_seconds,
        macs,
        magnitude,
        workload.title,
    )
