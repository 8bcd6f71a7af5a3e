"""Tiles along one axis: what each computes and reads, and which of them are alike.

Each step is cut on every axis by itself (:mod:`omniconv.program.cut`), so that a tile is one piece of each axis, and
tiles of pieces that are alike on every axis are computed by one program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from omniconv.program.cut import Box, Interval, whole
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


def describe_program(program: Program, known: Collection[int] = ()) -> bytes:
    """A hash of shapes and steps, whatever the values are called.

    Args:
        program: to describe.
        known: arrays, by identity, that live as long as the hash is used: these are told apart as objects, all others
            by what they hold.
    """
    names = {name: f"input {n}" for n, name in enumerate(program.inputs)}
    for step in program.steps:
        names[step.y] = f"value {len(names)}"
    state = hashlib.blake2b(digest_size=16)
    state.update(repr((program.element.name, [program.shapes[name] for name in names])).encode())
    for step in program.steps:
        _feed(state, step.renamed(names), known)
    state.update(repr([names[name] for name in program.outputs]).encode())
    return state.digest()


def describe_value(value: object) -> str:
    """A hash of what a checked graph, a spec or the arrays of one hold, whatever objects hold it."""
    state = hashlib.blake2b(digest_size=16)
    state.update(describe_program(value)) if isinstance(value, Program) else _feed(state, value, ())
    return state.hexdigest()


def _feed(state: Any, value: object, known: Collection[int]) -> None:
    """Add something that a step holds to a hash."""
    if isinstance(value, np.ndarray):
        state.update(repr((value.shape, value.dtype.str)).encode())
        if id(value) in known:
            state.update(repr(id(value)).encode())
        else:
            state.update(
                repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
            )
    elif is_dataclass(value) and not isinstance(value, type):
        state.update(type(value).__name__.encode())
        for each in fields(value):
            _feed(state, getattr(value, each.name), known)
    elif isinstance(value, tuple):
        state.update(f"({len(value)}".encode())
        for each in value:
            _feed(state, each, known)
    elif isinstance(value, Mapping):
        _feed(state, tuple(sorted(value.items())), known)
    else:
        state.update(repr(value).encode() + b";")


def _list_arrays(value: object) -> list[object]:
    """All arrays that steps hold."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [array for each in value for array in _list_arrays(each)]
    if is_dataclass(value) and not isinstance(value, type):
        return [array for each in fields(value) for array in _list_arrays(getattr(value, each.name))]
    return []
