r"""Separable resampling: each output is a weighted sum of a few input positions per axis.

.. math:: y_{d,h,w} = \sum_{r,s,t} x_{I^D_{r,d},\, I^H_{s,h},\, I^W_{t,w}} \; W^D_{r,d} W^H_{s,h} W^W_{t,w}

Indices and weights are tables, so that one kernel serves every interpolation with as many taps. A few taps are
unrolled, and their addresses and weights serve all channels; many are looped over. A single tap of weight one is a
copy.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.closing import Later
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.steps import Array, ResizeStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y, INDEX, WEIGHT = range(4)
"""Positions of the buffers in ``args``; INDEX and WEIGHT hold :func:`pack_tables`."""
ARGS = 4

_UNROLLED: Final = 16
_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolation:
    """The recipe of one resampling: everything its code depends on.

    Attributes:
        batch, channels: sizes that stay.
        taps, sizes: along depth, height and width.
        unit: for each of them, whether all weights are one.
        x_strides, y_strides: N, D, H, W strides [elements].
        readable, tail: of the layouts of x and y.
        lanes: of a vector.
    """

    batch: int
    channels: int
    taps: tuple[int, ...]
    sizes: tuple[int, ...]
    unit: tuple[bool, ...]
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    readable: bool
    tail: bool
    lanes: int

    @classmethod
    def of(cls, step: ResizeStep, x: Layout, y: Layout, lanes: int) -> Interpolation:
        """The recipe for one step. Both values are channels-last."""
        gx, gy = x.grid, y.grid
        missing = 3 - len(step.index)
        taps = (1,) * missing + tuple(int(index.shape[0]) for index in step.index)
        unit = (True,) * missing + tuple(map(_ask_unit, step.weight))
        return cls(
            batch=gx.n,
            channels=gx.c,
            taps=taps,
            sizes=gy.sizes,
            unit=unit,
            x_strides=(gx.sn, *gx.strides),
            y_strides=(gy.sn, *gy.strides),
            readable=x.readable,
            tail=y.tail,
            lanes=lanes,
        )

    def opened(self, opener: Opener) -> Interpolation:
        """The same kernel for images of any size."""
        return replace(
            self,
            batch=opener(self.batch),
            sizes=tuple(map(opener, self.sizes)),
            x_strides=opener.strides(self.x_strides),
            y_strides=opener.strides(self.y_strides),
        )

    @property
    def block(self) -> int:
        """Positions along the width in a unit."""
        return max(1, min(self.sizes[2], ceil_div(_BLOCK, self.channels)))

    @property
    def blocks(self) -> int:
        """Units along the width."""
        return ceil_div(self.sizes[2], self.block)

    @property
    def units(self) -> int:
        """Units of work: blocks of a row."""
        return self.batch * self.sizes[0] * self.sizes[1] * self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            n, d, h, block = k.split(unit, self.batch, *self.sizes[:2], self.blocks)
            x, y = k.shift(k.arg(X), k.mul(n, self.x_strides[0])), k.arg(Y)
            for index, stride in zip((n, d, h), self.y_strides, strict=False):
                y = k.shift(y, k.mul(index, stride))
            unrolled = math.prod(self.taps) <= _UNROLLED
            rows = self._rows(k, x, d, h) if unrolled else []
            first = k.mul(block, self.block)
            with k.loop(k.min(k.add(first, self.block), self.sizes[2]), start=first) as w:
                pixel = k.shift(y, k.mul(w, self.y_strides[3]))
                if unrolled:
                    self._unrolled(k, rows, pixel, w)
                else:
                    self._looped(k, x, pixel, (d, h, w))
        return k.finish()

    def _tap(self, k: Kernel, axis: int, tap: Index, at: Index) -> tuple[Index, Value | None]:
        """Input position and weight of one tap; no weight where it is one."""
        start = sum(t * size for t, size in zip(self.taps[:axis], self.sizes[:axis], strict=True))
        place = k.add(k.add(k.mul(tap, self.sizes[axis]), start), at)
        weight = None if self.unit[axis] else k.load_scalar(k.arg(WEIGHT), place)
        return k.lookup(k.arg(INDEX), place), weight

    def _rows(self, k: Kernel, x: Pointer, d: Index, h: Index) -> list[tuple[Pointer, Value | None]]:
        """Address and weight of every input row under one output row."""
        rows = []
        for td, th in itertools.product(range(self.taps[0]), range(self.taps[1])):
            (iz, wz), (iy, wy) = self._tap(k, 0, td, d), self._tap(k, 1, th, h)
            row = k.shift(x, k.add(k.mul(iz, self.x_strides[1]), k.mul(iy, self.x_strides[2])))
            rows.append((row, _product(k, wz, wy)))
        return rows

    def _unrolled(self, k: Kernel, rows: list[tuple[Pointer, Value | None]], y: Pointer, w: Index) -> None:
        columns = [self._tap(k, 2, tw, w) for tw in range(self.taps[2])]
        pixels = []
        for (row, outer), (ix, inner) in itertools.product(rows, columns):
            weight = _product(k, outer, inner)
            pixels.append((k.shift(row, k.mul(ix, self.x_strides[3])), None if weight is None else k.spread(weight)))

        def body(c: Index, vectors: int, tail: int | None) -> None:
            for v in range(vectors):
                count, at = tail if v == vectors - 1 else None, k.add(c, v * self.lanes)
                total: Value | None = None
                for pixel, weight in pixels:
                    value = k.load(pixel, at, count=None if self.readable else count)
                    total = _accumulate(k, total, value, weight)
                assert total is not None, "a window has taps"
                k.store(total, y, at, count=None if self.tail else count)

        group = 2 if len(pixels) > 1 else 4
        emit_vectors(k, self.channels, body, group=group, masked=not (self.readable and self.tail))

    def _looped(self, k: Kernel, x: Pointer, y: Pointer, at: tuple[Index, Index, Index]) -> None:
        def body(c: Index, vectors: int, tail: int | None) -> None:
            acc = [k.variable(k.vector_type(), k.splat(0.0)) for _ in range(vectors)]
            with k.loop(self.taps[0]) as td, k.loop(self.taps[1]) as th:
                (iz, wz), (iy, wy) = self._tap(k, 0, td, at[0]), self._tap(k, 1, th, at[1])
                row = k.shift(x, k.add(k.mul(iz, self.x_strides[1]), k.mul(iy, self.x_strides[2])))
                outer = _product(k, wz, wy)
                with k.loop(self.taps[2]) as tw:
                    ix, wx = self._tap(k, 2, tw, at[2])
                    pixel = k.shift(row, k.add(k.mul(ix, self.x_strides[3]), c))
                    weight = _product(k, outer, wx)
                    spread = None if weight is None else k.spread(weight)
                    for v, slot in enumerate(acc):
                        count = tail if v == vectors - 1 and not self.readable else None
                        value = k.load(pixel, v * self.lanes, count=count)
                        k.set(slot, _accumulate(k, k.get(slot), value, spread))
            for v, slot in enumerate(acc):
                count = tail if v == vectors - 1 and not self.tail else None
                k.store(k.get(slot), y, k.add(c, v * self.lanes), count=count)

        emit_vectors(k, self.channels, body, group=4, masked=not (self.readable and self.tail))


def _product(k: Kernel, a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None:
        return b if a is None else a
    return k.b.fmul(a, b)


def _accumulate(k: Kernel, total: Value | None, value: Value, weight: Value | None) -> Value:
    """``total + value * weight``; nothing is zero, no weight is one."""
    if total is None:
        return value if weight is None else k.b.fmul(value, weight)
    return k.b.fadd(total, value) if weight is None else k.fma(value, weight, total)


def pack_tables(tables: tuple[npt.NDArray[Any], ...], missing: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Indices or weights along depth, height and width, one after the other, taps outermost; those of a missing axis
    are given.
    """
    before = [np.full(1, missing, dtype)] * (3 - len(tables))
    return np.concatenate([*before, *(each.reshape(-1) for each in tables)])


def _ask_unit(weight: Array | Later) -> bool:
    """Whether all weights are one."""
    return weight.ask(_is_unit) if isinstance(weight, Later) else _is_unit(weight)


def _is_unit(weight: Array) -> bool:
    return bool(np.all(weight == 1.0))


def lower_resize(planner: Planner, step: ResizeStep) -> None:
    """Separable resampling."""
    x = as_channels_last(planner, step.x)
    y = planner.produce(step.y)
    recipe = Interpolation.of(step, x.layout, y.layout, planner.target.lanes)
    size = sum(taps * length for taps, length in zip(recipe.taps, recipe.sizes, strict=True))
    tables = [
        planner.index(size, partial(pack_tables, step.index, 0, np.int64)),
        planner.constant(size, partial(pack_tables, step.weight, 1, np.float32)),
    ]
    planner.call(recipe, [x.ref, y.ref, *tables], "resize")
