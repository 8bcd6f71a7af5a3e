"""`QuantisedTableStep`: any function of one quantised value, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Dependence, Part
from omniconv.program.element import INT16, Element
from omniconv.program.levels import LARGEST, Levels, require_integers
from omniconv.program.steps.quantised_conv import Integers
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Shape

ENTRIES = LARGEST + 1
"""Of a table, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedTableStep(Step):
    r"""A function of each integer by itself, read off a table.

    .. math:: y = t_{x - \mathrm{low}}

    Attributes:
        x_levels: of x; ``low`` is theirs.
        table: the integer of y for each integer from ``low`` to ``high``, int16.
        levels: of y.
    """

    word: ClassVar[str] = "quantised table"
    x: str
    y: str
    x_levels: Levels
    table: Integers
    levels: Levels

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """Integers from integers."""
        require_integers(self.word, reads, usual)
        return INT16

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        table, size = self.table, self.x_levels.high - self.x_levels.low + 1
        if table.shape != (size,) or table.dtype != np.int16 or size > ENTRIES:
            raise ShapeError(
                f"a table of {table.dtype} of shape {table.shape} for integers from {self.x_levels.low} to "
                f"{self.x_levels.high}",
                need=f"one int16 for each, and at most {ENTRIES}",
            )
        if int(table.min()) < self.levels.low or int(table.max()) > self.levels.high:
            raise ShapeError(
                f"a table of integers from {table.min()} to {table.max()}",
                need=f"integers from {self.levels.low} to {self.levels.high}",
            )
        return shapes[self.x]

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on the same entry; a table is not linear."""
        del shapes
        return Dependence((Part(self.x, ()),), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The same box."""
        del shapes
        return Cut(self, box, (box,))
