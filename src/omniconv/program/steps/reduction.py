"""`ReduceStep`: a mean, a sum, a product, a maximum or a minimum over all positions."""

from __future__ import annotations

from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Blocks, Dependence, Form, Part, Regroup
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class ReduceStep(Step):
    """Mean, sum, product, maximum or minimum over all axes after the first two.

    y is ``(N, C)`` or ``(N, C, 1, ...)``.
    """

    word: ClassVar[str] = "global_pool"
    x: str
    y: str
    op: str  # "mean" | "sum" | "prod" | "max" | "min"

    def output_shape(self, shapes: Shapes) -> Shape:
        """``(N, C)`` where y is said to be, else ``(N, C, 1, ...)``."""
        shape = shapes[self.x]
        if len(shape) < 2:
            raise ShapeError(f"{self.op} over all positions of a value of shape {shape}", need="(N, C, *spatial)")
        kept = (*shape[:2], *(1,) * (len(shape) - 2))
        stated = shapes.get(self.y, kept)
        if tuple(stated) not in (kept, tuple(shape[:2])):
            raise ShapeError(f"{self.op} of {shape} with a result of {stated}", need=f"{kept} or {kept[:2]}")
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """One position on all positions of every spatial axis."""
        shape, result = shapes[self.x], shapes[self.y]
        why = f"{self.op} over all positions"
        forms: list[Form] = [
            Blocks(axis, size, 1, average=self.op in ("mean", "max", "min"), why=why)
            for axis, size in enumerate(shape[2:], 2)
        ]
        kept = (*shape[:2], *(1,) * (len(shape) - 2))
        if tuple(result) != kept:
            forms.append(Regroup(kept, kept, tuple(range(len(kept))), result))
        return Dependence((Part(self.x, tuple(forms)),), linear=self.op in ("mean", "sum"))

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """All positions, whatever is asked for."""
        return Cut(self, box, ((*box[:2], *((0, size) for size in shapes[self.x][2:])),))
