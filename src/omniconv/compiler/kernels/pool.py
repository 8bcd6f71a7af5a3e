r"""Pooling: the maximum or the mean over a window of each channel.

.. math:: y_q = \max_{t} x_{q s - p + t d} \qquad\text{or}\qquad y_q = \frac{1}{|T_q|} \sum_t x_{q s - p + t d}

over the taps t that land inside the input. Several neighbouring outputs form a tile: each input column of the tile is
reduced over the rows of the window once, and the columns are then combined for every output that covers them. Windows
wider than the registers hold loop over their taps instead. Columns outside the input read one inside and are then
replaced by the neutral element.
"""

from __future__ import annotations

from dataclasses import replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.emit.vectors import count_groups, emit_vectors, largest
from omniconv.compiler.lowering.arrange import keep_order, restore_order
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.problem.open_images import open_images
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.steps import PoolStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2

_SHARES = 16
"""Units of work worth having: below, the channels are divided too."""


@dataclass(frozen=True, slots=True)
class PoolAxis:
    """The window along one axis. ``bound`` is where positions stop counting towards the divisor of a mean."""

    size: int
    output: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0
    bound: int = 0

    def opened(self, opener: Opener) -> PoolAxis:
        """The same window over a row of any size."""
        if self.size == self.output == self.kernel == 1:
            return self
        return replace(self, size=opener.any(self.size), output=opener.any(self.output), bound=opener.any(self.bound))

    @property
    def reach(self) -> int:
        """Distance from the first to the last tap."""
        return (self.kernel - 1) * self.dilation

    @property
    def bordered(self) -> bool:
        """Whether some tap lands outside the input."""
        return self.before > 0 or (self.output - 1) * self.stride - self.before + self.reach >= self.size

    @property
    def filled(self) -> bool:
        """Whether every window has a tap inside the input."""
        last = (self.output - 1) * self.stride - self.before
        # Windows that begin before the input, each with its first tap behind that.
        early = [(start, start % self.dilation) for start in range(-self.before, 0, self.stride)]
        return last < self.size and all(
            index >= self.output or (tap - start <= self.reach and tap < self.size)
            for index, (start, tap) in enumerate(early)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The recipe of one pooling kernel: everything its code depends on.

    Attributes:
        op: ``max`` or ``mean``.
        batch, channels: sizes that the window does not touch.
        axes: windows along depth, height, width.
        count_padding: whether the divisor of a mean counts the explicit padding.
        x_strides, y_strides: N, D, H, W strides [elements].
        readable, tail: of the layouts of x and y.
        columns: outputs in a tile; 0 where the taps of the width are looped over.
        group: vectors of channels at a time.
        split: parts that the channels are divided into.
        filled: whether every window has a tap inside the input.
        lanes: of a vector.
    """

    op: str
    batch: int
    channels: int
    axes: tuple[PoolAxis, PoolAxis, PoolAxis]
    count_padding: bool
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    readable: bool
    tail: bool
    columns: int
    group: int
    split: int
    filled: bool
    lanes: int

    @classmethod
    def of(cls, step: PoolStep, x: Layout, y: Layout, target: Target) -> Pool:
        """The recipe for one step. Both values are channels-last."""
        gx, gy, lanes = x.grid, y.grid, target.lanes
        given = len(step.kernel)
        axes = [PoolAxis(1, 1, bound=1)] * (3 - given)
        for i in range(given):
            size, output = gx.sizes[3 - given + i], gy.sizes[3 - given + i]
            before, after = step.padding[i]
            bound = size + (after if step.count_padding else 0)
            axes.append(PoolAxis(size, output, step.kernel[i], step.stride[i], step.dilation[i], before, bound))
        columns, group = _plan_tile(axes[1], axes[2], target.registers * 3 // 4)
        vectors = ceil_div(gx.c, lanes)
        group = max(g for g in range(1, group + 1) if vectors % g == 0)  # no second body for the rest
        rows = gy.n * gy.sizes[0] * gy.sizes[1]
        groups = count_groups(gx.c, lanes, group)
        split = 1 if rows >= _SHARES else min(groups, ceil_div(_SHARES, rows))
        return cls(
            op=step.op,
            batch=gy.n,
            channels=gx.c,
            axes=(axes[0], axes[1], axes[2]),
            count_padding=step.count_padding,
            x_strides=(gx.sn, *gx.strides),
            y_strides=(gy.sn, *gy.strides),
            readable=x.readable,
            tail=y.tail,
            columns=columns,
            group=group,
            split=split,
            filled=all(axis.filled for axis in axes[:2]),
            lanes=lanes,
        )

    def opened(self, opener: Opener) -> Pool:
        """The same kernel for images of any size."""
        return open_images(self, opener, split=opener.any(self.split))

    @property
    def units(self) -> int:
        """Units of work: parts of the channels, times output rows."""
        return self.split * self.batch * self.axes[0].output * self.axes[1].output

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            _PoolRow(self, k, *k.split(unit, self.split, self.batch, self.axes[0].output, self.axes[1].output)).emit()
        return k.finish()


def _plan_tile(height: PoolAxis, width: PoolAxis, registers: int) -> tuple[int, int]:
    """Outputs in a tile, and vectors at a time: the fewest operations that the registers have room for."""
    best: tuple[float, int, int] | None = None
    for columns in range(1, min(4, width.output) + 1):
        needed = len(_columns(width, columns))
        if needed > registers:
            break
        tiles = ceil_div(width.output, columns)
        cost = tiles * (needed * height.kernel + columns * width.kernel)
        if best is None or cost < best[0]:
            best = (cost, columns, max(1, min(4 if columns == 1 else 2, registers // needed)))
    return (0, 4) if best is None else best[1:]


def _columns(width: PoolAxis, count: int) -> list[int]:
    """Input columns under ``count`` neighbouring outputs, from the first tap of the first."""
    return sorted({t * width.stride + i * width.dilation for t in range(count) for i in range(width.kernel)})


class _PoolRow:
    """Emission of one unit: an output row, over a part of the channels."""

    def __init__(self, recipe: Pool, k: Kernel, part: Index, n: Index, od: Index, oh: Index) -> None:
        self.p, self.k, self.part, self.od, self.oh = recipe, k, part, od, oh
        self.x = k.shift(k.arg(X), k.mul(n, recipe.x_strides[0]))
        rows = k.add(k.mul(od, recipe.y_strides[1]), k.mul(oh, recipe.y_strides[2]))
        self.y = k.shift(k.arg(Y), k.add(k.mul(n, recipe.y_strides[0]), rows))
        self.depth, self.height = self._taps(recipe.axes[0], od), self._taps(recipe.axes[1], oh)

    def emit(self) -> None:
        """All tiles of the row."""
        k, axis = self.k, self.p.axes[2]
        wide = max(self.p.columns, 1)
        with k.loop(ceil_div(axis.output, wide)) as tile:
            # The last tile overlaps the one before it instead of being cut.
            ow = k.min(k.mul(tile, wide), axis.output - wide)
            inside = self._inside(ow)
            if isinstance(inside, bool):
                self._channels(ow, checked=not inside)
            else:
                with k.branches(inside) as (fast, slow):
                    with fast:
                        self._channels(ow, checked=False)
                    with slow:
                        self._channels(ow, checked=True)

    def _inside(self, ow: Index) -> Condition:
        """Whether every tap of the tile lands inside the input along the width."""
        k, axis = self.k, self.p.axes[2]
        if not axis.bordered or not self.p.columns:
            return not axis.bordered
        first = k.sub(k.mul(ow, axis.stride), axis.before)
        reach = (self.p.columns - 1) * axis.stride + axis.reach
        return k.both(k.compare(">=", first, 0), k.compare("<", k.add(first, reach), axis.size))

    def _channels(self, ow: Index, *, checked: bool) -> None:
        p = self.p

        def body(c: Index, vectors: int, tail: int | None) -> None:
            at = (ow, c, vectors, tail)
            for t, row in enumerate(self._tile(*at, checked=checked) if p.columns else self._looped(*at)):
                self._finish(row, self.k.add(ow, t), c, tail, checked=checked)

        masked = not (p.tail and p.readable)
        emit_vectors(self.k, p.channels, body, group=p.group, masked=masked, part=self.part, parts=p.split)

    def _combine(self, a: Value, b: Value) -> Value:
        return largest(self.k, a, b) if self.p.op == "max" else self.k.b.fadd(a, b)

    @property
    def _neutral(self) -> Value:
        return self.k.splat(float("-inf") if self.p.op == "max" else 0.0)

    def _taps(self, axis: PoolAxis, output: Index) -> tuple[Index, Index, Index]:
        """Position of tap 0, the first tap inside the input and one past the last."""
        k = self.k
        start = k.sub(k.mul(output, axis.stride), axis.before)
        if not axis.bordered:
            return start, 0, axis.kernel
        before = k.add(k.max(k.sub(0, start), 0), axis.dilation - 1)
        return start, k.divmod(before, axis.dilation)[0], self._end(axis, start, axis.size)

    def _end(self, axis: PoolAxis, start: Index, bound: int) -> Index:
        k = self.k
        left = k.add(k.max(k.sub(bound, start), 0), axis.dilation - 1)
        return k.min(k.divmod(left, axis.dilation)[0], axis.kernel)

    def _load(self, pixel: Pointer, v: int, vectors: int, tail: int | None) -> Value:
        count = tail if v == vectors - 1 and not self.p.readable else None
        return self.k.load(pixel, v * self.p.lanes, count=count)

    def _line(self, td: Index, th: Index) -> Pointer:
        k, p = self.k, self.p
        iz = k.add(self.depth[0], k.mul(td, p.axes[0].dilation))
        iy = k.add(self.height[0], k.mul(th, p.axes[1].dilation))
        return k.shift(self.x, k.add(k.mul(iz, p.x_strides[1]), k.mul(iy, p.x_strides[2])))

    def _tile(self, ow: Index, c: Index, vectors: int, tail: int | None, *, checked: bool) -> list[list[Value]]:
        """Each column over the rows of the window, then the columns of each output."""
        k, p, axis = self.k, self.p, self.p.axes[2]
        first = k.sub(k.mul(ow, axis.stride), axis.before)
        columns, inside = dict[int, Index](), {}
        for dx in _columns(axis, p.columns):
            ix = k.add(first, dx)
            if checked:
                inside[dx] = k.within(ix, axis.size)
                ix = ix if isinstance(ix, int) and inside[dx] else k.choose(inside[dx], k.index(ix), k.index(0))
            columns[dx] = ix

        def load(line: Pointer) -> dict[int, list[Value]]:
            """The pixels of a row."""
            if checked:
                places = {dx: k.shift(line, k.add(k.mul(ix, p.x_strides[3]), c)) for dx, ix in columns.items()}
            else:
                origin = k.anchor(k.shift(line, k.add(k.mul(first, p.x_strides[3]), c)))
                places = {dx: k.shift(origin, dx * p.x_strides[3]) for dx in columns}
            return {dx: [self._load(place, v, vectors, tail) for v in range(vectors)] for dx, place in places.items()}

        if p.filled:
            start = load(self._line(self.depth[1], self.height[1]))
        else:
            start = {dx: [self._neutral] * vectors for dx in columns}
        acc = {dx: [k.variable(k.vector_type(), value) for value in values] for dx, values in start.items()}
        with k.loop(self.depth[2], start=self.depth[1]) as td:
            top = self.height[1]
            if p.filled:
                here = k.compare("==", td, self.depth[1])
                top = k.choose(here, k.index(k.add(top, 1)), k.index(top)) if here is not True else k.add(top, 1)
            with k.loop(self.height[2], start=top) as th:
                for dx, pixels in load(self._line(td, th)).items():
                    for slot, pixel in zip(acc[dx], pixels, strict=True):
                        k.set(slot, self._combine(k.get(slot), pixel))
        values = {dx: [k.get(slot) for slot in slots] for dx, slots in acc.items()}
        for dx, condition in inside.items():
            values[dx] = [k.choose(condition, value, self._neutral) for value in values[dx]]
        results = []
        for t in range(p.columns):
            row = values[t * axis.stride]
            for i in range(1, axis.kernel):
                others = values[t * axis.stride + i * axis.dilation]
                row = [self._combine(a, b) for a, b in zip(row, others, strict=True)]
            results.append(row)
        return results

    def _looped(self, ow: Index, c: Index, vectors: int, tail: int | None) -> list[list[Value]]:
        """One output, with loops over the taps inside the input."""
        k, p, axis = self.k, self.p, self.p.axes[2]
        start, low, high = self._taps(axis, ow)
        acc = [k.variable(k.vector_type(), self._neutral) for _ in range(vectors)]
        with k.loop(self.depth[2], start=self.depth[1]) as td, k.loop(self.height[2], start=self.height[1]) as th:
            line = self._line(td, th)
            with k.loop(high, start=low) as tw:
                pixel = k.shift(line, k.add(k.mul(k.add(start, k.mul(tw, axis.dilation)), p.x_strides[3]), c))
                for v, slot in enumerate(acc):
                    k.set(slot, self._combine(k.get(slot), self._load(pixel, v, vectors, tail)))
        return [[k.get(slot) for slot in acc]]

    def _finish(self, row: list[Value], ow: Index, c: Index, tail: int | None, *, checked: bool) -> None:
        k, p = self.k, self.p
        divisor = None
        if p.op == "mean":
            counted: Index = 1
            for axis, output in zip(p.axes, (self.od, self.oh, ow), strict=True):
                counted = k.mul(counted, self._counted(axis, output, inside=axis is p.axes[2] and not checked))
            divisor = (
                k.splat(float(counted))
                if isinstance(counted, int)
                else k.spread(k.b.sitofp(k.index(counted), k.scalar))
            )
        target = k.anchor(k.shift(self.y, k.add(k.mul(ow, p.y_strides[3]), c)))
        for v, value in enumerate(row):
            count = tail if v == len(row) - 1 and not p.tail else None
            k.store(value if divisor is None else k.b.fdiv(value, divisor), target, v * p.lanes, count=count)

    def _counted(self, axis: PoolAxis, output: Index, *, inside: bool) -> Index:
        """Positions of the window along one axis that count towards the divisor."""
        if inside or not axis.bordered:
            return axis.kernel
        start, low, high = self._taps(axis, output)
        return self._end(axis, start, axis.bound) if self.p.count_padding else self.k.max(self.k.sub(high, low), 0)


def lower_pool(planner: Planner, step: PoolStep) -> None:
    """Maximum or mean over windows."""
    x = keep_order(planner, step.x, step.y)
    y = planner.produce(step.y)
    recipe = Pool.of(step, x.layout.ordered(), y.layout.ordered(), planner.target)
    planner.call(recipe, [x.ref, y.ref], "pool")
    restore_order(planner, x, step.y)
