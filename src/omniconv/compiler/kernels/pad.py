"""Padding by any mode: every axis looks its source positions up in a table.

The tables are data, not code (see :meth:`Pad.tables`): kernels for different amounts of padding differ in sizes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Index, Kernel, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.arrange import as_channels_last
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.errors import UnsupportedError
from omniconv.program.steps import PadStep
from omniconv.spec.conv import PAD_WORDS
from omniconv.target.model import Target

X, Y, MAP = range(3)
"""Positions of the buffers in ``args``; MAP holds :meth:`Pad.tables`."""
ARGS = 3

_BLOCK: Final = 1024


def source_positions(size: int, before: int, after: int, mode: str) -> npt.NDArray[np.int64]:
    """The position that each padded position along an axis is a copy of; -1 where it is the constant.

    Example:
        >>> source_positions(3, 2, 1, "reflect").tolist()
        [2, 1, 0, 1, 2, 1]
        >>> source_positions(3, 1, 1, "constant").tolist()
        [-1, 0, 1, 2, -1]

    Args:
        size: of the axis.
        before: positions to add in front; negative ones take away.
        after: positions to add behind.
        mode: constant, reflect, edge or wrap.
    """
    at = np.arange(-before, size + after, dtype=np.int64)
    match mode:
        case "constant":
            return np.where((at >= 0) & (at < size), at, -1)
        case "edge":
            return np.clip(at, 0, size - 1)
        case "wrap":
            return at % size
        case "reflect":
            period = max(2 * (size - 1), 1)
            return np.minimum(at % period, period - at % period) if size > 1 else np.zeros_like(at)
    raise AssertionError(mode)


@dataclass(frozen=True, slots=True)
class Pad:
    """The recipe of one padding: everything its code depends on.

    Attributes:
        x_sizes: N, C, D, H, W of the input.
        pads: ``((before, after), ...)`` of those axes.
        mode, value: as in :class:`omniconv.program.steps.PadStep`.
        x_strides, y_strides: N, D, H, W strides [elements].
        readable, tail: of the layouts of x and y.
        lanes: of a vector.
    """

    x_sizes: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    mode: str
    value: float
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    readable: bool
    tail: bool
    lanes: int

    @classmethod
    def of(cls, step: PadStep, x: Layout, y: Layout, lanes: int) -> Pad:
        """The recipe for one step. Both values are channels-last."""
        gx, gy = x.grid, y.grid
        pads = (*step.pads[:2], *((0, 0),) * (5 - len(step.pads)), *step.pads[2:])
        return cls(
            (gx.n, gx.c, *gx.sizes), pads, step.mode, step.value,
            (gx.sn, *gx.strides), (gy.sn, *gy.strides), x.readable, y.tail, lanes,
        )  # fmt: skip

    @property
    def sizes(self) -> tuple[int, ...]:
        """N, C, D, H, W of the result."""
        return tuple(size + sum(pad) for size, pad in zip(self.x_sizes, self.pads, strict=True))

    @property
    def block(self) -> int:
        """Positions along the width in a unit."""
        return max(1, min(self.sizes[4], -(_BLOCK // -self.sizes[1])))

    @property
    def blocks(self) -> int:
        """Units along the width."""
        return -(self.sizes[4] // -self.block)

    @property
    def units(self) -> int:
        """Units of work: blocks of a row."""
        n, _, d, h, _ = self.sizes
        return n * d * h * self.blocks

    def tables(self) -> npt.NDArray[np.int64]:
        """Source positions along N, C, D, H and W, one after the other."""
        return np.concatenate(
            [source_positions(size, *pad, self.mode) for size, pad in zip(self.x_sizes, self.pads, strict=True)]
        )

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            n, d, h, block = k.split(unit, self.sizes[0], self.sizes[2], self.sizes[3], self.blocks)
            x, y = k.arg(X), k.arg(Y)
            inside: Value | bool = True
            for axis, index, place in ((0, n, 0), (2, d, 1), (3, h, 2)):
                source, valid = self._source(k, axis, index)
                inside = k.both(inside, valid)
                x = k.shift(x, k.mul(source, self.x_strides[place]))
                y = k.shift(y, k.mul(index, self.y_strides[place]))
            first = k.mul(block, self.block)
            with k.loop(k.min(k.add(first, self.block), self.sizes[4]), start=first) as w:
                source, valid = self._source(k, 4, w)
                pixel = k.shift(y, k.mul(w, self.y_strides[3]))
                origin = k.shift(x, k.mul(source, self.x_strides[3]))
                found = k.both(inside, valid)
                if found is True:
                    self._copy(k, origin, pixel)
                else:
                    with k.branches(found) as (then, otherwise):
                        with then:
                            self._copy(k, origin, pixel)
                        with otherwise:
                            self._fill(k, pixel, 0, self.sizes[1], last=True)
        return k.finish()

    def _source(self, k: Kernel, axis: int, index: Index) -> tuple[Index, Value | bool]:
        """The position along an axis that is copied, and whether there is one."""
        if self.pads[axis] == (0, 0):
            return index, True
        source = k.lookup(k.arg(MAP), k.add(sum(self.sizes[:axis]), index))
        padded = max(self.pads[axis]) > 0 and self.mode == "constant"
        return source, k.compare(">=", source, 0) if padded else True

    def _fill(self, k: Kernel, y: Value, begin: int, end: int, *, last: bool) -> None:
        """The constant in channels ``begin`` to ``end``."""
        constant = k.splat(self.value)
        spare = last and self.tail and begin % self.lanes == 0

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                count = tail if v == vectors - 1 and not spare else None
                k.store(constant, y, k.add(c, begin + v * self.lanes), count=count)

        if end > begin:
            emit_vectors(k, end - begin, body)

    def _copy(self, k: Kernel, x: Value, y: Value) -> None:
        """One position, from its source."""
        before, after = self.pads[1]
        if before == after == 0:
            self._channels(k, x, y, self.x_sizes[1], spare=self.tail)
        elif self.mode == "constant":
            kept = self.x_sizes[1] + min(before, 0) + min(after, 0)
            first = max(before, 0)
            self._fill(k, y, 0, first, last=False)
            spare = self.tail and after <= 0 and first % self.lanes == 0
            self._channels(k, k.shift(x, max(-before, 0)), k.shift(y, first), kept, spare=spare)
            self._fill(k, y, first + kept, self.sizes[1], last=True)
        else:
            with k.loop(self.sizes[1]) as c:
                source = k.lookup(k.arg(MAP), k.add(self.sizes[0], c))
                k.store_scalar(k.load_scalar(x, source), y, c)

    def _channels(self, k: Kernel, x: Value, y: Value, channels: int, *, spare: bool) -> None:
        readable = self.readable and self.pads[1][0] >= 0

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                at, count = k.add(c, v * self.lanes), tail if v == vectors - 1 else None
                value = k.load(x, at, count=None if readable else count)
                k.store(value, y, at, count=None if spare else count)

        if channels > 0:
            emit_vectors(k, channels, body, group=4, masked=not (readable and spare))


def lower_pad(planner: Planner, step: PadStep) -> None:
    """Padding of any axes."""
    rank = len(planner.shape(step.x))
    if not 2 <= rank <= 5:
        raise UnsupportedError(f"padding of a value of rank {rank}", need="rank 2 to 5")
    _pad(planner, step, as_channels_last(planner, step.x), planner.produce(step.y))


def pad_value(planner: Planner, x: Stored, pads: tuple[tuple[int, int], ...], mode: str) -> Stored:
    """A padded copy of a value that belongs to no name: the padding modes of a convolution."""
    shape = tuple(size + sum(pair) for size, pair in zip(x.layout.shape, pads, strict=True))
    y = planner.fresh(shape)
    _pad(planner, PadStep("", "", pads, PAD_WORDS[mode]), x, y)
    return y


def _pad(planner: Planner, step: PadStep, x: Stored, y: Stored) -> None:
    recipe = Pad.of(step, x.layout, y.layout, planner.target.lanes)
    tables = recipe.tables()
    planner.call(recipe, [x.ref, y.ref, planner.table(tables)], "pad")
