"""`QuantisedMapStep`: elementwise operations on quantised values, into a quantised value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import UnsupportedError
from omniconv.program.cut import Box, Cut, through_broadcast
from omniconv.program.dependence import Dependence
from omniconv.program.element import INT16, Element
from omniconv.program.levels import Levels
from omniconv.program.steps.post import Posted, PostOp, broadcast, check_broadcast
from omniconv.program.steps.step import Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedMapStep(Posted):
    r"""Elementwise operations on numbers, of which some, or the result, are quantised.

    .. math:: y = \mathrm{clamp}(\mathrm{round}(\mathrm{post}(x\,s_x) / s),\, \mathrm{low},\, \mathrm{high})

    in float32, halves to even. Without ``levels`` y is the number itself; without ``x_scale`` x is. Quantising is the
    step without operations that reads a float, the way back one that reads integers and has no levels. NaN becomes
    ``low``.

    Attributes:
        x_scale: of x, where that is quantised.
        scales: of each operand that is a value, in order, ``None`` for floats.
        levels: of y.
    """

    word: ClassVar[str] = "quantised elementwise"
    x: str
    y: str
    x_scale: float | None
    post: tuple[PostOp, ...] = ()
    scales: tuple[float | None, ...] = ()
    levels: Levels | None = None

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """Integers where there are levels; what is read is of integers where it has a scale."""
        for element, scale in zip(reads, (self.x_scale, *self.scales), strict=True):
            if element != (usual if scale is None else INT16):
                raise UnsupportedError(f"a value of {element} with scale {scale}", need="scales for integers alone")
        return usual if self.levels is None else INT16

    def output_shape(self, shapes: Shapes) -> Shape:
        """y's shape where it is said, else x's."""
        shape = shapes.get(self.y, shapes[self.x])
        check_broadcast(shapes[self.x], shape, "the input")
        return self.check_operands(shape, shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on the same entry, after broadcasting; rounding is not linear."""
        return self.depend(broadcast(shapes[self.x], shapes[self.y]), shapes, linear=self.levels is None)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The same box of everything."""
        post, operands = self.cut_post(shapes, box)
        return Cut(replace(self, post=post), box, (through_broadcast(shapes[self.x], box), *operands))
