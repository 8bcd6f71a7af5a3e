"""Budgets: no choice of layers is measured twice where that can be known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from omniconv.quantization import budget
from omniconv.quantization.budget import find_few, keep_within
from omniconv.quantization.judge import Verdict


@pytest.mark.parametrize("needed", ["a", "h", "ach", "bcdefg"])
def test_few_names_are_found_without_looking_twice(needed: str) -> None:
    seen: list[str] = []

    def attempt(names: str) -> str:
        seen.append("".join(names))
        return seen[-1]

    found, best = find_few("abcdefgh", attempt, lambda names: set(needed) <= set(names))
    assert "".join(found) == best == needed
    assert len(set(seen)) == len(seen)
    assert "" not in seen, "that none is not enough is known"


def test_layers_that_are_known_to_be_needed_are_not_released_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen layers, of which the first twelve are needed: eight are found one by one, the others by halving."""
    names = [f"{number:02}" for number in range(16)]
    layers = [SimpleNamespace(output=name, inputs=()) for name in names]
    seen: list[frozenset[str]] = []

    def plan(kept: frozenset[str]) -> SimpleNamespace:
        active = [layer for layer in layers if layer.output not in kept]
        placing = SimpleNamespace(sources={})
        return SimpleNamespace(kept=kept, active=active, placing=placing, keep=lambda more: plan(frozenset(more)))

    def judge(kept: frozenset[str]) -> Verdict:
        seen.append(kept)
        return Verdict(float(len(kept & set(names[:12]))))

    monkeypatch.setattr(budget, "insert", lambda _network, found, _style: SimpleNamespace(network=found.kept))
    alone = {name: Verdict(float(number)) for number, name in enumerate(names)}
    found, best = keep_within(judge, None, plan(frozenset()), alone, None, 12.0)
    assert found.kept == set(names[:12])
    assert best.snr == 12
    assert len(set(seen)) == len(seen)
