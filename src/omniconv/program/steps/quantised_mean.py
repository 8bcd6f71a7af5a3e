"""`QuantisedMeanStep`: the mean over all positions, in integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Dependence
from omniconv.program.element import INT16, Element
from omniconv.program.levels import LARGEST, Levels, require_integers
from omniconv.program.steps.reduction import ReduceStep
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class QuantisedMeanStep(Step):
    r"""Mean over all axes after the first two, of integers.

    .. math:: y = \mathrm{clamp}(\mathrm{round}(f \textstyle\sum x),\, \mathrm{low},\, \mathrm{high})

    with an exact sum, rounded to float32, multiplied in float32 by the ratio over the number of positions, and rounded
    with halves to even. y is ``(N, C)`` or ``(N, C, 1, ...)``.

    Attributes:
        ratio: scale of x through that of y.
        levels: of y.
    """

    word: ClassVar[str] = "quantised mean"
    x: str
    y: str
    ratio: float
    levels: Levels

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """Integers from integers."""
        require_integers(self.word, reads, usual)
        return INT16

    def output_shape(self, shapes: Shapes) -> Shape:
        """That of a mean."""
        if LARGEST * math.prod(shapes[self.x][2:]) >= 2**31:
            raise UnsupportedError(f"sums over {math.prod(shapes[self.x][2:])} positions", need="sums below 2**31")
        return self._float.output_shape(shapes)

    def factor(self, *sizes: int) -> np.float32:
        """What sums over positions of such sizes are multiplied by."""
        return np.float32(self.ratio / math.prod(sizes))

    def dependence(self, shapes: Shapes) -> Dependence:
        """One position on all positions; rounding is not linear."""
        return Dependence(self._float.dependence(shapes).parts, linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """All positions, whatever is asked for."""
        return Cut(self, box, self._float.cut(shapes, box).reads)

    @property
    def _float(self) -> ReduceStep:
        return ReduceStep(self.x, self.y, "mean")
