"""Timing several contenders in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

DEFAULT_ROUNDS: Final = 30
DEFAULT_SECONDS: Final = 2.0
SETTLE_SECONDS: Final = 0.005
"""Pause before each turn when contenders have worker threads."""


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
    clock: Callable[[], float] = time.perf_counter,
    on_round: Callable[[int, float], None] | None = None,
) -> dict[str, Timing]:
    """Time every call once a round until both ``rounds`` rounds and ``seconds`` seconds have passed.

    The order rotates from round to round. Each timed call follows an untimed one of the same contender, because the
    caches hold the weights of the one before; and with ``settle``, a pause comes before the untimed call, because
    worker threads of the one before may still be spinning (ONNX Runtime and OpenVINO keep theirs awake for a while, as
    they do by default) and would take cores away. So what is compared is the steady state of each.

    Example:
        >>> timings = interleave({"a": lambda: None, "b": lambda: None}, rounds=3, seconds=0)
        >>> [len(timing.seconds) for timing in timings.values()]
        [3, 3]

    Args:
        calls: name of each contender and the call to time.
        rounds: least number of rounds.
        seconds: least time spent measuring, over all contenders [s].
        warm_up: untimed calls of each contender before the first round.
        settle: pause before each turn [s].
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
    begin = clock()
    done = 0
    while done < max(rounds, 1) or clock() - begin < seconds:
        shift = done % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            call = calls[name]
            if settle:
                time.sleep(settle)
            call()
            start = clock()
            call()
            found[name].append(clock() - start)
        done += 1
        if on_round is not None:
            share = done / max(rounds, 1)
            if seconds > 0:
                share = min(share, (clock() - begin) / seconds)
            on_round(done, min(share, 1.0))
    return {name: Timing(name, tuple(values)) for name, values in found.items()}
