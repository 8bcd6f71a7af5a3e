"""Means of integers over all positions: exact sums of 32 bits, of several vectors of channels at a time, since a vector
of words alone would read a quarter of a line of the cache, and all lines four times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import (
    clamp_float,
    load_words,
    round_even,
    shift_words,
    store_words,
    sums,
    to_float,
    widen_words,
    words,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.memory.layout import Grid as Sizes
from omniconv.compiler.memory.planner import Planner
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedMeanStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y, FACTOR = range(3)
"""Positions of the buffers in ``args``."""
_MOST = 12
"""Vectors of sums of a unit, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMean:
    """The recipe of one mean.

    Attributes:
        x: sizes and strides.
        y_batch: stride of N [elements].
        levels: of y.
        tail: whether whole vectors may be written past the last channel.
        lanes: of a vector of sums.
    """

    x: Sizes
    y_batch: int
    levels: Levels
    tail: bool
    lanes: int

    @property
    def vectors(self) -> int:
        """Vectors of channels of a unit: as many as make whole units of all channels."""
        count = ceil_div(self.x.c, self.lanes)
        return max(size for size in range(1, _MOST + 1) if count % size == 0)

    @property
    def blocks(self) -> int:
        """Units of an image."""
        return ceil_div(self.x.c, self.lanes * self.vectors)

    @property
    def units(self) -> int:
        """Units of work: a few vectors of channels of an image."""
        return self.x.n * self.blocks

    def opened(self, opener: Opener) -> QuantisedMean:
        """The same kernel for images of any size."""
        depth, height, width = self.x.sizes
        sn, *strides = opener.strides((self.x.sn, *self.x.strides))
        x = self.x._replace(
            n=opener(self.x.n),
            sizes=(opener(depth), opener(height), opener(width)),
            sn=sn,
            strides=(strides[0], strides[1], strides[2]),
        )
        return replace(self, x=x)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        kind = sums(self.lanes)
        ragged = 0 if self.tail else self.x.c % self.lanes
        with k.loop(k.end, start=k.begin) as unit:
            n, block = k.split(unit, self.x.n, self.blocks)
            first = k.mul(block, self.vectors * self.lanes)
            x = shift_words(k, k.arg(X), k.add(k.mul(n, self.x.sn), first))
            y = shift_words(k, k.arg(Y), k.add(k.mul(n, self.y_batch), first))
            totals = [k.variable(kind, k.splat(0, kind)) for _ in range(self.vectors)]
            depth, height, width = self.x.sizes
            with k.loop(depth) as d, k.loop(height) as h, k.loop(width) as w:
                at: Index = 0
                for index, stride in zip((d, h, w), self.x.strides, strict=True):
                    at = k.add(at, k.mul(index, stride))
                for number, total in enumerate(totals):
                    value = widen_words(k, load_words(k, x, k.add(at, number * self.lanes), self.lanes))
                    k.set(total, Value(k.b.add(Bits(k.get(total)), value)))
            *others, final = (self._scale(k, Bits(k.get(total))) for total in totals)
            for number, value in enumerate(others):
                store_words(k, value, y, number * self.lanes)
            last = k.compare("==", block, self.blocks - 1) if ragged else False

            def store(end: bool, y: Pointer = y, final: Bits = final) -> None:
                store_words(k, final, y, len(others) * self.lanes, ragged if end else None)

            k.both_ways(last, store)
        return k.finish()

    def _scale(self, k: Kernel, total: Bits) -> Bits:
        """A vector of sums as words."""
        mean = k.b.fmul(to_float(k, total), k.load_splat(k.arg(FACTOR)))
        found = round_even(k, clamp_float(k, mean, self.levels.low, self.levels.high))
        return k.b.trunc(found, words(self.lanes))


def lower_quantised_mean(planner: Planner, step: QuantisedMeanStep) -> None:
    """The mean of a quantised value."""
    x, y = as_channels_last(planner, step.x), planner.produce(step.y)
    recipe = QuantisedMean(
        x=x.layout.grid,
        y_batch=y.layout.strides[0],
        levels=step.levels,
        tail=y.layout.tail,
        lanes=planner.target.lanes,
    )
    factor = planner.constant(1, lambda: np.array([step.factor], np.float32))
    planner.call(recipe, [x.ref, y.ref, factor], "reduce")
