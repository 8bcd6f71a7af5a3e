"""`ConstantStep`: a constant that stands where steps read values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from omniconv.program.cut import Box, Cut, take
from omniconv.program.dependence import Dependence
from omniconv.program.steps.step import Array, Shapes, Step, Work
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class ConstantStep(Step):
    """``y = value``, for a constant that stands where steps read values."""

    word: ClassVar[str] = "constant"
    y: str
    value: Array

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def renamed(self, names: Mapping[str, str]) -> ConstantStep:
        """What it produces."""
        return replace(self, y=names.get(self.y, self.y))

    def with_constants(self, convert: Callable[[Array], Array]) -> ConstantStep:
        """Its value."""
        found = convert(self.value)
        return self if found is self.value else replace(self, value=found)

    def output_shape(self, shapes: Shapes) -> Shape:
        """The constant's."""
        del shapes
        return tuple(self.value.shape)

    def dependence(self, shapes: Shapes) -> Dependence:
        """On nothing."""
        del shapes
        return Dependence((), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """A part of it."""
        del shapes
        return Cut(replace(self, value=take(self.value, box)), box, ())

    def work(self, shapes: Shapes) -> Work:
        """It holds its numbers."""
        del shapes
        return Work(constants=int(self.value.size))
