r"""Local response normalisation across channels.

.. math::
    y_c = x_c \Big/ \Big(b + \frac{\alpha}{k} \sum_{j = c - \lfloor (k-1)/2 \rfloor}^{c + \lfloor k/2 \rfloor} x_j^2
    \Big)^{\beta}

over the channels j that exist. The window of a vector of channels is one unaligned load for each offset; at either
end the channels that do not exist are shifted in as zeros. Wide windows are summed by a loop, one channel after the
other. The power is made of square roots where beta is 1/2, 3/4
or 1, else :math:`e^{-\beta \ln d}`, whose relative error grows to :math:`2^{-24} \beta |\ln d|`.
"""

from __future__ import annotations

from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_exp, emit_log
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.program.steps import LrnStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""
ARGS = 2
MOST_UNROLLED: Final = 32
"""Channels of a window that are written out. At either end code would grow with the square of a wider one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lrn:
    """The recipe of one normalisation: everything its code depends on.

    Attributes:
        size, alpha, beta, bias: as in :class:`omniconv.program.steps.LrnStep`.
        batch, channels, spatial: sizes.
        x_strides, y_strides: N, D, H, W strides [elements].
        tail: of the layout of y.
        lanes: of a vector.
    """

    size: int
    alpha: float
    beta: float
    bias: float
    batch: int
    channels: int
    spatial: tuple[int, int, int]
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    tail: bool
    lanes: int

    @classmethod
    def of(cls, step: LrnStep, x: Layout, y: Layout, lanes: int) -> Lrn:
        """The recipe for one step. Both values are channels-last and different buffers."""
        gx, gy = x.grid, y.grid
        return cls(
            size=step.size,
            alpha=step.alpha,
            beta=step.beta,
            bias=step.bias,
            batch=gx.n,
            channels=gx.c,
            spatial=gx.sizes,
            x_strides=(gx.sn, *gx.strides),
            y_strides=(gy.sn, *gy.strides),
            tail=y.tail,
            lanes=lanes,
        )

    @property
    def units(self) -> int:
        """Units of work: rows."""
        return self.batch * self.spatial[0] * self.spatial[1]

    @property
    def window(self) -> tuple[int, int]:
        """Channels before and after the one that is normalised."""
        return (self.size - 1) // 2, self.size // 2

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            n, d, h = k.split(unit, self.batch, *self.spatial[:2])
            x, y = k.arg(X), k.arg(Y)
            for index, xs, ys in zip((n, d, h), self.x_strides, self.y_strides, strict=False):
                x, y = k.shift(x, k.mul(index, xs)), k.shift(y, k.mul(index, ys))
            with k.loop(self.spatial[2]) as w:
                px, py = k.shift(x, k.mul(w, self.x_strides[3])), k.shift(y, k.mul(w, self.y_strides[3]))
                if self.size > MOST_UNROLLED:
                    self._channels(k, px, py)
                else:
                    self._vectors(k, px, py)
        return k.finish()

    def _vectors(self, k: Kernel, x: Pointer, y: Pointer) -> None:
        """A vector of channels after the other; those at the ends are written out."""
        before, after = self.window
        vectors = ceil_div(self.channels, self.lanes)
        # Vectors whose windows, and themselves, lie inside.
        first = ceil_div(before, self.lanes)
        last = max(first, (self.channels - after) // self.lanes)
        for v in (*range(min(first, vectors)), *range(last, vectors)):
            self._vector(k, x, y, v * self.lanes, inside=False)
        if first < last:
            with k.loop(last, start=first) as v:
                self._vector(k, x, y, k.mul(v, self.lanes), inside=True)

    def _channels(self, k: Kernel, x: Pointer, y: Pointer) -> None:
        """One channel after the other, with a loop over its window: code that does not grow with the window."""
        before, after = (min(side, self.channels - 1) for side in self.window)
        if self.tail:  # what a vector of channels would leave behind the last one
            k.store(k.splat(0.0), y, (self.channels - 1) // self.lanes * self.lanes)
        total = k.variable(k.vector_type())
        with k.loop(self.channels) as c:
            k.set(total, k.splat(0.0))
            with k.loop(k.min(k.add(c, after + 1), self.channels), start=k.max(k.sub(c, before), 0)) as place:
                value = k.load_splat(x, place)
                k.set(total, k.fma(value, value, k.get(total)))
            k.store(self._divide(k, k.load_splat(x, c), self._base(k, k.get(total))), y, c, count=1)

    def _base(self, k: Kernel, total: Value) -> Value:
        """What a sum of squares is scaled to."""
        return k.fma(total, k.splat(self.alpha / self.size), k.splat(self.bias))

    def _vector(self, k: Kernel, x: Pointer, y: Pointer, c: Index, *, inside: bool) -> None:
        edge = c if isinstance(c, int) and not inside else None
        count = None if edge is None else min(self.lanes, self.channels - edge)
        total = k.splat(0.0)
        for offset in range(-self.window[0], self.window[1] + 1):
            value = k.load(x, k.add(c, offset)) if edge is None else self._cut(k, x, edge + offset)
            if value is not None:
                total = k.fma(value, value, total)
        value = self._divide(k, k.load(x, c, count=count), self._base(k, total))
        k.store(value, y, c, count=None if self.tail else count)

    def _cut(self, k: Kernel, x: Pointer, c: int) -> Value | None:
        """The vector that starts at channel ``c``, with zeros where there are no channels."""
        low, high = max(c, 0), min(c + self.lanes, self.channels)
        if low >= high:
            return None
        loaded = k.load(x, low, count=high - low)
        if low == c:
            return loaded
        lanes = [lane - (low - c) if lane >= low - c else self.lanes for lane in range(self.lanes)]
        return k.b.shuffle_vector(loaded, k.splat(0.0), lanes)

    def _divide(self, k: Kernel, value: Value, base: Value) -> Value:
        """``value / base ** beta``."""
        if self.beta == 1.0:
            return k.b.fdiv(value, base)
        if self.beta in {0.5, 0.75}:
            root = k.call("sqrt", base)
            return k.b.fdiv(value, root if self.beta == 0.5 else k.b.fmul(root, k.call("sqrt", root)))
        return k.b.fmul(value, emit_exp(k, k.b.fmul(emit_log(k, base), k.splat(-self.beta))))


def lower_lrn(planner: Planner, step: LrnStep) -> None:
    """Local response normalisation across channels."""
    x = as_channels_last(planner, step.x)
    y = planner.produce(step.y)
    planner.call(Lrn.of(step, x.layout, y.layout, planner.target.lanes), [x.ref, y.ref], "lrn")
