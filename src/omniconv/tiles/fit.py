"""Tile sizes that fit into memory, and what tiles cost."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from omniconv.compiler.planning.plan import plan as make_plan
from omniconv.errors import LimitError
from omniconv.integers import ceil_div
from omniconv.limits import format_size
from omniconv.program.cut import Interval
from omniconv.program.part import ProgramPart
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.tiles.lines import Piece, Whole
from omniconv.tiles.room import COPIES
from omniconv.tiles.subject import TileSubject

BUFFERS: Final = 3
"""Inputs, and outputs, that exist at once: of the tile that is computed, and of those before and after it."""


COMPILER: Final = 32 * 2**20
"""What it takes to compile a kind of tile [bytes]."""


def leave_room(memory: int) -> int:
    """What tiles may take of a budget: of a large one all but what lets the next kind be compiled meanwhile [bytes]."""
    return memory - COMPILER if memory >= 8 * COMPILER else memory


@dataclass(frozen=True, slots=True)
class Storage:
    """What is asked of tiles by where images and results are.

    Attributes:
        aligned: for outputs whose tiles have to begin at multiples of something (the chunks of where they go), of
            what, on each axis of the array.
        fixed: what libraries take to pack and unpack chunks, whatever the tiles [bytes].
        packed: outputs of which whole tiles are packed.
    """

    aligned: Mapping[str, Sequence[int]] = field(default_factory=dict)
    fixed: int = 0
    packed: frozenset[str] = frozenset()

    def count(self, program: Program) -> int:
        """Inputs and outputs of the tiles that are read, computed and written at once, one of each as it is stored,
        and what it takes to pack and unpack them [bytes].
        """
        sizes = {name: math.prod(shape) for name, shape in program.shapes.items()}
        read, written = (sum(sizes[name] for name in names) for names in (program.inputs, program.outputs))
        packed = sum(sizes[name] for name in program.outputs if name in self.packed)
        return self.fixed + program.element.bytes * ((BUFFERS + 1) * (read + written) + COPIES * packed)


def fit_sizes(
    whole: Whole, subject: TileSubject, steps: Sequence[int], allowed: int, most: tuple[int, ...], storage: Storage
) -> tuple[tuple[int, ...], int]:
    """Output positions of a tile on each axis, as large as memory allows, and what it takes [bytes]."""
    counts = [ceil_div(total, size) for total, size in zip(whole.sizes, most, strict=True)]
    sizes, goal = most, allowed
    while True:
        part = whole.part(_inner(whole.sizes, sizes))
        estimate = _estimate(part, storage)
        needed = estimate if estimate > goal else _measure(part, subject, storage)
        if needed <= allowed and estimate <= goal:
            return sizes, needed
        if estimate <= goal:
            goal = min(int(estimate * allowed / needed), estimate - 1)
        splittable = [n for n, (size, step) in enumerate(zip(sizes, steps, strict=True)) if size > step]
        if not splittable:
            least = _measure(part, subject, storage)
            raise LimitError(
                f"memory={format_size(allowed)} for tiles of {'x'.join(map(str, sizes))} outputs, the smallest",
                need=f"at least {format_size(least)}",
                fix=f'memory="{ceil_div(least, 2**10)}K"',
                at=subject.at,
            )
        axis = max(splittable, key=lambda n: sizes[n])
        smaller = sizes
        while smaller[axis] == sizes[axis]:
            counts[axis] += max(1, counts[axis] // 8)
            smaller = _sizes(whole.sizes, counts, steps)
        sizes = smaller


def _sizes(totals: Sequence[int], counts: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Equal tiles on the grid."""
    return tuple(
        min(ceil_div(ceil_div(total, count), step) * step, total)
        for total, count, step in zip(totals, counts, steps, strict=True)
    )


def _inner(totals: Sequence[int], sizes: Sequence[int]) -> list[Interval | None]:
    """A tile that has others around it, where there are some: the one that reads most."""
    found: list[Interval | None] = []
    for total, size in zip(totals, sizes, strict=True):
        first = (total // size // 2) * size
        found.append(None if size == total else (first, min(first + size, total)))
    return found


def _estimate(part: ProgramPart, storage: Storage) -> int:
    """About what a tile takes: its values that live at once, and its buffers [bytes]."""
    program = part.program
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        last.update(dict.fromkeys((*step.reads, step.y), index))
    live, peak = 0, 0
    for index, step in enumerate(program.steps):
        live += math.prod(program.shapes[step.y])
        peak = max(peak, live)
        live -= sum(
            math.prod(program.shapes[name])
            for name in {*step.reads, step.y}
            if last[name] == index and name not in program.inputs
        )
    return program.element.bytes * peak + storage.count(program)


def _measure(part: ProgramPart, subject: TileSubject, storage: Storage) -> int:
    """What a tile takes, as it will be compiled [bytes]."""
    found = make_plan(part.program, subject.target, subject.options)
    working = found.arena_bytes + subject.options.threads * found.scratch_bytes + found.zero_bytes
    return working + found.constant_bytes + storage.count(part.program)


def count_tiles_macs(whole: Whole, lines: tuple[tuple[Piece, ...], ...]) -> int:
    """Multiply-accumulates of all tiles, counted once for each kind [MAC]."""
    total = 0
    for pieces in itertools.product(*(_first_of_kinds(line) for line in lines)):
        part = whole.part([piece.outputs[0] for piece, _ in pieces])
        total += count_macs(part.program) * math.prod(count for _, count in pieces)
    return total


def _first_of_kinds(line: tuple[Piece, ...]) -> list[tuple[Piece, int]]:
    counts = Counter(piece.kind for piece in line)
    first = {piece.kind: piece for piece in reversed(line)}
    return [(first[kind], count) for kind, count in counts.items()]


def count_macs(program: Program) -> int:
    """Multiply-accumulates of a program [MAC]."""
    return sum(step.work(program.shapes).executed for step in program.steps)
