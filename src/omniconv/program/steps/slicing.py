"""`SliceStep`: every so many positions of each axis."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Dependence, Part, Slice
from omniconv.program.steps.step import Move, Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class SliceStep(Move):
    """``y[i] = x[starts + i * steps]`` on every axis; steps may be negative."""

    word: ClassVar[str] = "slice"
    x: str
    y: str
    starts: tuple[int, ...]
    steps: tuple[int, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """y's shape where it is said, else as many positions as there are."""
        shape = shapes[self.x]
        if not len(shape) == len(self.starts) == len(self.steps) or 0 in self.steps:
            raise ShapeError(f"starts={self.starts}, steps={self.steps} of {shape}", need="one of each for each axis")
        most = [
            (size - 1 - start) // step + 1 if step > 0 else start // -step + 1
            for size, start, step in zip(shape, self.starts, self.steps, strict=True)
        ]
        stated = shapes.get(self.y, tuple(most))
        inside = all(0 <= start < size for start, size in zip(self.starts, shape, strict=True))
        if not inside or len(stated) != len(shape) or any(n > m for n, m in zip(stated, most, strict=True)):
            raise ShapeError(
                f"{stated} positions of {shape} from {self.starts} by {self.steps}", need="positions that it has"
            )
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each position on one."""
        rows = zip(shapes[self.x], self.starts, self.steps, shapes[self.y], strict=True)
        forms = tuple(
            Slice(axis, size, start, step, count)
            for axis, (size, start, step, count) in enumerate(rows)
            if (start, step, count) != (0, 1, size)
        )
        return Dependence((Part(self.x, forms),), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """From the first to the last position that is copied; an axis that is copied as a whole is read as a whole."""
        reads, starts = [], []
        for size, count, span, start, step in zip(
            shapes[self.x], shapes[self.y], box, self.starts, self.steps, strict=True
        ):
            first, last = start + span[0] * step, start + (span[1] - 1) * step
            reads.append((0, size) if span == (0, count) else (min(first, last), max(first, last) + 1))
            starts.append(first - reads[-1][0])
        return Cut(replace(self, starts=tuple(starts)), box, (tuple(reads),))
