"""Timing several contenders in turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from omniconv.records import dataclass

DEFAULT_ROUNDS: Final = 30
DEFAULT_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 0.25
"""Longest pause before each turn when contenders have worker threads."""
SETTLE_STEP: Final = 0.005
SETTLED: Final = 0.1
"""The pause is over when the threads of this process used less than this part of so many seconds."""
LAGGARD: Final = 3.0
"""A contender that takes so many times as long as the fastest one is measured in a few rounds only."""
LAGGARD_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one contender, one value a round [s]."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds [s]."""
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        """The shortest round [s]."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles, as a share of the median; large values mean a busy machine."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / self.median if self.median else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report; milliseconds."""
        return {
            "median_ms": self.median * 1e3,
            "fastest_ms": self.fastest * 1e3,
            "quartile_spread": self.spread,
            "rounds": len(self.seconds),
        }


def interleave(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = DEFAULT_ROUNDS,
    seconds: float = DEFAULT_SECONDS,
    warm_up: int = 2,
    settle: float = 0.0,
    turn: float = 0.0,
    drop_laggards: bool = False,
    patience: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int, float], None] | None = None,
) -> dict[str, Timing]:
    """Time every call once a round until both ``rounds`` rounds and ``seconds`` seconds have passed.

    The order rotates from round to round. The timed calls of a turn follow an untimed one of the same contender,
    because the caches hold the weights of the one before; and with ``settle``, a pause comes before the untimed call,
    because worker threads of the one before may still be spinning (ONNX Runtime and OpenVINO keep theirs awake for a
    while, as they do by default) and would take cores away. So what is compared is the steady state of each.

    Example:
        >>> timings = interleave({"a": lambda: None, "b": lambda: None}, rounds=3, seconds=0)
        >>> [len(timing.seconds) for timing in timings.values()]
        [3, 3]

    Args:
        calls: name of each contender and the call to time.
        rounds: least number of rounds.
        seconds: least time spent measuring, over all contenders [s].
        warm_up: untimed calls of each contender before the first round.
        settle: longest pause before each turn, see :func:`await_quiet` [s].
        turn: calls are timed one by one until so much time has passed, at least one; their median counts [s].
        drop_laggards: after :data:`LAGGARD_ROUNDS` rounds, leave out those that take :data:`LAGGARD` times as long as
            the fastest, so that the whole stays short.
        patience: on a busy machine, go on for up to so long until the fastest contenders are steady, see
            :func:`is_steady` [s].
        clock: a monotonic clock [s].
        on_round: called with the number of rounds done and the share of the work that is finished.

    Returns:
        One `Timing` for each contender, in the order of ``calls``.
    """
    names = list(calls)
    found: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        for _ in range(warm_up):
            calls[name]()
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = clock()
        done = 0
        while (
            done < max(rounds, 1)
            or clock() - begin < seconds
            or (clock() - begin < patience and not is_steady(found.values()))
        ):
            shift = done % max(len(names), 1)
            for name in names[shift:] + names[:shift]:
                if settle:
                    await_quiet(settle)
                found[name].append(take_turn(calls[name], turn, clock))
            done += 1
            if drop_laggards and done == LAGGARD_ROUNDS:
                limit = LAGGARD * min((min(values) for values in found.values()), default=0.0)
                names = [name for name in names if min(found[name]) <= limit]
            if on_round is not None:
                share = done / max(rounds, 1)
                if seconds > 0:
                    share = min(share, (clock() - begin) / seconds)
                on_round(done, min(share, 1.0))
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(name, tuple(values)) for name, values in found.items()}


def await_quiet(limit: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sleep until the other threads of this process have gone to sleep too, for ``limit`` seconds at most.

    Worker threads wait for more work with their eyes open: ours for 300 us, those of ONNX Runtime for tens of
    milliseconds, in which they take the processor away from the workers of whoever comes next.
    """
    for _ in range(max(1, round(limit / SETTLE_STEP))):
        used, since = time.process_time(), time.perf_counter()
        sleep(SETTLE_STEP)
        if time.process_time() - used < SETTLED * (time.perf_counter() - since):
            return


def is_steady(times: Iterable[Sequence[float]], spread: float = 0.05, rivals: float = 1.5) -> bool:
    """Whether the quartiles of the fastest contenders, up to ``rivals`` times the fastest, lie within ``spread``."""
    timings = [Timing("", tuple(values)) for values in times if values]
    limit = rivals * min((timing.median for timing in timings), default=0.0)
    return all(timing.spread <= spread for timing in timings if timing.median <= limit)


def take_turn(call: Callable[[], object], turn: float, clock: Callable[[], float]) -> float:
    """One untimed call, then timed ones until ``turn`` seconds have passed; their median [s]."""
    call()
    begin = clock()
    call()
    now = clock()
    times = [now - begin]
    while now - begin < turn:
        start = now
        call()
        now = clock()
        times.append(now - start)
    return times[0] if len(times) == 1 else statistics.median(times)
