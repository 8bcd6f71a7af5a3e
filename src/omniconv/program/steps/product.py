"""`ProductStep`: a matrix product of two values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, through_broadcast
from omniconv.program.dependence import Blocks, Dependence, Form, Part, Regroup, Take
from omniconv.program.steps.post import Posted, PostOp
from omniconv.program.steps.step import Shapes, Work
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class ProductStep(Posted):
    """``y[..., m, n] = post(sum over k of x[..., m, k] * w[..., k, n])`` for two values of at least two axes.

    Their axes before the last two broadcast (NumPy rules).
    """

    word: ClassVar[str] = "product"
    x: str
    y: str
    w: str
    post: tuple[PostOp, ...] = ()

    @property
    def factors(self) -> tuple[str, ...]:
        """The right side."""
        return (self.w,)

    def renamed(self, names: Mapping[str, str]) -> ProductStep:
        """The right side as well."""
        return replace(Posted.renamed(self, names), w=names.get(self.w, self.w))

    def output_shape(self, shapes: Shapes) -> Shape:
        """The rows of x, the columns of w, and the axes before them broadcast together."""
        x, w = shapes[self.x], shapes[self.w]
        need = "x (..., M, K), w (..., K, N), with axes before them that broadcast"
        if len(x) < 2 or len(w) < 2 or x[-1] != w[-2]:
            raise ShapeError(f"a value of shape {x} times one of shape {w}", need=need)
        try:
            batch = np.broadcast_shapes(x[:-2], w[:-2])
        except ValueError:
            raise ShapeError(f"a value of shape {x} times one of shape {w}", need=need) from None
        return self.check_operands((*batch, x[-2], w[-1]), shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """A row of x and a column of w, all along the axis that is summed over; the right side multiplies the left."""
        x, w, shape = shapes[self.x], shapes[self.w], shapes[self.y]
        rows, columns = len(x) - 1, len(w) - 2
        right = Part(
            self.w,
            (
                Blocks(columns, w[-2], shape[-2], why=self.word),
                *_repeat((*w[:-2], shape[-2], w[-1]), shape),
            ),
            adds=False,
        )
        left = (Blocks(rows, x[-1], shape[-1], why=self.word), *_repeat((*x[:-1], shape[-1]), shape))
        return self.depend(left, shapes, (right,), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Rows of x and columns of w, whole along what is summed over."""
        x, w = shapes[self.x], shapes[self.w]
        rows = (*through_broadcast(x[:-2], box[:-2]), box[-2], (0, x[-1]))
        columns = (*through_broadcast(w[:-2], box[:-2]), (0, w[-2]), box[-1])
        post, operands = self.cut_post(shapes, box)
        return Cut(replace(self, post=post), box, (rows, columns, *operands))

    def work(self, shapes: Shapes) -> Work:
        """One MAC for each entry of the result and each of its terms."""
        macs = math.prod(shapes[self.y]) * shapes[self.x][-1]
        return Work(macs, macs, macs, macs, constants=self.count_constants())


def _repeat(source: Shape, shape: Shape) -> tuple[Form, ...]:
    """A value of shape ``source`` repeated along the axes of ``shape`` that it lacks. It is a factor, and no gate."""
    wide = (1,) * (len(shape) - len(source)) + tuple(source)
    forms: list[Form] = []
    if wide != tuple(source):
        forms.append(Regroup(tuple(source), tuple(source), tuple(range(len(source))), wide))
    for axis, (one, size) in enumerate(zip(wide, shape, strict=True)):
        if one != size:
            forms.append(Take(axis, one, np.zeros(size, np.int64)))
    return tuple(forms)
