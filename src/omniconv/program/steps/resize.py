"""`ResizeStep`: resampling by tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Dependence, Part, Resample
from omniconv.program.steps.step import Array, Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class ResizeStep(Step):
    """Separable resampling of the spatial axes.

    ``y[.., o, ..] = sum_t x[.., index[t, o], ..] * weight[t, o]``, one ``(index, weight)`` pair of arrays of shape
    ``(taps, output size)`` for each spatial axis.
    """

    word: ClassVar[str] = "resize"
    x: str
    y: str
    index: tuple[npt.NDArray[np.int64], ...]
    weight: tuple[Array, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """As many positions as the tables have."""
        shape = shapes[self.x]
        if len(shape) != 2 + len(self.index):
            raise ShapeError(f"{len(self.index)} tables for a value of shape {shape}", need="one for each spatial axis")
        return (*shape[:2], *(index.shape[1] for index in self.index))

    def with_constants(self, convert: Callable[[Array], Array]) -> Self:
        """The weights of its tables."""
        found = tuple(map(convert, self.weight))
        same = all(new is old for new, old in zip(found, self.weight, strict=True))
        return self if same else replace(self, weight=found)

    def dependence(self, shapes: Shapes) -> Dependence:
        """What the tables read."""
        tables = zip(shapes[self.x][2:], self.index, self.weight, strict=True)
        forms = tuple(Resample(axis, size, index, weight) for axis, (size, index, weight) in enumerate(tables, 2))
        return Dependence((Part(self.x, forms),), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The columns of its tables, and all that they name, also with a weight of zero: that may stand at a NaN."""
        reads, index, weight = list(box[:2]), [], []
        for size, span, rows, factors in zip(shapes[self.x][2:], box[2:], self.index, self.weight, strict=True):
            if span == (0, rows.shape[1]):
                found, part, factor = (0, size), rows, factors
            else:
                part, factor = rows[:, slice(*span)], np.ascontiguousarray(factors[:, slice(*span)])
                found = (int(part.min()), int(part.max()) + 1)
                part = part - found[0]
            reads.append(found)
            index.append(part)
            weight.append(factor)
        return Cut(replace(self, index=tuple(index), weight=tuple(weight)), box, (tuple(reads),))
