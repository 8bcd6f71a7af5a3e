r"""Softmax along one axis of a strided array, or its logarithm.

.. math::
    y_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \qquad \log y_i = x_i - m - \ln \sum_j e^{x_j - m},
    \qquad m = \max_j x_j

Vectors run along the axis where its elements are neighbours, some results side by side, so that what each waits for
(the largest, the exponentials, their sum) is found while others are worked on; else across neighbours of another axis,
one result per lane; where nothing is contiguous the same code works on scalars. x and y may be the same buffer.

A NaN is passed over in the search for the largest: its own exponential brings it into the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_exp, emit_log
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.program.steps import SoftmaxStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2

ROWS: Final = 4
"""Results side by side, at most."""

Dim: TypeAlias = tuple[int, int, int]
"""Size, stride of x and stride of y [elements]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """The recipe of one softmax: everything its code depends on.

    Attributes:
        log: whether the logarithm is wanted.
        others: all axes but the reduced one and ``inner``, merged as far as possible.
        axis: the reduced axis.
        inner: length of another axis whose elements are neighbours in x and y, across which vectors run; 1 if none.
        lanes: of a vector.
    """

    log: bool
    others: tuple[Dim, ...]
    axis: Dim
    inner: int
    lanes: int

    @classmethod
    def of(cls, log: bool, others: tuple[Dim, ...], axis: Dim, lanes: int) -> Softmax:
        """The recipe for one step; ``others`` lists every axis but ``axis``, in any order."""
        kept = sorted((dim for dim in others if dim[0] != 1), key=lambda dim: -abs(dim[2]))
        inner = 1
        if axis[1:] != (1, 1):
            inner = next((size for size, *strides in kept if strides == [1, 1]), 1)
            kept = [dim for dim in kept if dim[1:] != (1, 1)]
        return cls(log=log, others=tuple(_merge(kept)), axis=axis, inner=inner, lanes=lanes)

    @property
    def along(self) -> bool:
        """Whether vectors run along the reduced axis."""
        return self.axis[1:] == (1, 1)

    @property
    def rows(self) -> int:
        """Results side by side along the last of the other axes: a divisor of it."""
        if not (self.along and self.others):
            return 1
        return max(n for n in range(1, ROWS + 1) if self.others[-1][0] % n == 0)

    @property
    def parts(self) -> int:
        """Vectors across the inner axis."""
        return ceil_div(self.inner, self.lanes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Sizes of the axes whose positions are units of work."""
        sizes = [size for size, _, _ in self.others]
        return (*sizes[:-1], sizes[-1] // self.rows) if sizes else ()

    @property
    def units(self) -> int:
        """Units of work: some results, side by side or in a vector."""
        return math.prod(self.grid) * self.parts

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            *indices, part = k.split(unit, *self.grid, self.parts)
            x, y = k.arg(X), k.arg(Y)
            for number, (index, (_, xs, ys)) in enumerate(zip(indices, self.others, strict=True), 1):
                first = k.mul(index, self.rows) if number == len(self.others) else index
                x, y = k.shift(x, k.mul(first, xs)), k.shift(y, k.mul(first, ys))
            if self.along:
                _, xs, ys = self.others[-1] if self.others else (1, 0, 0)
                self._along(k, [(k.shift(x, n * xs), k.shift(y, n * ys)) for n in range(self.rows)])
            elif self.inner == 1:
                self._across(k, x, y, 1, None)
            else:

                def body(c: Index, _: int, tail: int | None, x: Pointer = x, y: Pointer = y) -> None:
                    self._across(k, k.shift(x, c), k.shift(y, c), k.lanes, tail)

                emit_vectors(k, self.inner, body, part=part, parts=self.parts)
        return k.finish()

    def _finish(self, k: Kernel, total: Value) -> Value:
        """The logarithm of a sum, or what to multiply with in place of dividing by it."""
        return emit_log(k, total) if self.log else k.b.fdiv(k.splat(1.0, total.type), total)

    def _result(self, k: Kernel, value: Value, high: Value, last: Value) -> Value:
        if self.log:
            return k.b.fsub(k.b.fsub(value, high), last)
        return k.b.fmul(value, last)

    def _along(self, k: Kernel, rows: Sequence[tuple[Pointer, Pointer]]) -> None:
        """Vectors along the axis, of some results side by side; their lanes are combined at the end."""
        size, kind = self.axis[0], k.vector_type()
        lowest, zero = k.splat(-math.inf), k.splat(0.0)

        def keep(value: Value, tail: int | None, neutral: Value) -> Value:
            if tail is None:
                return value
            return k.b.select(k.first_lanes(tail, k.lanes), value, neutral)

        highs, totals = ([k.variable(kind, start) for _ in rows] for start in (lowest, zero))

        def find(c: Index, _: int, tail: int | None) -> None:
            for (x, _y), high in zip(rows, highs, strict=True):
                k.set(high, k.larger(keep(k.load(x, c, count=tail), tail, lowest), k.get(high)))

        emit_vectors(k, size, find)
        tops = [k.spread(emit_fold(k, k.larger, k.get(high))) for high in highs]

        def add(c: Index, _: int, tail: int | None) -> None:
            for (x, y), top, total in zip(rows, tops, totals, strict=True):
                e = emit_exp(k, k.b.fsub(k.load(x, c, count=tail), top))
                k.set(total, k.b.fadd(k.get(total), keep(e, tail, zero)))
                if not self.log:
                    k.store(e, y, c, count=tail)

        emit_vectors(k, size, add)
        lasts = [k.spread(self._finish(k, emit_fold(k, k.b.fadd, k.get(total)))) for total in totals]

        def scale(c: Index, _: int, tail: int | None) -> None:
            for (x, y), top, last in zip(rows, tops, lasts, strict=True):
                value = k.load(x if self.log else y, c, count=tail)
                k.store(self._result(k, value, top, last), y, c, count=tail)

        emit_vectors(k, size, scale)

    def _across(self, k: Kernel, x: Pointer, y: Pointer, lanes: int, tail: int | None) -> None:
        """One softmax per lane; plain scalars for one lane."""
        size, xs, ys = self.axis
        kind = k.vector_type(lanes)

        def load(pointer: Pointer, offset: Index) -> Value:
            return k.load_scalar(pointer, offset) if lanes == 1 else k.load(pointer, offset, count=tail)

        def store(value: Value, offset: Index) -> None:
            if lanes == 1:
                k.store_scalar(value, y, offset)
            else:
                k.store(value, y, offset, count=tail)

        high, total = k.variable(kind, k.splat(-math.inf, kind)), k.variable(kind, k.splat(0.0, kind))
        with k.loop(size) as i:
            k.set(high, k.larger(load(x, k.mul(i, xs)), k.get(high)))
        top = k.get(high)
        with k.loop(size) as i:
            e = emit_exp(k, k.b.fsub(load(x, k.mul(i, xs)), top))
            k.set(total, k.b.fadd(k.get(total), e))
            if not self.log:
                store(e, k.mul(i, ys))
        last = self._finish(k, k.get(total))
        with k.loop(size) as i:
            value = load(x, k.mul(i, xs)) if self.log else load(y, k.mul(i, ys))
            store(self._result(k, value, top, last), k.mul(i, ys))


def _merge(dims: Sequence[Dim]) -> list[Dim]:
    """The same axes, outermost first, those that follow one another in x and in y as one."""
    merged: list[Dim] = []
    for size, xs, ys in dims:
        if merged and merged[-1][1:] == (size * xs, size * ys):
            merged[-1] = (merged[-1][0] * size, xs, ys)
        else:
            merged.append((size, xs, ys))
    return merged


def lower_softmax(planner: Planner, step: SoftmaxStep) -> None:
    """Softmax along one axis."""
    shape = planner.shape(step.x)
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = as_channels_last(planner, step.x)
    axis = step.axis % len(shape)
    along = len(shape) > 2 and axis == len(shape) - 1 and x.layout.strides[axis] == 1
    y = planner.produce(step.y, plain=along or not x.layout.channels_last)
    axes = list(zip(shape, x.layout.strides, y.layout.strides, strict=True))
    reduced = axes.pop(axis)
    recipe = Softmax.of(step.log, tuple(axes), reduced, planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "softmax")
