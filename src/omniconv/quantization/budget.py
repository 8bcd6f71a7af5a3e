"""An error budget: which layers stay in float32 so that the network stays within it.

Each layer is put into integers alone, and what that does to the outputs is its sensitivity. Then the most sensitive
layers stay in float32: as many as the budget asks for, of which every choice is measured, not predicted. Their number
is found by doubling, and halving the last step; then each of them, the least sensitive one first, goes back into
integers where the budget is kept without it: what a layer does alone does not say what it adds to all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from omniconv.quantization.insert import Rounded, insert
from omniconv.quantization.judge import Judge, Verdict
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.plan import QuantPlan

Found = TypeVar("Found")
Advance: TypeAlias = Callable[[float], None]


def measure_layers(judge: Judge, network: FloatNetwork, plan: QuantPlan, advance: Advance) -> dict[str, Verdict]:
    """Output of each layer of integers -> what it does to the network alone."""
    found = {}
    for count, layer in enumerate(plan.active):
        found[layer.output] = judge(insert(network, plan.only(layer.output), Rounded()).network)
        advance((count + 1) / len(plan.active))
    return found


def keep_within(
    judge: Judge,
    network: FloatNetwork,
    plan: QuantPlan,
    alone: Mapping[str, Verdict],
    max_drop: float | None,
    min_snr: float | None,
) -> tuple[QuantPlan, Verdict]:
    """The plan with few of its most sensitive layers in float32 that is within the budget, and what it does.

    With all of them there it is the network itself, which is within any budget.
    """
    order = sorted(alone, key=lambda name: _rank(alone[name]))

    def attempt(names: Sequence[str]) -> tuple[QuantPlan, Verdict]:
        found = plan.keep({name: _explain(alone[name], max_drop, min_snr) for name in names})
        return found, judge(insert(network, found, Rounded()).network)

    return find_few(order, attempt, lambda found: found[1].keeps(max_drop, min_snr))[1]


def find_few(
    order: Sequence[str], attempt: Callable[[Sequence[str]], Found], keeps: Callable[[Found], bool]
) -> tuple[tuple[str, ...], Found]:
    """Few names, those at the front first, of which an attempt is good enough, and what it found; all always are.

    Example:
        >>> find_few("abcdefgh", "".join, lambda found: {"a", "c"} <= set(found))
        (('a', 'c'), 'ac')
    """
    low, high, most = 0, 1, len(order)
    while not keeps(best := attempt(order[: min(high, most)])) and high < most:
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        found = attempt(order[:middle])
        if keeps(found):
            best, high = found, middle
        else:
            low = middle
    names = list(order[:high])
    for name in reversed(order[: high - 1]):  # the last one is needed: without it, the attempt was not good enough
        fewer = [other for other in names if other != name]
        if keeps(found := attempt(fewer)):
            best, names = found, fewer
    return tuple(names), best


def _rank(verdict: Verdict) -> tuple[float, float]:
    return (-math.inf if math.isnan(verdict.snr) else verdict.snr), -(verdict.drop or 0.0)


def _explain(verdict: Verdict, max_drop: float | None, min_snr: float | None) -> str:
    alone = f"alone it leaves {verdict.snr:.1f} dB"
    if verdict.drop:
        alone += f" and costs {verdict.drop:.2f} points"
    wanted = [f"{min_snr:g} dB" for _ in range(min_snr is not None)]
    wanted += [f"at most {max_drop:g} points lost" for _ in range(max_drop is not None)]
    return f"the budget of {' and '.join(wanted)}: {alone}"
