"""`ConvStep`: a convolution of any kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, Interval, cut_transposed, cut_windows, refuse_cut, whole
from omniconv.program.dependence import Blocks, Dependence, Everything, Form, Part, Product, Regroup, Window
from omniconv.program.steps.pad import pad_forms
from omniconv.program.steps.post import Posted, PostOp, broadcast
from omniconv.program.steps.step import Array, Shapes, Work
from omniconv.records import dataclass
from omniconv.spec import Conv, Shape
from omniconv.spec.conv import PAD_WORDS


@dataclass(frozen=True, slots=True, eq=False)
class ConvStep(Posted):
    """``y = post(conv(x, w) + b)`` with explicit padding.

    Attributes:
        w: the weights in PyTorch's shape: a constant, or the name of a value.
        b: one for each output channel: a constant, or the name of a value.
    """

    word: ClassVar[str] = "convolution"
    x: str
    y: str
    spec: Conv
    w: Array | str
    b: Array | str | None = None
    post: tuple[PostOp, ...] = ()

    @property
    def factors(self) -> tuple[str, ...]:
        """Weights and bias, where they are values."""
        return tuple(item for item in (self.w, self.b) if isinstance(item, str))

    def renamed(self, names: Mapping[str, str]) -> ConvStep:
        """Weights and bias as well."""
        w, b = (names.get(item, item) if isinstance(item, str) else item for item in (self.w, self.b))
        assert w is not None
        return replace(Posted.renamed(self, names), w=w, b=b)

    def output_shape(self, shapes: Shapes) -> Shape:
        """See :meth:`omniconv.spec.Conv.output_shape`."""
        for item, need in ((self.w, self.spec.weight_shape), (self.b, (self.spec.out_channels,))):
            if isinstance(item, str) and tuple(shapes[item]) != tuple(need):
                raise ShapeError(f"weights or a bias of shape {tuple(shapes[item])}", need=f"shape {tuple(need)}")
        return self.check_operands(self.spec.output_shape(shapes[self.x]), shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """Taps along space, groups along channels; before them, padding that repeats the input.

        Weights that are computed count as a whole, a bias by its channel.
        """
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
        w = self.w if isinstance(self.w, np.ndarray) else None
        product = Product(blocks, windows, w, spec.transposed)
        return self.depend((*forms, product), shapes, self._depend_on_factors(shapes), linear=w is not None)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Windows along space, all channels; weights and bias that are values as a whole."""
        spec, shape, result = self.spec, shapes[self.x], shapes[self.y]
        refuse_cut(box, result, (1,), self.word)
        mode = PAD_WORDS[spec.padding_mode]
        outputs, reads, axes = list(box), [box[0], (0, shape[1])], []
        for n, axis in enumerate(spec.axes(), 2):
            read: Interval
            if axis.transposed:
                read, axis = cut_transposed(axis, shape[n], box[n])
            else:
                found = cut_windows(axis, shape[n], result[n], box[n], mode)
                outputs[n], read, axis = found.outputs, found.reads, replace(axis, padding=found.padding)
            reads.append(read)
            axes.append(axis)
        wide = tuple(outputs)
        post, operands = self.cut_post(shapes, wide)
        padding, extra = tuple(axis.padding for axis in axes), tuple(axis.output_padding for axis in axes)
        part = replace(self, spec=replace(spec, padding=padding, output_padding=extra), post=post)
        return Cut(part, wide, (tuple(reads), *(whole(shapes[name]) for name in self.factors), *operands))

    @property
    def border(self) -> float | None:
        """Zeros, unless a weight would make something else of them."""
        plain = self.spec.transposed or self.spec.padding_mode == "zeros"
        return 0.0 if plain and isinstance(self.w, np.ndarray) and np.isfinite(self.w).all() else None

    def _depend_on_factors(self, shapes: Shapes) -> list[Part]:
        """Weights multiply the input; a bias is added."""
        result, parts = shapes[self.y], []
        if isinstance(self.w, str):
            parts.append(Part(self.w, (Everything(tuple(shapes[self.w]), result, "computed weights"),), adds=False))
        if isinstance(self.b, str):
            source = (self.spec.out_channels,)
            wide = (1, *source, *(1,) * self.spec.dims)
            parts.append(Part(self.b, (Regroup(source, source, (0,), wide), *broadcast(wide, result))))
        return parts

    def work(self, shapes: Shapes) -> Work:
        """By taps; see :func:`count_executed`."""
        spec, shape = self.spec, shapes[self.x]
        each = shape[0] * math.prod(spec.weight_shape)
        by_input = each * math.prod(shape[2:])
        by_output = each * math.prod(shapes[self.y][2:])
        return Work(
            by_input if spec.transposed else by_output,
            count_executed(spec, shape),
            by_input,
            by_output,
            None if isinstance(self.w, str) else self.w,
            None if isinstance(self.b, str) else self.b,
            self.count_constants(),
        )


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
