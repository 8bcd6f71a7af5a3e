"""`ConcatStep`: values side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Dependence, Part, Place
from omniconv.program.steps.step import Move, Shapes, check_axis
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class ConcatStep(Move):
    """Concatenation along ``axis`` (1 = channels)."""

    word: ClassVar[str] = "concat"
    xs: tuple[str, ...]
    y: str
    axis: int = 1

    @property
    def reads(self) -> tuple[str, ...]:
        """All of ``xs``."""
        return self.xs

    def renamed(self, names: Mapping[str, str]) -> ConcatStep:
        """All of ``xs`` as well."""
        return replace(self, xs=tuple(names.get(x, x) for x in self.xs), y=names.get(self.y, self.y))

    def output_shape(self, shapes: Shapes) -> Shape:
        """The sizes along the axis together."""
        first = shapes[self.xs[0]]
        axis = check_axis(self.axis, first)
        rest = [(*shapes[x][:axis], *shapes[x][axis + 1 :]) for x in self.xs]
        if any(item != rest[0] for item in rest) or any(len(shapes[x]) != len(first) for x in self.xs):
            raise ShapeError(
                f"shapes {[shapes[x] for x in self.xs]} side by side along axis {axis}", need="equal sizes elsewhere"
            )
        return (*first[:axis], sum(shapes[x][axis] for x in self.xs), *first[axis + 1 :])

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each operand has a share of the axis."""
        parts = []
        axis = self.axis % len(shapes[self.y])
        first, total = 0, shapes[self.y][axis]
        for name in self.xs:
            size = shapes[name][axis]
            parts.append(Part(name, (Place(axis, size, first, total),)))
            first += size
        return Dependence(tuple(parts), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The same box of each operand, whole along the axis of the concatenation."""
        axis = self.axis % len(box)
        refuse_cut(box, shapes[self.y], (axis,), self.word)
        reads = tuple((*box[:axis], (0, shapes[name][axis]), *box[axis + 1 :]) for name in self.xs)
        return Cut(self, box, reads)
