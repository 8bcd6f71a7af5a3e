"""`RearrangeStep`: reshapes and transposes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.dependence import Dependence, Part, Regroup
from omniconv.program.steps.step import Shapes, Step
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class RearrangeStep(Step):
    """View x row-major as shape ``split``, permute the axes by ``perm``, read row-major as y's shape.

    Covers reshape (identity ``perm``), transpose (``split`` = x's shape), depth-to-space and space-to-depth.
    """

    word: ClassVar[str] = "rearrange"
    x: str
    y: str
    split: Shape
    perm: tuple[int, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """y's shape where it is said, else ``split`` permuted."""
        size = math.prod(shapes[self.x])
        stated = shapes.get(self.y, tuple(self.split[axis] for axis in self.perm))
        sizes = math.prod(self.split), math.prod(stated)
        if sorted(self.perm) != list(range(len(self.split))) or sizes != (size, size):
            raise ShapeError(
                f"{shapes[self.x]} seen as {self.split}, permuted by {self.perm}, read as {stated}",
                need="equal numbers of elements and a permutation",
            )
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on one entry."""
        form = Regroup(shapes[self.x], tuple(self.split), tuple(self.perm), shapes[self.y])
        return Dependence((Part(self.x, (form,)),), linear=True)
