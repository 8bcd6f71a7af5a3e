r"""Softmax along one axis of a strided array, or its logarithm.

.. math::
    y_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \qquad \log y_i = x_i - m - \ln \sum_j e^{x_j - m},
    \qquad m = \max_j x_j

Vectors run along the axis where its elements are neighbours, else across neighbours of another axis, one result per
lane; where nothing is contiguous the same code works on scalars. x and y may be the same buffer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_exp, emit_log
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors, largest
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.program.steps import SoftmaxStep
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2

Dim: TypeAlias = tuple[int, int, int]
"""Size, stride of x and stride of y [elements]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """The recipe of one softmax: everything its code depends on.

    Attributes:
        log: whether the logarithm is wanted.
        others: all axes but the reduced one and ``inner``.
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
        return cls(log=log, others=tuple(kept), axis=axis, inner=inner, lanes=lanes)

    @property
    def along(self) -> bool:
        """Whether vectors run along the reduced axis."""
        return self.axis[1:] == (1, 1)

    @property
    def parts(self) -> int:
        """Vectors across the inner axis."""
        return ceil_div(self.inner, self.lanes)

    @property
    def units(self) -> int:
        """Units of work: one softmax, or a vector of them."""
        return math.prod(size for size, _, _ in self.others) * self.parts

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            *indices, part = k.split(unit, *(size for size, _, _ in self.others), self.parts)
            x, y = k.arg(X), k.arg(Y)
            for index, (_, xs, ys) in zip(indices, self.others, strict=True):
                x, y = k.shift(x, k.mul(index, xs)), k.shift(y, k.mul(index, ys))
            if self.along:
                self._along(k, x, y)
            elif self.inner == 1:
                self._across(k, x, y, 1, None)
            else:

                def body(c: Index, _: int, tail: int | None, x: Pointer = x, y: Pointer = y) -> None:
                    self._across(k, k.shift(x, c), k.shift(y, c), k.lanes, tail)

                emit_vectors(k, self.inner, body, part=part, parts=self.parts)
        return k.finish()

    def _finish(self, k: Kernel, total: Value) -> Value:
        return emit_log(k, total) if self.log else total

    def _result(self, k: Kernel, value: Value, high: Value, last: Value) -> Value:
        if self.log:
            return k.b.fsub(k.b.fsub(value, high), last)
        return k.b.fdiv(value, last)

    def _along(self, k: Kernel, x: Pointer, y: Pointer) -> None:
        """Vectors along the axis; their lanes are combined at the end."""
        size, kind = self.axis[0], k.vector_type()
        lowest, zero = k.splat(-math.inf), k.splat(0.0)

        def keep(value: Value, tail: int | None, neutral: Value) -> Value:
            if tail is None:
                return value
            return k.b.select(k.first_lanes(tail, k.lanes), value, neutral)

        high = k.variable(kind, lowest)

        def find(c: Index, _: int, tail: int | None) -> None:
            k.set(high, largest(k, k.get(high), keep(k.load(x, c, count=tail), tail, lowest)))

        emit_vectors(k, size, find)
        top = k.spread(emit_fold(k, lambda a, b: largest(k, a, b), k.get(high)))
        total = k.variable(kind, zero)

        def add(c: Index, _: int, tail: int | None) -> None:
            e = emit_exp(k, k.b.fsub(k.load(x, c, count=tail), top))
            k.set(total, k.b.fadd(k.get(total), keep(e, tail, zero)))
            if not self.log:
                k.store(e, y, c, count=tail)

        emit_vectors(k, size, add)
        last = k.spread(self._finish(k, emit_fold(k, k.b.fadd, k.get(total))))

        def scale(c: Index, _: int, tail: int | None) -> None:
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
            k.set(high, largest(k, k.get(high), load(x, k.mul(i, xs))))
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
