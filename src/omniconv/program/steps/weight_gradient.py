"""`WeightGradientStep`: what a convolution owes to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.steps.step import Shapes, Step, Work
from omniconv.spec import Conv, Shape


@dataclass(frozen=True, slots=True)
class WeightGradientStep(Step):
    r"""The derivative of ``<conv(x, w), dy>`` with respect to the weights of a layer with explicit padding by zeros.

    .. math:: y[c, j, t] = \sum_{n, o} x[n,\; m(c, j),\; o s + t d - p]\; \mathrm{dy}[n, c, o]

    and for a transposed layer the same with x and dy exchanged.

    Attributes:
        x: what the layer reads.
        dy: the gradient of what it produces.
        spec: the layer.
    """

    word: ClassVar[str] = "weight_gradient"
    x: str
    y: str
    dy: str
    spec: Conv

    @property
    def reads(self) -> tuple[str, ...]:
        """The input and the gradient of the result."""
        return self.x, self.dy

    def renamed(self, names: Mapping[str, str]) -> WeightGradientStep:
        """The gradient as well."""
        return replace(Step.renamed(self, names), dy=names.get(self.dy, self.dy))

    def output_shape(self, shapes: Shapes) -> Shape:
        """That of the weights."""
        if self.spec.padding_mode != "zeros":
            raise ShapeError(f"padding_mode={self.spec.padding_mode!r}", need="an input that is padded already")
        expected, given = self.spec.output_shape(shapes[self.x]), tuple(shapes[self.dy])
        if given != expected:
            raise ShapeError(f"a gradient of shape {given}", need=f"shape {expected}, that of the layer's result")
        return self.spec.weight_shape

    def work(self, shapes: Shapes) -> Work:
        """As many multiply-adds as the layer itself."""
        macs = self.spec.count_macs(shapes[self.x])
        return Work(macs, macs, macs, macs)
