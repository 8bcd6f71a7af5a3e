"""Points of blocks, in sets by the parts and the phases whose weights are not all zero there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from omniconv.records import dataclass


class Line(NamedTuple):
    """Points along one axis, and the parts and the phases of that axis whose weights are not all zero there."""

    points: range
    parts: range
    phases: range


@dataclass(frozen=True, slots=True)
class PointSet:
    """Points whose products sum the same parts for the same phases.

    Attributes:
        lines: along each axis.
        first, slot: where the first point of them is in a slab, and the first part of them in a row.
        order: the parts by their places in a row, numbered as those of the last axis are neighbours.
        phases: some that are neighbours in a row of results, numbered alike.
        before: phases of the lines that stand before these.
    """

    lines: tuple[Line, Line, Line]
    first: int
    slot: int
    order: tuple[int, ...]
    phases: range
    before: int

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(len(line.points) for line in self.lines)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return math.prod(len(line.parts) for line in self.lines)


@lru_cache(maxsize=256)
def divide(
    lines: tuple[tuple[Line, ...], ...], points: tuple[int, ...], parts: tuple[int, ...], phases: tuple[int, ...]
) -> tuple[PointSet, ...]:
    """The sets of points that lines along each axis make."""
    places = place_parts(tuple(len(each[-1].parts) for each in lines), parts)
    found: list[PointSet] = []
    first = 0
    for depth, height, width in product(*lines):
        three = depth, height, width
        slots = [places[part] for part in list_places(parts, [line.parts for line in three])]
        order = tuple(sorted(range(len(slots)), key=slots.__getitem__))
        before = 0
        for some in _split(list_places(phases, [line.phases for line in three])):
            found.append(PointSet(three, first, min(slots), order, some, before))
            before += len(some)
        first += math.prod(len(line.points) for line in three)
    assert first == math.prod(points)
    return tuple(found)


def _split(numbers: Sequence[int]) -> list[range]:
    """Rising numbers as runs of neighbours."""
    begins = [at for at, number in enumerate(numbers) if at == 0 or number != numbers[at - 1] + 1]
    ends = [*begins[1:], len(numbers)]
    return [range(numbers[begin], numbers[end - 1] + 1) for begin, end in zip(begins, ends, strict=True)]


@lru_cache(maxsize=256)
def place_parts(long: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    """The places of parts, of which so many are long along each axis."""

    def key(place: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        _, height, width = (index < limit for index, limit in zip(place, long, strict=True))
        return (1 if width else 0) if height else (2 if width else 3), place

    places = list(product(*(range(count) for count in parts)))
    ordered = {place: slot for slot, place in enumerate(sorted(places, key=key))}
    return tuple(ordered[place] for place in places)


def list_places(counts: Sequence[int], ranges: Sequence[range]) -> list[int]:
    """Numbers of the points, or parts, in a range along each axis: those of the last axis are neighbours."""
    found = [0]
    for count, indices in zip(counts, ranges, strict=True):
        found = [place * count + index for place in found for index in indices]
    return found
