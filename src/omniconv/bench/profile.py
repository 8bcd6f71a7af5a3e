"""Per-step times of a compiled network, and what each kind of layer takes of the whole."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from omniconv.records import dataclass


class StepTime(Protocol):
    """What a profile says about one step."""

    @property
    def name(self) -> str:
        """Name of the layer or node."""

    @property
    def kind(self) -> str:
        """Structural label or operator."""

    @property
    def seconds(self) -> float:
        """Time taken [s]."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates [MAC]."""

    @property
    def multiplications(self) -> int:
        """Those done: fewer than MACs where the layer is filtered."""


class CompiledLayer(Protocol):
    """What a compiled network says about one layer."""

    @property
    def name(self) -> str:
        """Name of the layer or node."""

    @property
    def kind(self) -> str:
        """Structural label or operator."""

    @property
    def text(self) -> str:
        """Problem line, where the layer is a convolution."""

    @property
    def input_shape(self) -> Sequence[int]:
        """Shape of its first input."""

    @property
    def output_shape(self) -> Sequence[int]:
        """Shape of its output."""

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates [MAC]."""


@dataclass(frozen=True, slots=True)
class TimedStep:
    """One step with the median of its times."""

    name: str
    kind: str
    seconds: float
    macs: int
    multiplications: int = 0


@dataclass(frozen=True, slots=True)
class KindTotal:
    """All layers of one kind together.

    Attributes:
        kind: structural label or operator.
        steps: how many there are.
        parameters: weights and biases.
        macs: multiply-accumulates [MAC].
        seconds: time of all of them [s].
        share: of the time of the whole network.
        macs_share: of the multiply-accumulates of the whole network.
    """

    kind: str
    steps: int
    parameters: int
    macs: int
    seconds: float
    share: float
    macs_share: float


def take_profile(profile: Callable[[], Iterable[StepTime]], repeats: int = 3) -> list[TimedStep]:
    """Profile ``repeats`` times (each is a median already) and keep the median time of each step."""
    runs = [list(profile()) for _ in range(max(repeats, 1))]
    return [
        TimedStep(
            same[0].name,
            same[0].kind,
            statistics.median(step.seconds for step in same),
            same[0].macs,
            same[0].multiplications,
        )
        for same in zip(*runs, strict=True)
    ]


def total_by_kind(steps: Iterable[TimedStep], layers: Iterable[CompiledLayer]) -> list[KindTotal]:
    """Sum up by kind, the slowest kind first.

    Example:
        >>> [total] = total_by_kind([TimedStep("a", "depthwise", 0.5, 90), TimedStep("b", "depthwise", 0.5, 10)], [])
        >>> total.steps, total.seconds, total.macs_share
        (2, 1.0, 1.0)
    """
    steps, layers = list(steps), list(layers)
    time = sum(step.seconds for step in steps) or 1.0
    work = sum(step.macs for step in steps) or 1
    totals = []
    for kind in dict.fromkeys(step.kind for step in steps):
        same = [step for step in steps if step.kind == kind]
        seconds, macs = sum(step.seconds for step in same), sum(step.macs for step in same)
        parameters = sum(layer.parameters for layer in layers if layer.kind == kind)
        totals.append(KindTotal(kind, len(same), parameters, macs, seconds, seconds / time, macs / work))
    return sorted(totals, key=lambda total: -total.seconds)
