"""`StandardiseStep`: values standardised by their own mean and variance."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Blocks, Dependence, Form, Regroup
from omniconv.program.steps.post import Posted, PostOp
from omniconv.program.steps.step import Shapes, Work
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class StandardiseStep(Posted):
    """``y = post((x - mean) / sqrt(variance + epsilon))``, mean and variance over the last ``axes`` axes.

    The variance is the mean of the squared differences: it is never negative, unlike ``mean(x^2) - mean(x)^2``.
    """

    word: ClassVar[str] = "standardise"
    x: str
    y: str
    epsilon: float
    axes: int = 1
    post: tuple[PostOp, ...] = ()

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        shape = shapes[self.x]
        if not 1 <= self.axes <= len(shape):
            raise ShapeError(f"the last {self.axes} axes of a value of shape {tuple(shape)}", need="axes that it has")
        return self.check_operands(shape, shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """All of the last axes on all of them."""
        shape = tuple(shapes[self.x])
        axis = len(shape) - self.axes
        size = math.prod(shape[axis:])
        forms: list[Form] = [Blocks(axis, size, size, why="" if axis == 1 == self.axes else self.word)]
        if self.axes > 1:
            flat = (*shape[:axis], size)
            forms.insert(0, Regroup(shape, shape, tuple(range(len(shape))), flat))
            forms.append(Regroup(flat, flat, tuple(range(len(flat))), shape))
        return self.depend(tuple(forms), shapes, linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """What is standardised together stays together."""
        refuse_cut(box, shapes[self.y], range(len(box) - self.axes, len(box)), self.word)
        post, operands = self.cut_post(shapes, box)
        return Cut(replace(self, post=post), box, (box, *operands))

    def work(self, shapes: Shapes) -> Work:
        """Nothing but the constants of its operations."""
        del shapes
        return Work(constants=self.count_constants())
