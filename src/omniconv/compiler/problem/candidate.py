"""The tiles that a layer can be computed with, and what each is expected to cost: one list for each kind of kernel.

The tile that is used is the cheapest of its list, the first of those that cost the same. Each list has a unit of its
own, so that costs of two lists are never compared: a family that competes with another one for a layer estimates both
sides in its own unit (:func:`omniconv.compiler.kernels.winograd.slabs.plan_winograd`,
:func:`omniconv.compiler.kernels.series.tiles.prefer_series`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from omniconv.open_size import Opener
from omniconv.records import dataclass


class Tile(Protocol):
    """Sizes of one pass of a kernel: a frozen dataclass of plain values."""

    def text(self) -> str:
        """What no other tile of a problem has, the kernel first: what a `Tuning` names it by."""

    def form(self) -> str:
        """What its machine code depends on, where that reads the sizes of images when it runs."""


class Sizes:
    """A tile whose text is the word of its kernel and all of its fields.

    Example:
        >>> from omniconv.compiler.kernels.panel.tiles import PanelTile
        >>> PanelTile(rows=6, vectors=2, unroll=4, block=1).text()
        'panel rows=6 vectors=2 unroll=4 block=1 inner=False cut=False'
    """

    __slots__ = ()
    word: ClassVar[str]
    loose: ClassVar[frozenset[str]] = frozenset()
    """Fields that machine code can read when it runs."""
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def text(self) -> str:
        """The word and the sizes."""
        return _describe(self, frozenset())

    def form(self) -> str:
        """The text without what machine code can read when it runs: tiles of one form share it."""
        return _describe(self, self.loose)

    def opened(self, opener: Opener) -> Self:
        """The tile with the sizes opened that machine code can read when it runs."""
        changed: Any = self  # a class between records, of which each is one
        found: Self = replace(changed, **{name: opener.any(getattr(self, name)) for name in self._open})
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those sizes, in the order in which they are opened."""
        return tuple(getattr(self, name) for name in self._open)

    @property
    def _open(self) -> list[str]:
        return [name for name in sorted(self.loose) if not isinstance(getattr(self, name), bool)]


@lru_cache(maxsize=4096)
def _describe(tile: Sizes, without: frozenset[str]) -> str:
    """The word and all fields but some. Plans for many sizes have the same few tiles, and ask often."""
    values = ((item.name, getattr(tile, item.name)) for item in fields(tile) if item.name not in without)
    return " ".join([tile.word, *(f"{name}={str(value).replace(' ', '')}" for name, value in values)])


UNITS = 16
"""Units of work wanted at least, so that a few threads get even shares."""
FINER = 3
"""So many times as many where they are cut from rows in any case."""
FEWEST = 4
"""Below so many units the channels are divided too, which costs locality."""

T_co = TypeVar("T_co", bound=Tile, covariant=True)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T_co]):
    """One tile, and its expected cost in the unit of its list."""

    cost: float
    tile: T_co


class Costly(Protocol):
    """What has a cost."""

    @property
    def cost(self) -> float:
        """In the unit of its list."""


C = TypeVar("C", bound=Costly)


LESS: Final = 1 - 1e-9
"""Part of a cost below which another is less, and not the same but for rounding."""


def find_cheapest(candidates: Iterable[C]) -> C | None:
    """The candidate with the least cost, the first of equals; ``None`` of none."""
    best: C | None = None
    for candidate in candidates:
        if best is None or candidate.cost < best.cost * LESS:
            best = candidate
    return best


def count_tiles_in_unit(lines: int, tiles: int) -> int:
    """Of ``tiles`` in each of so many lines: all, if that makes units enough."""
    return tiles if lines >= UNITS else max(1, tiles * lines // (FINER * UNITS))
