"""`ConvStep`: a convolution of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from omniconv.program.dependence import Blocks, Dependence, Form, Product, Window
from omniconv.program.steps.pad import pad_forms
from omniconv.program.steps.post import Posted, PostOp
from omniconv.program.steps.step import Array, Shapes, Work
from omniconv.spec import Conv, Shape
from omniconv.spec.conv import PAD_WORDS


@dataclass(frozen=True, slots=True, eq=False)
class ConvStep(Posted):
    """``y = post(conv(x, w) + b)`` with explicit padding. ``w`` in PyTorch's shape."""

    word: ClassVar[str] = "convolution"
    x: str
    y: str
    spec: Conv
    w: Array
    b: Array | None = None
    post: tuple[PostOp, ...] = ()

    def output_shape(self, shapes: Shapes) -> Shape:
        """See :meth:`omniconv.spec.Conv.output_shape`."""
        return self.check_operands(self.spec.output_shape(shapes[self.x]), shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """Taps along space, groups along channels; before them, padding that repeats the input."""
        spec, shape = self.spec, shapes[self.x]
        pairs: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), *(axis.padding for axis in spec.axes()))
        forms: tuple[Form, ...] = ()
        axes = spec.axes()
        sizes = shape[2:]
        if spec.padding_mode != "zeros":
            forms = pad_forms(shape, pairs, PAD_WORDS[spec.padding_mode])
            axes = tuple(replace(axis, padding=(0, 0)) for axis in axes)
            sizes = tuple(size + sum(pair) for size, pair in zip(sizes, pairs[2:], strict=True))
        windows = tuple(Window(n, size, axis) for n, (size, axis) in enumerate(zip(sizes, axes, strict=True), 2))
        blocks = Blocks(1, spec.in_channels, spec.out_channels, spec.groups)
        return self.depend((*forms, Product(blocks, windows, self.w, spec.transposed)), shapes)

    def work(self, shapes: Shapes) -> Work:
        """By taps; see :func:`count_executed`."""
        spec, shape = self.spec, shapes[self.x]
        each = shape[0] * math.prod(spec.weight_shape)
        by_input = each * math.prod(shape[2:])
        by_output = each * math.prod(shapes[self.y][2:])
        return Work(
            by_input if spec.transposed else by_output, count_executed(spec, shape), by_input, by_output,
            self.w, self.b, self.count_constants(),
        )  # fmt: skip


def count_executed(spec: Conv, shape: Sequence[int]) -> int:
    """Multiply-accumulates whose tap lands inside an input of ``shape`` [MAC].

    Formula:
        N C_out C_in / g times the product over the axes of the number of (output, tap) pairs that read an input; with a
        padding mode other than zeros every tap reads one.

    Example:
        >>> count_executed(Conv.of(1, 1, 3, dims=1, padding=1), (1, 1, 5))
        13
    """
    shape = spec.check_input(shape)
    spec = spec.resolve(shape)
    total = shape[0] * spec.out_channels * (spec.in_channels // spec.groups)
    if spec.padding_mode != "zeros":
        return total * math.prod(spec.output_shape(shape)[2:]) * math.prod(spec.kernel_size)
    for phases, size in zip(spec.phases(shape), shape[2:], strict=True):
        inside = 0
        for phase in phases:
            for _, offset in phase.taps:
                low, high = phase.inside(offset, size)
                inside += high - low
        total *= inside
    return total
