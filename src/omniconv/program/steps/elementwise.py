"""`MapStep`: elementwise operations, and broadcasting."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from omniconv.program.cut import Box, Cut, through_broadcast
from omniconv.program.dependence import Dependence
from omniconv.program.steps.post import Posted, PostOp, broadcast, check_broadcast
from omniconv.program.steps.step import Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class MapStep(Posted):
    """``y = post(x)``, elementwise. x broadcasts (NumPy rules) to y's shape."""

    word: ClassVar[str] = "elementwise"
    x: str
    y: str
    post: tuple[PostOp, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """y's shape where it is said, else x's."""
        shape = shapes.get(self.y, shapes[self.x])
        check_broadcast(shapes[self.x], shape, "the input")
        return self.check_operands(shape, shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on the same entry, after broadcasting."""
        return self.depend(broadcast(shapes[self.x], shapes[self.y]), shapes)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The same box of everything."""
        post, operands = self.cut_post(shapes, box)
        return Cut(replace(self, post=post), box, (through_broadcast(shapes[self.x], box), *operands))
