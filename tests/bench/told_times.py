"""A comparison that runs and verifies every contender, with times that are told: no test waits for a quiet machine."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from omniconv.bench.compare import Comparison, compare
from omniconv.bench.interleave import Timing
from omniconv.compiler.kernels.panel.tiles import MOST_ROWS, _count_rows, _PanelCosts


def compare_by_tile(*args: Any, **options: Any) -> Comparison:
    """As `compare`, after two rounds; the time of a panel is one over the size of its tile, in every round."""
    found = compare(*args, **{**options, "rounds": 2, "seconds": 0.0})
    ours = (
        item if item.timing is None else replace(item, timing=Timing(item.name, (1e-3 / size_of(item.name),) * 8))
        for item in found.ours
    )
    return replace(found, ours=tuple(ours))


def size_of(choice: str) -> int:
    """Vectors of results that a tile holds."""
    rows, vectors = (re.search(rf"\b{word}=(\d+)", choice) for word in ("rows", "vectors"))
    return int(rows[1]) * int(vectors[1]) if rows and vectors else 1


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cost model prefer the smallest tile of the panel kernel, by little."""

    # The cost of a layer is that of a tile times the number of tiles, which is about one over its rows.
    def spoiled(costs: _PanelCosts, wide: int) -> list[float]:
        most = min(_count_rows(costs.target, wide), MOST_ROWS)
        return [1e-6 * rows * (10.0 + rows * wide) for rows in range(most + 1)]

    monkeypatch.setattr(_PanelCosts, "list", spoiled)
