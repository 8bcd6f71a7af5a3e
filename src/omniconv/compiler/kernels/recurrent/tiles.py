"""Tiles of the recurrent kernel: how many sequences and vectors of sums go through the weights together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

UNROLL: Final = 4
"""Units of the state before in one round of the innermost loop."""
FAR_BYTES: Final = 16
"""What a cache behind the first level gives in a cycle [bytes]."""
LOOP: Final = 0.5
"""What a step of a tile takes beside all this [cycles]."""
WIDEST: Final = 4
"""Vectors of units in a block, at most."""


@dataclass(frozen=True, slots=True)
class RecurrentTile:
    """Sizes of one phase.

    Attributes:
        rows: sequences whose sums are added up side by side.
        wide: vectors of sums of each of them.
        vectors: vectors of units in a block: all gates of them are added up, one group of ``wide`` after the other,
            before they are opened.
    """

    rows: int
    wide: int
    vectors: int


def plan_tile(gates: int, batch: int, hidden: int, target: Target) -> RecurrentTile:
    """The tile that takes the least time for the sums of all units of all sequences.

    Of equal ones, the one that goes through the weights least often, then the widest, then the smallest block.
    """
    found = []
    units = ceil_div(hidden, target.lanes)
    for vectors in range(1, min(units, WIDEST) + 1):
        blocks, last = divmod(units, vectors)
        for rows in range(1, batch + 1):
            for wide in range(1, gates * vectors + 1):
                if rows * wide > 1 and rows * wide + min(rows, wide) + 1 > target.registers:
                    break
                cost = blocks * _cost_block(gates * vectors, rows, wide, batch, hidden, target)
                cost += _cost_block(gates * last, rows, wide, batch, hidden, target)
                found.append((cost, ceil_div(batch, rows), -wide, vectors))
            if rows + 2 > target.registers:
                break
    _, passes, wide, vectors = min(found)
    return RecurrentTile(ceil_div(batch, passes), -wide, vectors)


def _cost_block(columns: int, rows: int, wide: int, batch: int, hidden: int, target: Target) -> float:
    """Cycles of one unit of the state before, for so many vectors of sums of all sequences."""
    return sum(
        number * _cost_step(r, w, first=first, hidden=hidden, target=target)
        for w, groups in _split(columns, wide)
        for r, number, first in _passes(batch, rows, groups)
    )


def _split(total: int, part: int) -> Iterator[tuple[int, int]]:
    """Parts of a size and how many there are."""
    whole, rest = divmod(total, part)
    yield part, whole
    if rest:
        yield rest, 1


def _passes(batch: int, rows: int, groups: int) -> Iterator[tuple[int, int, bool]]:
    """Sequences that go through the weights together, how often they do, and whether they are the first."""
    for index, (r, number) in enumerate(_split(batch, rows)):
        first = min(number, 1) if index == 0 else 0
        yield r, groups * first, True
        yield r, groups * (number - first), False


def _cost_step(rows: int, wide: int, *, first: bool, hidden: int, target: Target) -> float:
    """Cycles of a unit of the state before, for one tile: the largest of its multiply-adds, its loads, the wait for the
    sums of the unit before, and the weights that come from afar.
    """
    traits, size = target.traits, target.lanes * target.element.bytes
    far = first or hidden * wide * size > target.l1_bytes * 3 // 4
    weights = wide * size / FAR_BYTES if far else 0.0
    loads = (rows + wide) / traits.loads_per_cycle
    return LOOP + max(rows * wide / traits.fma_per_cycle, loads, traits.fma_latency, weights)
