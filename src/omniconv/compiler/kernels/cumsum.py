r"""Running sums along one axis of a strided array, in the order of the axis or against it.

.. math:: y_i = \sum_{j \le i} x_j, \qquad \text{exclusive} \quad y_i = \sum_{j < i} x_j

Each sum is one chain of additions, first to last, so that results depend neither on threads nor on vectors. Vectors run
across the neighbours of another axis, some of them side by side to hide the latency of the chains; where no other axis
has neighbours, some scalar chains run side by side. x and y may be the same buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.emit.vectors import count_groups, emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.program.steps import CumSumStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2

CHAINS: Final = 4
"""Chains side by side: the latency of an addition in cycles."""

Dim: TypeAlias = tuple[int, int, int]
"""Size, stride of x and stride of y [elements]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CumSum:
    """The recipe of running sums: everything its code depends on.

    Attributes:
        exclusive, reverse: as in :class:`omniconv.program.steps.CumSumStep`.
        others: all axes but the summed one and ``inner``, the one that scalar chains are taken from last.
        axis: the summed axis.
        inner: length of another axis whose elements are neighbours in x and y, across which vectors run; 1 if none.
        lanes: of a vector.
    """

    exclusive: bool
    reverse: bool
    others: tuple[Dim, ...]
    axis: Dim
    inner: int
    lanes: int

    @classmethod
    def of(cls, exclusive: bool, reverse: bool, others: tuple[Dim, ...], axis: Dim, lanes: int) -> CumSum:
        """The recipe for one step; ``others`` lists every axis but ``axis``, in any order."""
        kept = sorted((dim for dim in others if dim[0] != 1), key=lambda dim: -abs(dim[2]))
        inner = next((size for size, *strides in kept if strides == [1, 1]), 1)
        if inner > 1:
            kept = [dim for dim in kept if dim[1:] != (1, 1)]
        return cls(exclusive=exclusive, reverse=reverse, others=tuple(kept), axis=axis, inner=inner, lanes=lanes)

    @property
    def rows(self) -> int:
        """Scalar chains side by side: a divisor of the last axis."""
        if self.inner > 1 or not self.others:
            return 1
        return max(n for n in range(1, CHAINS + 1) if self.others[-1][0] % n == 0)

    @property
    def parts(self) -> int:
        """Groups of vectors across the inner axis."""
        return count_groups(self.inner, self.lanes, CHAINS) if self.inner > 1 else 1

    @property
    def grid(self) -> tuple[int, ...]:
        """Sizes of the axes whose positions are units of work."""
        sizes = [size for size, _, _ in self.others]
        return (*sizes[:-1], sizes[-1] // self.rows) if sizes else ()

    @property
    def units(self) -> int:
        """Units of work: some chains side by side."""
        return math.prod(self.grid) * self.parts

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        size, xs, ys = self.axis
        with k.loop(k.end, start=k.begin) as unit:
            *indices, part = k.split(unit, *self.grid, self.parts)
            x, y = k.arg(X), k.arg(Y)
            for number, (index, (_, xd, yd)) in enumerate(zip(indices, self.others, strict=True), 1):
                first = k.mul(index, self.rows) if number == len(self.others) else index
                x, y = k.shift(x, k.mul(first, xd)), k.shift(y, k.mul(first, yd))
            if self.reverse:
                x, y = k.shift(x, (size - 1) * xs), k.shift(y, (size - 1) * ys)
            if self.inner == 1:
                _, xd, yd = self.others[-1] if self.others else (1, 0, 0)
                chains = [(k.shift(x, n * xd), k.shift(y, n * yd), None) for n in range(self.rows)]
                self._run(k, chains, vector=False)
            else:

                def body(c: Index, vectors: int, tail: int | None, x: Pointer = x, y: Pointer = y) -> None:
                    at = [k.add(c, v * self.lanes) for v in range(vectors)]
                    tails = [tail if v == vectors - 1 else None for v in range(vectors)]
                    self._run(
                        k, [(k.shift(x, a), k.shift(y, a), t) for a, t in zip(at, tails, strict=True)], vector=True
                    )

                emit_vectors(k, self.inner, body, group=CHAINS, part=part, parts=self.parts)
        return k.finish()

    def _run(self, k: Kernel, chains: Sequence[tuple[Pointer, Pointer, int | None]], *, vector: bool) -> None:
        """Chains in step; each has its buffers and the lanes that it works on, all of them for ``None``."""
        size, xs, ys = self.axis
        if self.reverse:
            xs, ys = -xs, -ys
        kind = k.vector_type(None if vector else 1)
        start = 0.0 if self.exclusive else -0.0  # -0 + x is x, also where x is -0
        totals = [k.variable(kind, k.splat(start, kind)) for _ in chains]
        with k.loop(size) as i:
            for total, (x, y, tail) in zip(totals, chains, strict=True):
                at = k.mul(i, xs)
                value = k.load(x, at, count=tail) if vector else k.load_scalar(x, at)
                before = k.get(total)
                after = k.b.fadd(before, value)
                k.set(total, after)
                result = before if self.exclusive else after
                if vector:
                    k.store(result, y, k.mul(i, ys), count=tail)
                else:
                    k.store_scalar(result, y, k.mul(i, ys))


def lower_cumsum(planner: Planner, step: CumSumStep) -> None:
    """Running sums along one axis."""
    shape = planner.shape(step.x)
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = as_channels_last(planner, step.x)
    y = planner.produce(step.y, plain=not x.layout.channels_last)
    axes = list(zip(shape, x.layout.strides, y.layout.strides, strict=True))
    summed = axes.pop(step.axis % len(shape))
    recipe = CumSum.of(step.exclusive, step.reverse, tuple(axes), summed, planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "cumsum")
