"""Tiles along one axis: what each computes and reads, and which of them are alike.

Each step is cut on every axis by itself (:mod:`omniconv.program.cut`), so that a tile is one piece of each axis, and
tiles of pieces that are alike on every axis are computed by one program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

from omniconv.program.cut import Box, Interval, whole
from omniconv.program.describe import describe_program
from omniconv.program.part import ProgramPart, cut_program
from omniconv.program.program import Program


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
    """

    def __init__(self, program: Program, tensor: str) -> None:
        self.program, self.tensor, self.source = program, tensor, program.inputs[0]
        self.sizes = tuple(program.shapes[tensor][2:])
        self._own = frozenset(map(id, _list_arrays(program.steps)))

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
        return describe_program(part, self._own)


def cut_line(cut: Whole, axis: int, size: int) -> tuple[Piece, ...]:
    """The pieces of ``size`` output positions along one spatial axis; the last may be smaller."""
    total, rank = cut.sizes[axis], len(cut.sizes)
    kinds: dict[bytes, int] = {}
    found = []
    for first in range(0, total, size):
        span = (first, min(first + size, total))
        part = cut.part([span if n == axis else None for n in range(rank)])
        kind = kinds.setdefault(cut.describe(part.program), len(kinds))
        found.append(Piece(span, cut.reads(part)[axis], kind))
    return tuple(found)


def _list_arrays(value: object) -> list[object]:
    """All arrays that steps hold."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [array for each in value for array in _list_arrays(each)]
    if is_dataclass(value) and not isinstance(value, type):
        return [array for each in fields(value) for array in _list_arrays(getattr(value, each.name))]
    return []
