"""`PoolStep`: maximum or mean over windows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, cut_windows
from omniconv.program.dependence import Dependence, Form, Part, Window
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape


@dataclass(frozen=True, slots=True)
class PoolStep(Step):
    """Maximum or mean over a window. Windows may hang over the padded border (ceil mode): y's shape says how far.

    The divisor of a mean counts the positions of the window inside the input, or with ``count_padding`` inside the
    explicitly padded input.
    """

    word: ClassVar[str] = "pool"
    x: str
    y: str
    op: str  # "max" | "mean"
    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: tuple[tuple[int, int], ...]
    count_padding: bool = False

    def axes(self) -> tuple[Axis, ...]:
        """The window on each spatial axis."""
        rows = zip(self.kernel, self.stride, self.dilation, self.padding, strict=True)
        return tuple(Axis(k, s, d, pair) for k, s, d, pair in rows)

    def output_shape(self, shapes: Shapes) -> Shape:
        """``floor((size + padding - extent) / stride) + 1`` positions, and as many more as windows hang over."""
        shape = shapes[self.x]
        if len(shape) != 2 + len(self.kernel):
            raise ShapeError(f"a window {self.kernel} over a value of shape {shape}", need="(N, C, *spatial)")
        least = [axis.infer_output(size) for axis, size in zip(self.axes(), shape[2:], strict=True)]
        stated = shapes.get(self.y)
        if stated is None:
            return (*shape[:2], *least)
        starts = zip(stated[2:], self.axes(), shape[2:], strict=True) if len(stated) == len(shape) else ()
        if (
            len(stated) != len(shape)
            or stated[:2] != tuple(shape[:2])
            or any(n < 1 or (n - 1) * axis.stride >= size + sum(axis.padding) for n, axis, size in starts)
        ):
            raise ShapeError(f"windows over {shape} with a result of {stated}", need="windows that begin inside")
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """Taps along space, as far as the result says."""
        forms: list[Form] = []
        for n, (axis, size, result) in enumerate(
            zip(self.axes(), shapes[self.x][2:], shapes[self.y][2:], strict=True), 2
        ):
            before = axis.padding[0]
            after = (result - 1) * axis.stride + axis.extent - size - before
            taps = Axis(axis.kernel, axis.stride, axis.dilation, (before, after))
            forms.append(Window(n, size, taps, average=True))
        return Dependence((Part(self.x, tuple(forms)),), linear=self.op == "mean")

    @property
    def border(self) -> float | None:
        """What no maximum takes, or zeros that count."""
        if self.op == "max":
            return -math.inf
        return 0.0 if self.count_padding else None

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Windows along space. Where they hang over the padded border of the whole they do so in the part."""
        outputs, reads, padding = list(box), list(box[:2]), []
        rows = zip(self.axes(), shapes[self.x][2:], shapes[self.y][2:], strict=True)
        for n, (axis, size, result) in enumerate(rows, 2):
            found = cut_windows(axis, size, result, box[n])
            outputs[n] = found.outputs
            reads.append(found.reads)
            after = max(min(found.last, size + axis.padding[1]) - found.reads[1], 0)
            padding.append(axis.padding if found.outputs == (0, result) else (found.padding[0], after))
        return Cut(replace(self, padding=tuple(padding)), tuple(outputs), (tuple(reads),))
