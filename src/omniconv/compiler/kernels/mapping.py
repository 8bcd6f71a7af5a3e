"""Elementwise steps: ``y = posts(x)``, where x broadcasts to y.

Five axes (those of a value, or runs of its axes) are first merged as far as every array allows: a run of neighbours
along the innermost axis is worked on in vectors, whatever it stood for. Each element is read before it is written, so
that x and y may be the same buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue, open_posts, share_posts
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last, as_expanded, as_row_major, keep_order, restore_order
from omniconv.compiler.lowering.posts import find_runs, follows_runs, has_operands, lower_posts, run_strides
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.steps import MapStep, ProductStep, QuantisedMapStep, QuantisedTableStep
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 2

_BLOCK = 1024
"""Elements in a unit of work, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """The recipe of one elementwise kernel: everything its code depends on.

    Attributes:
        sizes: N, C, D, H, W after merging.
        x_strides, y_strides: of those axes [elements]; 0 where x is broadcast. y has neighbouring channels.
        posts: what is computed; operands have the same axes.
        run: whether other axes are merged into the channels.
        readable, tail: of the layouts of x and y.
        block: positions along W in a unit.
        parts: shares that the channels are divided into.
        lanes: of a vector.
    """

    sizes: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    posts: tuple[Post, ...]
    run: bool
    readable: bool
    tail: bool
    block: int
    parts: int
    lanes: int

    @classmethod
    def of(cls, x: Layout, y: Layout, posts: tuple[Post, ...], lanes: int) -> Map:
        """The recipe for one step; the operands' strides run over the five axes of y's grid."""
        grid = y.grid
        sizes = [grid.n, grid.c, *grid.sizes]
        y_strides = [grid.sn, grid.sc, *grid.strides]
        assert grid.sc == 1, "the channels of y are neighbours"
        columns = [_broadcast(x, y), y_strides, *(list(p.operand.strides) for p in posts if p.operand is not None)]
        run = _merge(sizes, columns)
        block = max(1, min(sizes[4], ceil_div(_BLOCK, sizes[1])))
        parts = max(1, sizes[1] // _BLOCK)
        operands = iter(columns[2:])
        rewritten = []
        for post in posts:
            if post.operand is not None:
                n, c, d, h, w = next(operands)
                readable = post.operand.readable and not run
                post = replace(post, operand=replace(post.operand, strides=(n, c, d, h, w), readable=readable))
            rewritten.append(post)
        return cls(
            sizes=tuple(sizes),
            x_strides=tuple(columns[0]),
            y_strides=tuple(y_strides),
            posts=tuple(rewritten),
            run=run,
            readable=x.readable and not run,
            tail=y.tail and not run,
            block=block,
            parts=parts,
            lanes=lanes,
        )

    def opened(self, opener: Opener) -> Map:
        """The same kernel for values of any size. Channels that have grown by other axes are opened with these."""
        n, c, d, h, w = self.sizes
        steps = [opener.strides((sn, sd, sh, sw)) for sn, _, sd, sh, sw in (self.x_strides, self.y_strides)]
        (xn, xd, xh, xw), (yn, yd, yh, yw) = steps
        return replace(
            self,
            sizes=(opener(n), opener(c) if self.run else c, opener(d), opener(h), opener(w)),
            x_strides=(xn, self.x_strides[1], xd, xh, xw),
            y_strides=(yn, self.y_strides[1], yd, yh, yw),
            posts=open_posts(self.posts, opener),
            block=opener.any(self.block),
            parts=opener.any(self.parts),
        )

    def shared(self, opener: Opener) -> Map:
        """The same kernel for any sizes: it waits for memory."""
        n, c, d, h, w = self.sizes
        steps = [opener.all((sn, sd, sh, sw)) for sn, _, sd, sh, sw in (self.x_strides, self.y_strides)]
        (xn, xd, xh, xw), (yn, yd, yh, yw) = steps
        return replace(
            self,
            sizes=(opener(n), opener(c), opener(d), opener(h), opener(w)),
            x_strides=(xn, opener(self.x_strides[1]), xd, xh, xw),
            y_strides=(yn, self.y_strides[1], yd, yh, yw),
            posts=share_posts(self.posts, opener),
            block=opener.any(self.block),
            parts=opener.any(self.parts),
        )

    @property
    def blocks(self) -> int:
        """Units along W."""
        return ceil_div(self.sizes[4], self.block)

    @property
    def units(self) -> int:
        """Units of work: blocks of neighbouring positions, times parts of the channels."""
        n, _, d, h, _ = self.sizes
        return n * d * h * self.blocks * self.parts

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        self.emit_positions(k, lambda at, part: self._pixel(k, at, part))
        return k.finish()

    def emit_positions(self, k: Kernel, body: Callable[[tuple[Index, Index, Index, Index], Index], None]) -> None:
        """Run ``body(position, part of the channels)`` for all of a thread's units."""
        with k.loop(k.end, start=k.begin) as unit:
            n, d, h, block, part = k.split(unit, self.sizes[0], self.sizes[2], self.sizes[3], self.blocks, self.parts)
            first = k.mul(block, self.block)
            with k.loop(k.min(k.add(first, self.block), self.sizes[4]), start=first) as w:
                body((n, d, h, w), part)

    def _pixel(self, k: Kernel, at: tuple[Index, Index, Index, Index], part: Index) -> None:
        x, y = (_at(k, k.arg(X), self.x_strides, at), _at(k, k.arg(Y), self.y_strides, at))
        whole = self.tail and (self.readable or self.x_strides[1] != 1)
        whole = whole and all(post.readable for post in self.posts)
        spread = k.load_splat(x) if self.x_strides[1] == 0 else None

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                channel = k.add(c, v * self.lanes)
                count = tail if v == vectors - 1 else None
                if spread is not None:
                    value = spread
                elif self.x_strides[1] == 1:
                    value = k.load(x, channel, count=None if self.readable else count)
                else:
                    value = self._collect(k, x, channel, count)
                value = emit_epilogue(k, self.posts, value, Position(*at, channel), count)
                k.store(value, y, channel, count=None if self.tail else count)

        group = 1 if any(post.activation is not None or post.heavy for post in self.posts) else 4
        emit_vectors(k, self.sizes[1], body, group=group, masked=not whole, part=part, parts=self.parts)

    def _collect(self, k: Kernel, x: Pointer, channel: Index, count: int | None) -> Value:
        """A vector of channels that are not neighbours in x."""
        value = k.splat(0.0)
        last = self.sizes[1] - 1
        for lane in range(self.lanes if count is None else count):
            index = k.add(channel, lane)
            if self.sizes[1] % self.lanes:
                index = k.min(index, last)
            scalar = k.load_scalar(x, k.mul(index, self.x_strides[1]))
            value = k.b.insert_element(value, scalar, lane)
        return value


def _at(k: Kernel, pointer: Pointer, strides: Sequence[int], at: tuple[Index, Index, Index, Index]) -> Pointer:
    offset: Index = 0
    for index, stride in zip(at, (strides[0], *strides[2:]), strict=True):
        offset = k.add(offset, k.mul(index, stride))
    return k.shift(pointer, offset)


def _broadcast(x: Layout, y: Layout) -> list[int]:
    """Strides of x over the five axes of y's grid; 0 where x is broadcast."""
    missing = len(y.shape) - len(x.shape)
    strides = [0] * missing + [s if size > 1 else 0 for size, s in zip(x.shape, x.strides, strict=True)]
    dims = len(y.shape) - 2
    return strides[:2] + [0] * (3 - dims) + strides[2:]


def _merge(sizes: list[int], columns: list[list[int]]) -> bool:
    """Merge axes in place: into C where the result is a run, then among N, D, H, W. Whether C has grown."""
    run = False
    outer = [0, 2, 3, 4]
    for axis in range(5):
        if sizes[axis] == 1:
            for strides in columns:
                strides[axis] = 0
    columns[1][1] = 1
    # Into the channels, innermost first.
    for axis in reversed(outer):
        if sizes[axis] == 1:
            continue
        if sizes[1] == 1:
            fits = columns[1][axis] == 1 and all(strides[axis] in {0, 1} for strides in columns)
            step = [strides[axis] for strides in columns]
        else:
            fits = all(strides[axis] == sizes[1] * strides[1] for strides in columns)
            step = [strides[1] for strides in columns]
        if not fits:
            break
        for strides, stride in zip(columns, step, strict=True):
            strides[1], strides[axis] = stride, 0
        sizes[1], sizes[axis], run = sizes[1] * sizes[axis], 1, True
    # Among the rest, outermost first, into the next inner axis that is not trivial.
    for place, axis in enumerate(outer[:-1]):
        inner = next((other for other in outer[place + 1 :] if sizes[other] > 1), outer[-1])
        if sizes[axis] == 1:
            continue
        if sizes[inner] == 1:
            for strides in columns:
                strides[inner], strides[axis] = strides[axis], 0
        elif all(strides[axis] == sizes[inner] * strides[inner] for strides in columns):
            for strides in columns:
                strides[axis] = 0
        else:
            continue
        sizes[inner], sizes[axis] = sizes[inner] * sizes[axis], 1
    return run


def find_order(planner: Planner, step: MapStep | QuantisedMapStep | QuantisedTableStep) -> bool:
    """Whether the result is channels last: where it has its place, and where x or an operand is, of the same shape."""
    shape, source = planner.shape(step.y), planner.shape(step.x)
    if step.y in planner.places:
        return True
    if len(source) < len(shape):
        return False
    layouts = [planner.get(name).layout for name in step.reads if planner.shape(name) == shape]
    if len(shape) >= 3:
        return not layouts or any(layout.channels_last or not layout.plain for layout in layouts)
    return planner.get(step.x).layout.channels_last


def _keep_strides(planner: Planner, step: MapStep) -> bool:
    """Lower operations with single numbers on a view that products read: the result keeps the order of x's axes in
    memory, which products take as it is. Whether that is so.
    """
    x, shape = planner.get(step.x), planner.shape(step.y)
    layout = x.layout
    if layout.shape != shape:
        return False
    axes = sorted((axis for axis, size in enumerate(shape) if size > 1), key=lambda axis: -layout.strides[axis])
    numbers = [post.operand for post in step.post if post.operand is not None]
    if (
        step.y in planner.places
        or layout.channels is not None
        or layout.plain
        or layout.channels_last
        or not 2 <= len(axes) <= 5
        or layout.strides[axes[-1]] != 1
        or any(isinstance(number, str) or number.size != 1 for number in numbers)
        or not all(isinstance(other, ProductStep) for other in planner.program.steps if step.y in other.reads)
    ):
        return False
    first, *outer, last = axes
    seen = [first, last, *outer]
    dense = row_major(tuple(shape[axis] for axis in axes)).strides
    strides = tuple(dense[axes.index(axis)] if axis in axes else 0 for axis in range(len(shape)))
    y = Layout(shape, strides, readable=True)
    planner.stored[step.y] = planner.room(y, planner.element_of(step.y))

    def see(layout: Layout) -> Layout:
        sizes, steps = (tuple(values[axis] for axis in seen) for values in (shape, layout.strides))
        return Layout(sizes, steps, readable=layout.readable)

    post = [op.with_constant(lambda number: number.reshape(())) for op in step.post]
    posts, refs = lower_posts(planner, post, see(y).shape, ARGS)
    recipe = Map.of(see(layout), see(y), posts, planner.target.lanes)
    planner.call(recipe, [x.ref, planner.stored[step.y].ref, *refs], "map")
    return True


def lower_map(planner: Planner, step: MapStep) -> None:
    """``y = post(x)``, channels last or row major, as its operands are."""
    if _keep_strides(planner, step):
        return
    shape, source = planner.shape(step.y), planner.shape(step.x)
    rank = len(shape)
    if find_order(planner, step) and 2 <= rank <= 5:
        plain = has_operands(step.post) or source != shape
        x = as_channels_last(planner, step.x, rank) if plain else keep_order(planner, step.x, step.y)
        y = planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, shape, ARGS)
        recipe = Map.of(x.layout.ordered(), y.layout.ordered(), posts, planner.target.lanes)
        planner.call(recipe, [x.ref, y.ref, *refs], "map")
        if not plain:
            restore_order(planner, x, step.y)
        return
    operands = (post.operand for post in step.post if post.operand is not None)
    runs = find_runs(shape, [source, *(planner.shape(a) if isinstance(a, str) else a.shape for a in operands)])
    x = as_row_major(planner, step.x) if follows_runs(shape, source, runs) else as_expanded(planner, step.x, shape)
    y = planner.produce(step.y, plain=True)
    posts, refs = lower_posts(planner, step.post, shape, ARGS, runs)
    recipe = Map.of(by_runs(x.layout, shape, runs), by_runs(y.layout, shape, runs), posts, planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref, *refs], "map")


def by_runs(layout: Layout, shape: Shape, runs: Sequence[Sequence[int]]) -> Layout:
    """A row-major layout with an axis for each run of axes, seen as channels last: the last run is the channels."""
    missing = (0,) * (2 - len(runs))
    strides = missing + run_strides(layout.with_rank(len(shape)), runs)
    sizes = (1,) * len(missing) + tuple(math.prod(shape[axis] for axis in run) for run in runs)
    seen = tuple(size if stride else 1 for size, stride in zip(sizes, strides, strict=True))
    return replace(layout, shape=(seen[0], seen[-1], *seen[1:-1]), strides=(strides[0], strides[-1], *strides[1:-1]))
