"""The claims, and the rules by which they are called held, not held or undecided. Written before any run.

Each rule reads an interval of 95 %. A claim of a difference is held only where the whole interval lies on its side of
zero and the value reaches the margin; it is not held where the interval excludes a difference as large as the margin.
A claim of no difference is the same with the sides exchanged. Whatever neither covers is undecided: more seeds or
images would tell. A claim in several parts is held where all are, and not held where one is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Final

from omniconv.analysis import Record
from omniconv.records import dataclass
from omniconv.study.bootstrap import Spread

HELD: Final = "held"
NOT_HELD: Final = "not held"
UNDECIDED: Final = "undecided"

MARGIN: Final = 0.01
"""Of accuracy: one image in a hundred. Smaller differences are no reason to choose a kind."""
SLOWER: Final = 1.1
"""Times that are no more than so many times as long count as the same."""
REST: Final = 0.05
"""Share of the energy of learned kernels beyond rank 1 that has to be exceeded for them not to divide."""
NEAR: Final = 0.15
"""How far a measured ratio of energies may lie from the predicted one, as a share of it."""
FACTOR: Final = 2.0
"""How many times as much energy at the frequencies of the grid counts as seen."""
ARRIVED: Final = 0.5
"""Share of the saving in multiply-accumulates that has to arrive in time."""


def judge_loss(found: Spread, margin: float = MARGIN) -> str:
    """Whether something is worse: a difference below zero.

    Example:
        >>> judge_loss(Spread(-0.02, -0.03, -0.01)), judge_loss(Spread(0.0, -0.005, 0.005))
        ('held', 'not held')
        >>> judge_loss(Spread(-0.02, -0.05, 0.01)), judge_loss(Spread(-0.005, -0.02, -0.001))
        ('undecided', 'undecided')
    """
    if found.high < 0 and found.value <= -margin:
        return HELD
    return NOT_HELD if found.low > -margin else UNDECIDED


def judge_gain(found: Spread, margin: float = MARGIN) -> str:
    """Whether something is better: a difference above zero.

    Example:
        >>> judge_gain(Spread(0.02, 0.01, 0.03)), judge_gain(Spread(-0.02, -0.03, -0.01))
        ('held', 'not held')
    """
    return judge_loss(Spread(-found.value, -found.high, -found.low), margin)


def judge_no_loss(found: Spread, margin: float = MARGIN) -> str:
    """Whether something is no worse.

    Example:
        >>> judge_no_loss(Spread(0.0, -0.005, 0.005)), judge_no_loss(Spread(-0.02, -0.03, -0.01))
        ('held', 'not held')
    """
    return {HELD: NOT_HELD, NOT_HELD: HELD}.get(judge_loss(found, margin), UNDECIDED)


def judge_above(found: Spread, limit: float) -> str:
    """Whether something is above a limit.

    Example:
        >>> [judge_above(Spread(2, low, high), 2) for low, high in ((2.1, 3), (1, 1.9), (1, 3))]
        ['held', 'not held', 'undecided']
    """
    return HELD if found.low > limit else NOT_HELD if found.high < limit else UNDECIDED


def judge_at_most(found: Spread, limit: float) -> str:
    """Whether something is no more than a limit.

    Example:
        >>> [judge_at_most(Spread(1, low, high), 1) for low, high in ((0.8, 0.9), (1.1, 1.2), (0.9, 1.1))]
        ['held', 'not held', 'undecided']
    """
    return HELD if found.high <= limit else NOT_HELD if found.low > limit else UNDECIDED


def judge_near(found: Spread, predicted: float, near: float = NEAR) -> str:
    """Whether something is as predicted.

    Example:
        >>> [judge_near(Spread(2, low, high), 2) for low, high in ((1.9, 2.1), (2.5, 2.7), (1.9, 2.7))]
        ['held', 'not held', 'undecided']
    """
    low, high = predicted * (1 - near), predicted * (1 + near)
    if low <= found.low and found.high <= high:
        return HELD
    return NOT_HELD if found.high < low or found.low > high else UNDECIDED


def judge_factor(found: Spread, factor: float = FACTOR) -> str:
    """Whether something is several times as large.

    Example:
        >>> [judge_factor(Spread(v, low, high)) for v, low, high in ((3, 1.5, 4), (1.2, 0.9, 1.6), (2.5, 0.9, 4))]
        ['held', 'not held', 'undecided']
    """
    if found.low > 1 and found.value >= factor:
        return HELD
    return NOT_HELD if found.high < factor else UNDECIDED


def join_all(verdicts: Iterable[str]) -> str:
    """The verdict on a claim all of whose parts have to hold.

    Example:
        >>> join_all(["held", "held"]), join_all(["held", "undecided"]), join_all(["undecided", "not held"])
        ('held', 'undecided', 'not held')
    """
    found = set(verdicts)
    return NOT_HELD if NOT_HELD in found else UNDECIDED if UNDECIDED in found else HELD


def join_any(verdicts: Iterable[str]) -> str:
    """The verdict on a claim one of whose parts is enough.

    Example:
        >>> join_any(["held", "not held"]), join_any(["undecided", "not held"]), join_any(["not held"])
        ('held', 'undecided', 'not held')
    """
    found = set(verdicts)
    return HELD if HELD in found else UNDECIDED if UNDECIDED in found else NOT_HELD


@dataclass(frozen=True, slots=True)
class ClaimPart(Record):
    """One number that a claim is judged by.

    Attributes:
        what: it is.
        found: its value and interval.
        unit: ``"points"`` for accuracies, ``"times"`` for ratios, ``"share"``.
        verdict: by the rule.
    """

    what: str
    found: Spread
    unit: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Claim(Record):
    """One claim of the field.

    Attributes:
        name: for files and links.
        title: the claim in a sentence.
        rule: by which it is judged.
        verdict: held, not held or undecided.
        parts: what it was judged by.
        beside: what else is to be known.
    """

    name: str
    title: str
    rule: str
    verdict: str
    parts: tuple[ClaimPart, ...]
    beside: tuple[str, ...] = field(default=())
