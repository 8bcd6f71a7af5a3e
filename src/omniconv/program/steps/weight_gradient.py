"""`WeightGradientStep`: what a convolution owes to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from omniconv.errors import ShapeError
from omniconv.program.dependence import Blocks, Broadcast, Dependence, Form, Part, Regroup, Resample
from omniconv.program.steps.step import Shapes, Step, Work
from omniconv.records import dataclass
from omniconv.spec import Axis, Conv, Shape


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

    def dependence(self, shapes: Shapes) -> Dependence:
        """Along each axis a tap depends on the positions whose product it has a part in; all images count alike."""
        spec, groups = self.spec, self.spec.groups
        narrow, wide = (self.x, self.dy) if spec.transposed else (self.dy, self.x)
        own, met = shapes[narrow][1] // groups, shapes[wide][1] // groups
        kernel = spec.kernel_size
        parts = {}
        for name in (narrow, wide):
            shape = shapes[name]
            forms: list[Form] = []
            for axis, taps in enumerate(spec.axes()):
                at, inside = _meetings(taps, shapes[narrow][2 + axis], shapes[wide][2 + axis])
                index = np.where(inside, at, 0) if name == wide else np.indices(at.shape)[0]
                forms.append(Resample(2 + axis, shape[2 + axis], index, inside.astype(np.float64)))
            forms.append(Blocks(0, shape[0], 1, average=False, why=self.word))
            channels = (1, shape[1], *kernel)
            split = (groups, own, 1, *kernel) if name == narrow else (groups, 1, met, *kernel)
            whole = (groups, own, met, *kernel)
            forms += [
                Regroup(channels, channels, tuple(range(len(channels))), split),
                Broadcast(split, whole),
                Regroup(whole, whole, tuple(range(len(whole))), spec.weight_shape),
            ]
            parts[name] = tuple(forms)
        return Dependence((Part(self.x, parts[self.x]), Part(self.dy, parts[self.dy], adds=False)), linear=False)

    def work(self, shapes: Shapes) -> Work:
        """As many multiply-adds as the layer itself."""
        macs = self.spec.count_macs(shapes[self.x])
        return Work(macs, macs, macs, macs)


def _meetings(axis: Axis, count: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each of ``count`` positions and each tap of an axis, the one of ``size`` positions that they meet at, and
    whether there is one.
    """
    taps = np.arange(axis.kernel)[:: -1 if axis.flip else 1]
    found = np.arange(count)[:, None] * axis.stride + taps * axis.dilation - axis.padding[0]
    return found, (found >= 0) & (found < size)
