r"""Reductions of every channel over all positions: mean, sum, product, maximum or minimum.

.. math:: y_{n,c} = \frac{1}{|D||H||W|} \sum_{d,h,w} x_{n,c,d,h,w}

Each unit takes one image and a few neighbouring vectors of channels, with several running values along the innermost
axis that are combined at the end, so that the order of additions does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import count_groups, emit_vectors, largest, smallest
from omniconv.compiler.lowering.arrange import as_row_major, copy_value, keep_order, restore_order
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, is_open, may_exceed
from omniconv.program.steps import ReduceStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2


COMBINE: Final[dict[str, tuple[float, Callable[[Kernel, Value, Value], Value]]]] = {
    "mean": (0.0, lambda k, a, b: k.b.fadd(a, b)),
    "sum": (0.0, lambda k, a, b: k.b.fadd(a, b)),
    "prod": (1.0, lambda k, a, b: k.b.fmul(a, b)),
    "max": (-math.inf, largest),
    "min": (math.inf, smallest),
}
"""For each operation of a `ReduceStep` where it starts, and what it does with two values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce:
    """The recipe of one reduction: everything its code depends on.

    Attributes:
        op: one of :data:`COMBINE`.
        batch, channels: sizes of the result.
        axes: (size, stride of x) of the reduced axes, outermost first, merged as far as possible.
        x_batch, y_batch: strides of N [elements].
        readable, tail: of the layouts of x and y.
        group: vectors of channels in a unit.
        unroll: running values of each.
        lanes: of a vector.
    """

    op: str
    batch: int
    channels: int
    axes: tuple[tuple[int, int], ...]
    x_batch: int
    y_batch: int
    readable: bool
    tail: bool
    group: int
    unroll: int
    lanes: int

    @classmethod
    def of(cls, step: ReduceStep, x: Layout, y: Layout, lanes: int) -> Reduce:
        """The recipe for one step. Both values are channels-last."""
        grid = x.grid
        axes: list[tuple[int, int]] = []
        for size, stride in zip(grid.sizes, grid.strides, strict=True):
            if size == 1:
                continue
            if axes and axes[-1][1] == size * stride:
                axes[-1] = (axes[-1][0] * size, stride)
            else:
                axes.append((size, stride))
        vectors = ceil_div(grid.c, lanes)
        group = 4 if vectors >= 16 else 2 if vectors >= 8 else 1
        unroll = min(8 // group, axes[-1][0] if axes else 1)
        return cls(
            op=step.op,
            batch=grid.n,
            channels=grid.c,
            axes=tuple(axes),
            x_batch=grid.sn,
            y_batch=y.strides[0],
            readable=x.readable,
            tail=y.tail,
            group=group,
            unroll=unroll,
            lanes=lanes,
        )

    def opened(self, opener: Opener) -> Reduce:
        """The same kernel for images of any size; neighbours on the innermost axis are as far apart as now."""
        *outer, inner = self.axes or ((1, 0),)
        axes = [(opener(size), opener(stride)) for size, stride in outer]
        return replace(
            self,
            batch=opener(self.batch),
            axes=(*axes, (opener(inner[0]), inner[1])),
            x_batch=opener(self.x_batch),
            y_batch=self.y_batch,
        )

    def shared(self, opener: Opener) -> Reduce:
        """The same kernel for any sizes: it waits for memory."""
        return replace(
            self,
            batch=opener(self.batch),
            channels=opener.any(self.channels),
            axes=tuple((opener(size), opener(stride)) for size, stride in self.axes),
            x_batch=opener(self.x_batch),
            y_batch=opener(self.y_batch),
        )

    @property
    def groups(self) -> int:
        """Units in one image."""
        return count_groups(self.channels, self.lanes, self.group)

    @property
    def units(self) -> int:
        """Units of work: images, times groups of vectors."""
        return self.batch * self.groups

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            n, part = k.split(unit, self.batch, self.groups)
            x, y = k.shift(k.arg(X), k.mul(n, self.x_batch)), k.shift(k.arg(Y), k.mul(n, self.y_batch))

            def body(c: Index, vectors: int, tail: int | None, x: Pointer = x, y: Pointer = y) -> None:
                for v, value in enumerate(self._reduce(k, k.shift(x, c), vectors, tail)):
                    count = tail if v == vectors - 1 and not self.tail else None
                    k.store(value, y, k.add(c, v * self.lanes), count=count)

            masked = not (self.readable and self.tail)
            emit_vectors(k, self.channels, body, group=self.group, masked=masked, part=part, parts=self.groups)
        return k.finish()

    def _reduce(self, k: Kernel, x: Pointer, vectors: int, tail: int | None) -> list[Value]:
        neutral, combine_two = COMBINE[self.op]
        start = k.splat(neutral)
        acc = [[k.variable(k.vector_type(), start) for _ in range(vectors)] for _ in range(self.unroll)]

        def combine(a: Value, b: Value) -> Value:
            return combine_two(k, a, b)

        def step(pointer: Pointer, u: int) -> None:
            for v in range(vectors):
                count = tail if v == vectors - 1 and not self.readable else None
                value = k.load(pointer, v * self.lanes, count=count)
                k.set(acc[u][v], combine(k.get(acc[u][v]), value))

        self._walk(k, x, 0, step)
        while len(acc) > 1:
            half = ceil_div(len(acc), 2)
            for first, second in zip(acc, acc[half:], strict=False):
                for a, b in zip(first, second, strict=True):
                    k.set(a, combine(k.get(a), k.get(b)))
            acc = acc[:half]
        results = [k.get(slot) for slot in acc[0]]
        if self.op == "mean":
            size = math.prod(axis for axis, _ in self.axes)
            count = k.spread(k.b.sitofp(k.index(size), k.scalar)) if is_open(size) else k.splat(float(size))
            results = [k.b.fdiv(value, count) for value in results]
        return results

    def _walk(self, k: Kernel, x: Pointer, depth: int, step: Callable[[Pointer, int], None]) -> None:
        if depth == len(self.axes):
            step(x, 0)
            return
        size, stride = self.axes[depth]
        if depth < len(self.axes) - 1:
            with k.loop(size) as i:
                self._walk(k, k.shift(x, k.mul(i, stride)), depth + 1, step)
            return
        rounds = size // self.unroll * self.unroll
        if may_exceed(rounds, 0):
            with k.loop(rounds, step=self.unroll) as i:
                pointer = k.shift(x, k.mul(i, stride))
                for u in range(self.unroll):
                    step(k.shift(pointer, u * stride), u)
        for u in range(self.unroll - 1 if is_open(size) else size - rounds):
            with k.when(k.compare("<", u, size - rounds)):
                step(k.shift(x, k.mul(k.add(rounds, u), stride)), u)


def lower_reduce(planner: Planner, step: ReduceStep) -> None:
    """Any reduction over all of space, which is one axis where it has more than three."""
    shape = planner.shape(step.x)
    if len(shape) <= 5:
        x = keep_order(planner, step.x, step.y)
    else:
        flat, x = (*shape[:2], math.prod(shape[2:])), as_row_major(planner, step.x)
        room = planner.fresh(flat)
        copy_value(planner, replace(x, layout=replace(row_major(flat), readable=x.layout.readable)), room)
        x = room
    y = planner.produce(step.y)
    recipe = Reduce.of(step, x.layout.ordered(), y.layout.ordered(), planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "reduce")
    restore_order(planner, x, step.y)
