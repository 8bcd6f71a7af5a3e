"""`LrnStep`: local response normalisation across channels."""

from __future__ import annotations

from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Dependence, Part, Window
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape


@dataclass(frozen=True, slots=True)
class LrnStep(Step):
    """``y = x / (bias + alpha / size * sum of x^2 over channels c - (size-1)//2 .. c + size//2) ^ beta``."""

    word: ClassVar[str] = "lrn"
    x: str
    y: str
    size: int
    alpha: float
    beta: float
    bias: float

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        if len(shapes[self.x]) < 2:
            raise ShapeError(f"normalisation across channels of {shapes[self.x]}", need="(N, C, *spatial)")
        return shapes[self.x]

    def dependence(self, shapes: Shapes) -> Dependence:
        """A window of channels, which ends where they end."""
        channels = shapes[self.x][1]
        before, after = min((self.size - 1) // 2, channels - 1), min(self.size // 2, channels - 1)
        window = Window(1, channels, Axis(before + after + 1, padding=(before, after)), border=False, average=True)
        return Dependence((Part(self.x, (window,)),), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """All channels."""
        refuse_cut(box, shapes[self.y], (1,), self.word)
        return Cut(self, box, (box,))
