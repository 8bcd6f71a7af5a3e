"""`SoftmaxStep`: softmax along one axis."""

from __future__ import annotations

from typing import ClassVar

from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Blocks, Dependence, Part
from omniconv.program.steps.step import Shapes, Step, check_axis
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class SoftmaxStep(Step):
    """Softmax (or its logarithm) along one axis."""

    word: ClassVar[str] = "softmax"
    x: str
    y: str
    axis: int
    log: bool = False

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        check_axis(self.axis, shapes[self.x])
        return shapes[self.x]

    def dependence(self, shapes: Shapes) -> Dependence:
        """All of the axis on all of it."""
        shape = shapes[self.x]
        axis = self.axis % len(shape)
        blocks = Blocks(axis, shape[axis], shape[axis], why="" if axis == 1 else self.word)
        return Dependence((Part(self.x, (blocks,)),), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Its axis is whole."""
        refuse_cut(box, shapes[self.y], (self.axis % len(box),), self.word)
        return Cut(self, box, (box,))
