"""Padding by any mode: every axis looks its source positions up in a table.

The tables are data, not code (see :meth:`Padding.tables`): kernels for different amounts of padding differ in sizes
only.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major, copy_value
from omniconv.compiler.memory.layout import Layout, channels_last
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.steps import PadStep
from omniconv.program.steps.pad import source_positions
from omniconv.records import dataclass
from omniconv.spec.conv import PAD_WORDS
from omniconv.target.model import Target

X, Y, MAP = range(3)
"""Positions of the buffers in ``args``; MAP holds :meth:`Padding.tables`."""
ARGS = 3

_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
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
    def of(cls, step: PadStep, x: Layout, y: Layout, lanes: int) -> Padding:
        """The recipe for one step. Both values are channels-last."""
        gx, gy = x.grid, y.grid
        pads = (*step.pads[:2], *((0, 0),) * (5 - len(step.pads)), *step.pads[2:])
        return cls(
            x_sizes=(gx.n, gx.c, *gx.sizes),
            pads=pads,
            mode=step.mode,
            value=step.value,
            x_strides=(gx.sn, *gx.strides),
            y_strides=(gy.sn, *gy.strides),
            readable=x.readable,
            tail=y.tail,
            lanes=lanes,
        )

    def opened(self, opener: Opener) -> Padding:
        """The same kernel for images of any size."""
        n, c, d, h, w = self.x_sizes
        return replace(
            self,
            x_sizes=(opener(n), c, opener(d), opener(h), opener(w)),
            x_strides=opener.strides(self.x_strides),
            y_strides=opener.strides(self.y_strides),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """N, C, D, H, W of the result."""
        return tuple(size + sum(pad) for size, pad in zip(self.x_sizes, self.pads, strict=True))

    @property
    def block(self) -> int:
        """Positions along the width in a unit."""
        return max(1, min(self.sizes[4], ceil_div(_BLOCK, self.sizes[1])))

    @property
    def blocks(self) -> int:
        """Units along the width."""
        return ceil_div(self.sizes[4], self.block)

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
            inside: Condition = True
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

                def emit(exists: bool, origin: Pointer = origin, pixel: Pointer = pixel) -> None:
                    if exists:
                        self._copy(k, origin, pixel)
                    else:
                        self._fill(k, pixel, 0, self.sizes[1], last=True)

                k.both_ways(found, emit)
        return k.finish()

    def _source(self, k: Kernel, axis: int, index: Index) -> tuple[Index, Condition]:
        """The position along an axis that is copied, and whether there is one."""
        if self.pads[axis] == (0, 0):
            return index, True
        source = k.lookup(k.arg(MAP), k.add(sum(self.sizes[:axis]), index))
        padded = max(self.pads[axis]) > 0 and self.mode == "constant"
        return source, k.compare(">=", source, 0) if padded else True

    def _fill(self, k: Kernel, y: Pointer, begin: int, end: int, *, last: bool) -> None:
        """The constant in channels ``begin`` to ``end``."""
        constant = k.splat(self.value)
        spare = last and self.tail and begin % self.lanes == 0

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                count = tail if v == vectors - 1 and not spare else None
                k.store(constant, y, k.add(c, begin + v * self.lanes), count=count)

        if end > begin:
            emit_vectors(k, end - begin, body)

    def _copy(self, k: Kernel, x: Pointer, y: Pointer) -> None:
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

    def _channels(self, k: Kernel, x: Pointer, y: Pointer, channels: int, *, spare: bool) -> None:
        readable = self.readable and self.pads[1][0] >= 0

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                at, count = k.add(c, v * self.lanes), tail if v == vectors - 1 else None
                value = k.load(x, at, count=None if readable else count)
                k.store(value, y, at, count=None if spare else count)

        if channels > 0:
            emit_vectors(k, channels, body, group=4, masked=not (readable and spare))


def lower_pad(planner: Planner, step: PadStep) -> None:
    """Padding of any axes: at once for 2 to 5 axes, else one by one, each between what lies before and behind it."""
    shape = planner.shape(step.x)
    if 2 <= len(shape) <= 5:
        _pad(planner, step, as_channels_last(planner, step.x), planner.produce(step.y))
        return
    x = as_row_major(planner, step.x)
    padded = [axis for axis, pair in enumerate(step.pads) if any(pair)]
    if not padded:
        copy_value(planner, x, planner.produce(step.y, plain=True))
    for axis in padded:
        pair, behind = step.pads[axis], math.prod(shape[axis + 1 :])
        seen = (math.prod(shape[:axis]), behind, shape[axis])
        shape = (*shape[:axis], shape[axis] + sum(pair), *shape[axis + 1 :])
        y = planner.produce(step.y, plain=True) if axis == padded[-1] else planner.fresh_plain(shape)
        source = replace(x, layout=replace(channels_last(seen), readable=x.layout.readable))
        target = replace(y, layout=channels_last((*seen[:2], shape[axis])))
        _pad(planner, replace(step, pads=((0, 0), (0, 0), pair)), source, target)
        x = y


def pad_value(planner: Planner, x: Stored, pads: tuple[tuple[int, int], ...], mode: str) -> Stored:
    """A padded copy of a value that belongs to no name: the padding modes of a convolution."""
    shape = tuple(size + sum(pair) for size, pair in zip(x.layout.shape, pads, strict=True))
    y = planner.fresh(shape)
    _pad(planner, PadStep("", "", pads, PAD_WORDS[mode]), x, y)
    return y


def _pad(planner: Planner, step: PadStep, x: Stored, y: Stored) -> None:
    recipe = Padding.of(step, x.layout, y.layout, planner.target.lanes)
    tables = recipe.tables()
    planner.call(recipe, [x.ref, y.ref, planner.table(tables)], "pad")
