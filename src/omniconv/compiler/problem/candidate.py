"""The tiles that a layer can be computed with, and what each is expected to cost: one list for each kind of kernel.

The tile that is used is the cheapest of its list, the first of those that cost the same. Costs are in vector operations
and are compared within one list only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol


class Tile(Protocol):
    """Sizes of one pass of a kernel: a frozen dataclass of plain values."""

    word: ClassVar[str]
    """The kernel, in texts of choices."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


UNITS = 16
"""Units of work wanted at least, so that a few threads get even shares."""
FINER = 3
"""So many times as many where they are cut from rows in any case."""
FIRST_LEVEL = 2**15
"""First-level data cache [bytes]."""
FEWEST = 4
"""Below so many units the channels are divided too, which costs locality."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One tile, and its expected cost."""

    cost: float
    tile: Tile


def find_cheapest(candidates: Iterable[Candidate]) -> Candidate | None:
    """The candidate with the least cost, the first of equals; ``None`` of none."""
    best: Candidate | None = None
    for candidate in candidates:
        if best is None or candidate.cost < best.cost * (1 - 1e-9):
            best = candidate
    return best


def count_tiles_in_unit(lines: int, tiles: int) -> int:
    """Of ``tiles`` in each of so many lines: all, if that makes units enough."""
    return tiles if lines >= UNITS else max(1, tiles * lines // (FINER * UNITS))


def describe_tile(tile: Tile) -> str:
    """The text of a tile, its kernel first."""
    values = ((item.name, getattr(tile, item.name)) for item in fields(tile))
    return " ".join([tile.word, *(f"{name}={str(value).replace(' ', '')}" for name, value in values)])
