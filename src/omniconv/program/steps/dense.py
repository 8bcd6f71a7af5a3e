"""`DenseStep`: a matrix of weights along the last axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, refuse_cut
from omniconv.program.dependence import Blocks, Dependence, Product
from omniconv.program.steps.post import Posted, PostOp
from omniconv.program.steps.step import Array, Shapes, Work
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class DenseStep(Posted):
    """``y = post(x @ w.T + b)`` for x ``(..., K)``, w ``(M, K)``, y ``(..., M)``."""

    word: ClassVar[str] = "dense"
    x: str
    y: str
    w: Array
    b: Array | None = None
    post: tuple[PostOp, ...] = ()

    def output_shape(self, shapes: Shapes) -> Shape:
        """M in place of K."""
        shape = shapes[self.x]
        if not shape or shape[-1] != self.w.shape[1]:
            raise ShapeError(f"a value of shape {shape} times weights {self.w.shape}", need="x (..., K), w (M, K)")
        return self.check_operands((*shape[:-1], self.w.shape[0]), shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """All of the last axis on all of it."""
        outputs, inputs = self.w.shape
        blocks = Blocks(len(shapes[self.x]) - 1, inputs, outputs, why="dense layer")
        return self.depend((Product(blocks, (), self.w, transposed=False),), shapes)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Rows."""
        refuse_cut(box, shapes[self.y], (len(box) - 1,), "dense layer")
        post, operands = self.cut_post(shapes, box)
        return Cut(replace(self, post=post), box, ((*box[:-1], (0, shapes[self.x][-1])), *operands))

    def work(self, shapes: Shapes) -> Work:
        """One MAC for each weight and row."""
        macs = math.prod(shapes[self.y][:-1]) * int(self.w.size)
        return Work(macs, macs, macs, macs, self.w, self.b, self.count_constants())
