"""Tiles of the recurrent kernel: how many sequences and vectors of hidden units go through the weights together."""

from __future__ import annotations

from dataclasses import dataclass

from omniconv.spec.geometry import ceil_div
from omniconv.target.model import Target

UNROLL = 4
"""Units of the state before in one round of the innermost loop."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Sums that are added up side by side: ``rows`` sequences by ``vectors`` vectors of units, for each of the gates."""

    rows: int
    vectors: int


def plan_tile(gates: int, batch: int, hidden: int, target: Target) -> Tile:
    """The tile that takes the least time for a sum of all units of all sequences.

    A unit of the state before takes a tile the larger of its multiply-adds and its loads, and never less than it takes
    until the sums of the unit before are there. Of equal ones, the widest is taken, then the one that
    reads weights least often.
    """
    vectors = ceil_div(hidden, target.lanes)
    found = []
    for rows in range(1, batch + 1):
        for wide in range(1, vectors + 1):
            # Beside the sums: the states of all rows, and a vector of weights.
            if rows * wide > 1 and gates * rows * wide + rows + 1 > target.registers:
                break
            whole, rest = divmod(batch, rows)
            full, last = divmod(vectors, wide)
            cost = sum(
                number * other * _cost_step(gates, r, v, target)
                for number, r in ((whole, rows), (1, rest))
                for other, v in ((full, wide), (1, last))
                if r and v
            )
            found.append((cost, -wide, -rows))
        if gates * rows + rows + 1 > target.registers:
            break
    _, wide, rows = min(found)
    return Tile(-rows, -wide)


def _cost_step(gates: int, rows: int, vectors: int, target: Target) -> float:
    """Cycles of one unit of the state before."""
    traits, wide = target.traits, gates * vectors
    return max(wide * rows / traits.fma_per_cycle, (wide + rows) / traits.loads_per_cycle, traits.fma_latency)
