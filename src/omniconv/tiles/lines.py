"""Tiles along one axis: what each computes and reads, and which of them are alike.

Each step is cut on every axis by itself (:mod:`omniconv.program.cut`), so that a tile is one piece of each axis, and
tiles of pieces that are alike on every axis are computed by one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.cut import Box, Interval, whole
from omniconv.program.describe import describe_program
from omniconv.program.part import ProgramPart, cut_program
from omniconv.program.program import Program
from omniconv.program.steps import ResizeStep

Array: TypeAlias = npt.NDArray[Any]

_LOOKS: Final = 8
"""Pieces from each end that are cut before all of them are."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tile along one axis.

    Attributes:
        outputs: what it computes.
        reads: what it reads of the input.
        kind: a number that pieces share whose programs are the same.
    """

    outputs: Interval
    reads: Interval
    kind: int


class Whole:
    """What is cut.

    Args:
        program: for the whole image.
        tensor: its output.

    Attributes:
        source: the input, which is an image.
        sizes: output positions on each spatial axis.
        own: the arrays of the program, by identity.
    """

    def __init__(self, program: Program, tensor: str) -> None:
        self.program, self.tensor, self.source = program, tensor, program.inputs[0]
        self.sizes = tuple(program.shapes[tensor][2:])
        self.own = frozenset(map(id, _list_arrays(program.steps)))

    def part(self, spans: Sequence[Interval | None]) -> ProgramPart:
        """The part for some outputs on each spatial axis; ``None`` for all."""
        box = list(whole(self.program.shapes[self.tensor]))
        for axis, span in enumerate(spans, 2):
            if span is not None:
                box[axis] = span
        return cut_program(self.program, self.tensor, tuple(box))

    def reads(self, part: ProgramPart) -> Box:
        """What a part reads of the image on each spatial axis."""
        return part.reads[self.source][2:]

    def describe(self, part: Program) -> bytes:
        """A hash of a part that equals that of another if and only if they compute the same."""
        return describe_program(part, self.own)


def cut_line(cut: Whole, axis: int, size: int, grid: int) -> tuple[Piece, ...]:
    """The pieces of ``size`` output positions along one spatial axis; the last may be smaller.

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
        found[number] = Piece(spans[number], cut.reads(part)[axis], kind)
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
            step = (far.reads[0] - near.reads[0]) // (last - first)
            for between in range(first + 1, last):
                start, stop = (end + (between - first) * step for end in near.reads)
                found[between] = Piece(spans[between], (start, stop), near.kind)
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
