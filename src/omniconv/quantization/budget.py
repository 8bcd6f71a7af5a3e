"""An error budget: which layers stay in float32 so that the network stays within it.

Each layer is put into integers alone, and what that does to the outputs is its sensitivity. Then layers stay in
float32, of which every choice is measured, not predicted. At each of the first :data:`STEPS` it is the one, of the
:data:`TRIED` most sensitive ones, that gains most, together with those that make what it reads, which it would round
itself otherwise. Where that is not enough, more follow in the order of their sensitivity, whose number is found by
doubling, and halving the last step. At last each one goes back into integers where the budget is kept without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from omniconv.quantization.insert import Rounded, insert
from omniconv.quantization.judge import Judge, Verdict
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.plan import QuantPlan

STEPS: Final = 8
TRIED: Final = 6
"""Layers that are tried at each step."""
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

    def keeps(found: tuple[QuantPlan, Verdict]) -> bool:
        return found[1].keeps(max_drop, min_snr)

    best, kept, more = attempt(()), list[str](), tuple[str, ...]()
    for _ in range(STEPS):
        if keeps(best):
            break
        tries = [names for names in (_join(plan, name, kept) for name in order) if names][:TRIED]
        found = [(attempt([*kept, *names]), names) for names in tries]
        if not found:
            break
        before = best[1].snr
        best, names = max(found, key=lambda each: (each[0][1].snr - before) / len(each[1]))
        kept += names
    if not keeps(best):
        left = [name for name in order if name not in kept]
        more, best = find_few(left, lambda names: attempt([*kept, *names]), keeps)
    return release(kept, more, best, attempt, keeps)[1]


def _join(plan: QuantPlan, name: str, kept: Collection[str]) -> list[str]:
    """A layer and those that make what it reads, which rounds its inputs otherwise; without those that are kept."""
    layer = next(layer for layer in plan.active if layer.output == name)
    active = {layer.output for layer in plan.active}
    names = [name, *(plan.placing.sources.get(x, x) for x in layer.inputs)]
    return [each for each in dict.fromkeys(names) if each in active and each not in kept]


def find_few(
    order: Sequence[str], attempt: Callable[[Sequence[str]], Found], keeps: Callable[[Found], bool]
) -> tuple[tuple[str, ...], Found]:
    """Few names, those at the front first, of which an attempt is good enough, and what it found; with all names it
    always is, and with none it is not.

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
    return release(order[:low], order[low:high], best, attempt, keeps)


def release(
    names: Sequence[str],
    needed: Sequence[str],
    best: Found,
    attempt: Callable[[Sequence[str]], Found],
    keeps: Callable[[Found], bool],
) -> tuple[tuple[str, ...], Found]:
    """Those of some names that are needed, the last one looked at first, with those that are known to be, and what they
    found; all found ``best``.
    """
    for name in reversed(names):
        fewer = [other for other in names if other != name]
        if keeps(found := attempt([*fewer, *needed])):
            best, names = found, fewer
    return (*names, *needed), best


def _rank(verdict: Verdict) -> tuple[float, float]:
    return (-math.inf if math.isnan(verdict.snr) else verdict.snr), -(verdict.lost or 0.0)


def _explain(verdict: Verdict, max_drop: float | None, min_snr: float | None) -> str:
    alone = f"alone it leaves {verdict.snr:.1f} dB"
    if verdict.lost:
        alone += f" and costs {verdict.lost:.2f} points"
    wanted = [f"{min_snr:g} dB" for _ in range(min_snr is not None)]
    wanted += [f"at most {max_drop:g} points lost" for _ in range(max_drop is not None)]
    return f"the budget of {' and '.join(wanted)}: {alone}"
