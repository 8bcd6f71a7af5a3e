"""`QuantisedConvStep` and `QuantisedDenseStep`: layers of integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.program.cut import Box, Cut, cut_windows, refuse_cut
from omniconv.program.dependence import Blocks, Dependence, Form, Part, Product, Window
from omniconv.program.element import INT16, Element
from omniconv.program.levels import LARGEST, Levels, require_integers
from omniconv.program.steps.conv import count_executed
from omniconv.program.steps.step import Shapes, Step, Work
from omniconv.records import dataclass
from omniconv.spec import Conv, Shape

Integers = npt.NDArray[np.signedinteger[Any]]
MOST_SUM = 2**31 - 1
"""The largest integer that sums of products hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Requantised(Step):
    r"""A layer of integers: sums of products, scaled to the levels of the result.

    .. math::
        y_o = \mathrm{clamp}(\mathrm{round}(f_o\,(b_o + \textstyle\sum_i w_{o,i} x_i)),\, \mathrm{low},\, \mathrm{high})

    The sum is exact, in integers of 32 bits; it is then rounded to float32, multiplied in float32, and rounded with
    halves to even. A layer whose sums could be larger is refused. Without levels of y that is what is multiplied, not
    rounded again.

    Attributes:
        w: integers from -255 to 255, int16.
        b: int32, one for each output channel.
        factor: float32, one for each output channel: scale of x times that of its weights, through that of y.
        x_levels, levels: of x and y; ``None`` where y is of floats.
    """

    x: str
    y: str
    w: Integers
    b: Integers
    factor: npt.NDArray[np.float32]
    x_levels: Levels
    levels: Levels | None

    def _check(self, outputs: int, axis: int) -> None:
        """Refuse constants that do not fit, and sums that could be beyond 32 bits."""
        for array, dtype in ((self.b, np.int32), (self.factor, np.float32)):
            if array.shape != (outputs,) or array.dtype != dtype:
                raise ShapeError(
                    f"{array.dtype} of shape {array.shape}", need=f"{np.dtype(dtype)} of shape {(outputs,)}"
                )
        if self.w.dtype != np.int16 or (self.w.size and int(np.abs(self.w).max()) > LARGEST):
            raise ShapeError(f"weights of {self.w.dtype}", need=f"int16 from -{LARGEST} to {LARGEST}")
        if self.largest_sum(axis) > MOST_SUM:
            raise UnsupportedError(f"sums up to {self.largest_sum(axis)}", need=f"at most {MOST_SUM}")

    def largest_sums(self, axis: int) -> npt.NDArray[np.int64]:
        """How large the sum of each output channel can be; ``axis`` of the weights is that of the outputs."""
        others = tuple(n for n in range(self.w.ndim) if n != axis)
        weights = np.abs(self.w.astype(np.int64)).sum(others)
        return np.asarray(self.x_levels.largest * weights + np.abs(self.b.astype(np.int64)), np.int64)

    def largest_sum(self, axis: int = 0) -> int:
        """The largest of them."""
        return int(self.largest_sums(axis).max(initial=0))

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """Integers from integers, or floats where there are no levels."""
        require_integers(self.word, reads, usual)
        return usual if self.levels is None else INT16


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedConvStep(Requantised):
    """A convolution of integers, see `Requantised`; weights in PyTorch's shape, padded with zeros."""

    word: ClassVar[str] = "quantised convolution"
    spec: Conv

    def output_shape(self, shapes: Shapes) -> Shape:
        """See :meth:`omniconv.spec.Conv.output_shape`."""
        spec = self.spec
        if spec.transposed or spec.padding_mode != "zeros" or isinstance(spec.padding, str):
            raise UnsupportedError("a transposed layer of integers, or one padded with other numbers", need="zeros")
        if tuple(self.w.shape) != tuple(spec.weight_shape):
            raise ShapeError(f"weights of shape {self.w.shape}", need=f"shape {tuple(spec.weight_shape)}")
        if self.levels is None:
            raise UnsupportedError("a convolution of integers whose result is of floats", need="levels")
        self._check(spec.out_channels, 0)
        return spec.output_shape(shapes[self.x])

    def dependence(self, shapes: Shapes) -> Dependence:
        """Taps along space, groups along channels; rounding is not linear."""
        spec = self.spec
        sizes = zip(shapes[self.x][2:], spec.axes(), strict=True)
        windows = tuple(Window(n, size, axis) for n, (size, axis) in enumerate(sizes, 2))
        blocks = Blocks(1, spec.in_channels, spec.out_channels, spec.groups)
        forms: tuple[Form, ...] = (Product(blocks, windows, self.w.astype(np.float64), transposed=False),)
        return Dependence((Part(self.x, forms),), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Windows along space, all channels."""
        shape, result = shapes[self.x], shapes[self.y]
        refuse_cut(box, result, (1,), self.word)
        outputs, reads, padding = list(box), [box[0], (0, shape[1])], []
        for n, axis in enumerate(self.spec.axes(), 2):
            found = cut_windows(axis, shape[n], result[n], box[n])
            outputs[n] = found.outputs
            reads.append(found.reads)
            padding.append(found.padding)
        part = replace(self, spec=replace(self.spec, padding=tuple(padding)))
        return Cut(part, tuple(outputs), (tuple(reads),))

    @property
    def border(self) -> float | None:
        """Zeros."""
        return 0.0

    def work(self, shapes: Shapes) -> Work:
        """By taps."""
        spec, shape = self.spec, shapes[self.x]
        each = shape[0] * math.prod(spec.weight_shape)
        by_input, by_output = (each * math.prod(sizes[2:]) for sizes in (shape, shapes[self.y]))
        return Work(by_output, count_executed(spec, shape), by_input, by_output, self.w, self.b)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedDenseStep(Requantised):
    """A matrix of integers along the last axis, see `Requantised`: x ``(..., K)``, w ``(M, K)``, y ``(..., M)``."""

    word: ClassVar[str] = "quantised dense"

    def output_shape(self, shapes: Shapes) -> Shape:
        """M in place of K."""
        shape = shapes[self.x]
        if not shape or self.w.ndim != 2 or shape[-1] != self.w.shape[1]:
            raise ShapeError(f"a value of shape {shape} times weights {self.w.shape}", need="x (..., K), w (M, K)")
        self._check(self.w.shape[0], 0)
        return (*shape[:-1], self.w.shape[0])

    def dependence(self, shapes: Shapes) -> Dependence:
        """All of the last axis on all of it; rounding is not linear."""
        outputs, inputs = self.w.shape
        blocks = Blocks(len(shapes[self.x]) - 1, inputs, outputs, why="dense layer")
        product = Product(blocks, (), self.w.astype(np.float64), transposed=False)
        return Dependence((Part(self.x, (product,)),), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Rows."""
        refuse_cut(box, shapes[self.y], (len(box) - 1,), "dense layer")
        return Cut(self, box, ((*box[:-1], (0, shapes[self.x][-1])),))

    def work(self, shapes: Shapes) -> Work:
        """One MAC for each weight and row."""
        macs = math.prod(shapes[self.y][:-1]) * int(self.w.size)
        return Work(macs, macs, macs, macs, self.w, self.b)  # type: ignore[arg-type]
