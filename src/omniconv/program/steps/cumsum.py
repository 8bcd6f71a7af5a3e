"""`CumSumStep`: running sums along one axis."""

from __future__ import annotations

from typing import ClassVar

from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Dependence, Part, Window
from omniconv.program.steps.step import Shapes, Step, check_axis
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape


@dataclass(frozen=True, slots=True)
class CumSumStep(Step):
    """``y[i] = x[0] + ... + x[i]`` along one axis, added in this order.

    ``exclusive``: without ``x[i]``. ``reverse``: ``y[i] = x[n-1] + ... + x[i]``, added from the end.
    """

    word: ClassVar[str] = "cumsum"
    x: str
    y: str
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        check_axis(self.axis, shapes[self.x])
        return shapes[self.x]

    def dependence(self, shapes: Shapes) -> Dependence:
        """A window as wide as the axis that ends at each position, or begins there."""
        shape = shapes[self.x]
        axis = self.axis % len(shape)
        near, far = (-1, shape[axis]) if self.exclusive else (0, shape[axis] - 1)
        taps = Axis(shape[axis], padding=(near, far) if self.reverse else (far, near))
        return Dependence((Part(self.x, (Window(axis, shape[axis], taps, border=False),)),), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Its axis is whole."""
        refuse_cut(box, shapes[self.y], (self.axis % len(box),), self.word)
        return Cut(self, box, (box,))
