"""Tiles along one axis: what each computes and reads, and which of them are alike.

Each step is cut on every axis by itself (:mod:`omniconv.program.cut`), so that a tile is one piece of each axis, and
tiles of pieces that are alike on every axis are computed by one program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import UnsupportedError
from omniconv.program.cut import Box, Interval, whole
from omniconv.program.describe import describe_program
from omniconv.program.part import ProgramPart, cut_program
from omniconv.program.program import Program
from omniconv.program.statistics import find_sources
from omniconv.program.steps import ResizeStep
from omniconv.records import dataclass

Array: TypeAlias = npt.NDArray[Any]

_LOOKS: Final = 8
"""Pieces from each end that are cut before all of them are."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tile along one axis.

    Attributes:
        outputs: what it computes of each result; nothing where a smaller result has no position for it.
        reads: what it reads of each image.
        kind: a number that pieces share whose programs are the same.
    """

    outputs: tuple[Interval, ...]
    reads: tuple[Interval, ...]
    kind: int


class Whole:
    """What is cut.

    Args:
        program: for the whole images.
        tensors: its results that are wanted. Tiles are counted by positions of the first.
        images: its inputs that are read in tiles; all others are read as a whole by every tile.
        rates: for each result, on each spatial axis, its positions for each of the first; default by their sizes.

    Attributes:
        images: those that the results depend on, the first of which has as many spatial axes as the results.
        sizes: positions of the first result on each spatial axis.
        own: the arrays of the program, by identity.
    """

    def __init__(
        self,
        program: Program,
        tensors: Sequence[str],
        images: Sequence[str],
        rates: Mapping[str, Sequence[Fraction]] | None = None,
    ) -> None:
        self.program, self.tensors, shapes = program, tuple(tensors), program.shapes
        needed = find_sources(program, self.tensors)
        self.images = tuple(name for name in images if name in needed)
        self.sizes = tuple(shapes[tensors[0]][2:])
        self.rates = rates or {
            name: [Fraction(size, first) for size, first in zip(shapes[name][2:], self.sizes, strict=True)]
            for name in tensors
        }
        self.own = frozenset(map(id, _list_arrays(program.steps)))
        self._whole_reads = cut_program(program, {name: whole(shapes[name]) for name in self.tensors}).reads

    def outputs(self, axis: int, span: Interval) -> tuple[Interval, ...]:
        """What belongs to some positions of the first result, of each result; the last takes all that is left."""
        found = []
        for name in self.tensors:
            size, rate = self.program.shapes[name][2 + axis], self.rates[name][axis]
            first, stop = (min(math.ceil(end * rate), size) for end in span)
            found.append((first, size if span[1] == self.sizes[axis] else stop))
        return tuple(found)

    def part(self, spans: Sequence[Interval | None]) -> ProgramPart:
        """The part for some positions of the first result on each spatial axis; ``None`` for all.

        Raises:
            UnsupportedError: a step that cannot be computed in parts, or an input that is no image of which a tile
                reads a part.
        """
        shapes = self.program.shapes
        boxes = {name: list(whole(shapes[name])) for name in self.tensors}
        for axis, span in enumerate(spans):
            if span is None:
                continue
            for name, (first, stop) in zip(self.tensors, self.outputs(axis, span), strict=True):
                # A result of which nothing is left gives one position, which is not kept: tiles that are alike on
                # each axis are then computed by one program.
                first = min(first, shapes[name][2 + axis] - 1)
                boxes[name][2 + axis] = first, max(stop, first + 1)
        part = cut_program(self.program, {name: tuple(box) for name, box in boxes.items()})
        for name, box in part.reads.items():
            if name not in self.images and box != self._whole_reads[name]:
                raise UnsupportedError(
                    f"tiles read parts of input {name!r}, whose size {tuple(shapes[name])} is fixed",
                    need="images whose sizes are open, and other inputs that every tile reads as a whole",
                    at=name,
                )
        return part

    def reads(self, part: ProgramPart) -> tuple[Box, ...]:
        """What a part reads of each image on each spatial axis."""
        return tuple(part.reads[name][2:] for name in self.images)

    def describe(self, part: Program) -> bytes:
        """A hash of a part that equals that of another if and only if they compute the same."""
        return describe_program(part, self.own)


def cut_line(cut: Whole, axis: int, size: int, grid: int) -> tuple[Piece, ...]:
    """The pieces of ``size`` positions of the first result along one spatial axis; the last may be smaller.

    Where pieces begin on the grid, moving one by its size moves all that it reads, in every value, by whole positions,
    up to where it meets a border. What a cut says is made of the positions where a window begins and ends and of the
    padding that is left there: the first only grow with the position, the second only shrinks before and only grows
    behind. So when a piece near the beginning and one near the end are alike, no window of either, nor of any between,
    meets a border, and those between are alike as well. The exceptions are arrays that are cut: tables of a resize,
    which are looked at (:func:`_repeat`), and all others, because of which every piece is cut.
    """
    total = cut.sizes[axis]
    spans = [(first, min(first + size, total)) for first in range(0, total, size)]
    kinds: dict[bytes, int] = {}
    found: list[Piece | None] = [None] * len(spans)

    def look(number: int) -> ProgramPart:
        """Cut out one piece."""
        part = cut.part([spans[number] if n == axis else None for n in range(len(cut.sizes))])
        kind = kinds.setdefault(cut.describe(part.program), len(kinds))
        reads = tuple(box[axis] for box in cut.reads(part))
        found[number] = Piece(cut.outputs(axis, spans[number]), reads, kind)
        return part

    first, last = 0, len(spans) - 1
    for number in range(min(_LOOKS, len(spans) // 2) if size % grid == 0 else 0):
        first, last = number, len(spans) - 2 - number  # the last of all may be smaller
        if first >= last:
            break
        ends = look(first), look(last)
        near, far = found[first], found[last]
        assert near is not None
        assert far is not None
        if near.kind == far.kind and _repeat(cut, ends, last - first):
            moves = [(b[0] - a[0]) // (last - first) for a, b in zip(near.reads, far.reads, strict=True)]
            for between in range(first + 1, last):
                reads = tuple(
                    (start + (between - first) * move, stop + (between - first) * move)
                    for (start, stop), move in zip(near.reads, moves, strict=True)
                )
                found[between] = Piece(cut.outputs(axis, spans[between]), reads, near.kind)
            break
    for number, piece in enumerate(found):
        if piece is None:
            look(number)
    return tuple(piece for piece in found if piece is not None)


def _repeat(cut: Whole, ends: tuple[ProgramPart, ProgramPart], count: int) -> bool:
    """Whether all that two pieces, ``count`` apart, read moves by whole positions, with arrays that repeat."""
    before, after = ends
    steps: dict[str, tuple[int, ...]] = {}
    for name, box in before.boxes.items():
        moves = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(box, after.boxes[name], strict=True)]
        if any(first != last or first % count for first, last in moves):
            return False
        steps[name] = tuple(first // count for first, _ in moves)
    originals = {step.y: step for step in cut.program.steps}
    for step in before.program.steps:
        if all(id(array) in cut.own for array in _list_arrays(step)):
            continue
        whole_step = originals.get(step.y)
        if not isinstance(whole_step, ResizeStep):
            return False
        spans = zip(before.boxes[step.y][2:], after.boxes[step.y][2:], steps[step.y][2:], strict=True)
        tables = zip(whole_step.index, whole_step.weight, spans, strict=True)
        if not all(_shows_period(index, weight, a[0], b[1], move) for index, weight, (a, b, move) in tables):
            return False
    return True


def _shows_period(index: Array, weight: Array, first: int, stop: int, period: int) -> bool:
    """Whether the tables of one axis of a resize say the same again after some outputs, moved; 0 for not cut."""
    if not period:
        return True
    rows, factors = index[:, first:stop], weight[:, first:stop]
    moved = rows[:, period:] - rows[:, :-period]
    return bool((moved == moved[0, 0]).all() and (factors[:, period:] == factors[:, :-period]).all())


def _list_arrays(value: object) -> list[object]:
    """All arrays that steps hold."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [array for each in value for array in _list_arrays(each)]
    if is_dataclass(value) and not isinstance(value, type):
        return [array for each in fields(value) for array in _list_arrays(getattr(value, each.name))]
    return []
