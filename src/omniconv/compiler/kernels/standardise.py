r"""Rows standardised one by one, with an epilogue.

.. math::
    y_{r, i} = \frac{x_{r, i} - m_r}{\sqrt{v_r + \epsilon}}, \qquad
    m_r = \frac{1}{n} \sum_i x_{r, i}, \qquad v_r = \frac{1}{n} \sum_i (x_{r, i} - m_r)^2

A row is one run of neighbours, or several of the same length: the channels of each position. It is read three times,
once for each sum and once for the result; of a short one, the second and third time comes from the first-level cache.
Vectors run along a run into several running sums, which are combined in one order. x and y must be different buffers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major, as_rows, copy_apart, copy_value
from omniconv.compiler.lowering.posts import lower_posts
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import merge_axes
from omniconv.integers import ceil_div
from omniconv.program.steps import StandardiseStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 2

SUMS: Final = 4
"""Running sums side by side: the latency of an addition in cycles."""
_BLOCK: Final = 2048
"""Elements in a unit of work, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardise:
    """The recipe of one standardisation: everything its code depends on.

    Attributes:
        rows, runs, size: rows, runs of neighbours in each, and elements of a run.
        x_row, y_row: distance between rows [elements].
        x_run, y_run: distance between runs [elements].
        epsilon: is added to the variance.
        posts: the epilogue; rows are its N axis, runs its W axis, and the elements of a run its channels.
        lanes: of a vector.
    """

    rows: int
    runs: int
    size: int
    x_row: int
    y_row: int
    x_run: int
    y_run: int
    epsilon: float
    posts: tuple[Post, ...]
    lanes: int

    @property
    def block(self) -> int:
        """Rows in a unit."""
        return min(self.rows, ceil_div(_BLOCK, self.runs * self.size))

    @property
    def units(self) -> int:
        """Units of work: blocks of rows."""
        return ceil_div(self.rows, self.block)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            first = k.mul(unit, self.block)
            with k.loop(k.min(k.add(first, self.block), self.rows), start=first) as row:
                self._row(k, k.shift(k.arg(X), k.mul(row, self.x_row)), k.shift(k.arg(Y), k.mul(row, self.y_row)), row)
        return k.finish()

    def _row(self, k: Kernel, x: Pointer, y: Pointer, row: Index) -> None:
        count = k.splat(float(self.runs * self.size), k.scalar)
        mean = k.spread(k.b.fdiv(self._sum(k, x, lambda value: value), count))

        def square(value: Value) -> Value:
            difference = k.b.fsub(value, mean)
            return k.b.fmul(difference, difference)

        variance = k.b.fdiv(self._sum(k, x, square), count)
        root = k.call("sqrt", k.b.fadd(variance, k.splat(self.epsilon, k.scalar)))
        inverse = k.spread(k.b.fdiv(k.splat(1.0, k.scalar), root))
        with k.loop(self.runs) as run:
            source, target = k.shift(x, k.mul(run, self.x_run)), k.shift(y, k.mul(run, self.y_run))

            def finish(c: Index, vectors: int, tail: int | None) -> None:
                for v in range(vectors):
                    at, lanes = k.add(c, v * self.lanes), tail if v == vectors - 1 else None
                    value = k.b.fmul(k.b.fsub(k.load(source, at, count=lanes), mean), inverse)
                    value = emit_epilogue(k, self.posts, value, Position(row, 0, 0, run, at), lanes)
                    k.store(value, target, at, count=lanes)

            emit_vectors(k, self.size, finish, group=1 if any(post.activation for post in self.posts) else 2)

    def _sum(self, k: Kernel, x: Pointer, change: Callable[[Value], Value]) -> Value:
        """The sum over a row of what each vector is changed to; each run is summed by itself."""
        zero = k.splat(0.0)
        total = k.variable(zero.type, zero)
        with k.loop(self.runs) as run:
            source = k.shift(x, k.mul(run, self.x_run))
            sums = [k.variable(zero.type, zero) for _ in range(min(SUMS, ceil_div(self.size, self.lanes)))]

            def add(c: Index, vectors: int, tail: int | None) -> None:
                for v in range(vectors):
                    count = tail if v == vectors - 1 else None
                    value = change(k.load(source, k.add(c, v * self.lanes), count=count))
                    if count is not None:
                        value = k.b.select(k.first_lanes(count, self.lanes), value, zero)
                    k.set(sums[v], k.b.fadd(k.get(sums[v]), value))

            emit_vectors(k, self.size, add, group=len(sums))
            values = [k.get(each) for each in sums]
            while len(values) > 1:
                half = ceil_div(len(values), 2)
                pairs = zip(values, values[half:], strict=False)
                values = [k.b.fadd(a, b) for a, b in pairs] + values[len(values) - half : half]
            k.set(total, k.b.fadd(k.get(total), values[0]))
        return emit_fold(k, k.b.fadd, k.get(total))


def lower_standardise(planner: Planner, step: StandardiseStep) -> None:
    """Rows of neighbours along the last axis, or along some that lie row major; else whole images channels last."""
    shape = planner.shape(step.x)
    rank, layout = len(shape), planner.get(step.x).layout
    if step.axes > 1 and rank == step.axes + 1 <= 5 and (layout.channels_last or not layout.plain):
        _lower_images(planner, step)
        return
    outer, inner = range(rank - step.axes), range(rank - step.axes, rank)
    size = math.prod(shape[axis] for axis in inner)
    x, distance = as_rows(planner, step.x) if step.axes == 1 else (as_row_major(planner, step.x), size)
    y = planner.produce(step.y, plain=True)
    posts, refs = lower_posts(planner, step.post, shape, ARGS, [outer, inner] if outer else [inner])
    recipe = Standardise(
        rows=math.prod(shape[axis] for axis in outer),
        runs=1,
        size=size,
        x_row=distance,
        y_row=size,
        x_run=0,
        y_run=0,
        epsilon=step.epsilon,
        posts=posts,
        lanes=planner.target.lanes,
    )
    planner.call(recipe, [x.ref, y.ref, *refs], "standardise")


def _lower_images(planner: Planner, step: StandardiseStep) -> None:
    """Each image as one row: a run for the channels of each position."""
    shape = planner.shape(step.x)
    x, y, spatial = as_channels_last(planner, step.x), planner.produce(step.y), shape[2:]
    if merge_axes(spatial, x.layout.strides[2:]) is None:
        x = copy_apart(planner, step.x)
    place = y if merge_axes(spatial, y.layout.strides[2:]) is not None else planner.fresh(shape)
    merged = merge_axes(spatial, x.layout.strides[2:], place.layout.strides[2:])
    assert merged is not None, "the positions of a value by itself lie at one distance"
    runs, (x_run, y_run) = merged
    posts, refs = lower_posts(planner, step.post, shape, ARGS)
    recipe = Standardise(
        rows=shape[0],
        runs=runs,
        size=shape[1],
        x_row=x.layout.strides[0],
        y_row=place.layout.strides[0],
        x_run=x_run,
        y_run=y_run,
        epsilon=step.epsilon,
        posts=posts,
        lanes=planner.target.lanes,
    )
    planner.call(recipe, [x.ref, place.ref, *refs], "standardise")
    if place is not y:
        copy_value(planner, place, y)
