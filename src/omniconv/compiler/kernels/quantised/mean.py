"""Means of integers over all positions: a vector of channels at a time, exact sums of 32 bits."""

from __future__ import annotations

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
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedMeanStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y = range(2)
"""Positions of the buffers in ``args``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedMean:
    """The recipe of one mean.

    Attributes:
        x: sizes and strides.
        y_batch: stride of N [elements].
        factor: of the sum.
        levels: of y.
        tail: whether whole vectors may be written past the last channel.
        lanes: of a vector of sums.
    """

    x: Sizes
    y_batch: int
    factor: float
    levels: Levels
    tail: bool
    lanes: int

    @property
    def blocks(self) -> int:
        """Vectors of channels."""
        return ceil_div(self.x.c, self.lanes)

    @property
    def units(self) -> int:
        """Units of work: vectors of channels of an image."""
        return self.x.n * self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        kind = sums(self.lanes)
        ragged = 0 if self.tail else self.x.c % self.lanes
        with k.loop(k.end, start=k.begin) as unit:
            n, block = k.split(unit, self.x.n, self.blocks)
            first = k.mul(block, self.lanes)
            x = shift_words(k, k.arg(X), k.add(k.mul(n, self.x.sn), first))
            y = shift_words(k, k.arg(Y), k.add(k.mul(n, self.y_batch), first))
            total = k.variable(kind, k.splat(0, kind))
            depth, height, width = self.x.sizes
            with k.loop(depth) as d, k.loop(height) as h, k.loop(width) as w:
                at: Index = 0
                for index, stride in zip((d, h, w), self.x.strides, strict=True):
                    at = k.add(at, k.mul(index, stride))
                value = widen_words(k, load_words(k, x, at, self.lanes))
                k.set(total, Value(k.b.add(Bits(k.get(total)), value)))
            mean = k.b.fmul(to_float(k, Bits(k.get(total))), k.splat(self.factor))
            found = round_even(k, clamp_float(k, mean, self.levels.low, self.levels.high))
            result = k.b.trunc(found, words(self.lanes))
            last = k.compare("==", block, self.blocks - 1) if ragged else False

            def store(end: bool, y: Pointer = y, result: Bits = result) -> None:
                store_words(k, result, y, 0, ragged if end else None)

            k.both_ways(last, store)
        return k.finish()


def lower_quantised_mean(planner: Planner, step: QuantisedMeanStep) -> None:
    """The mean of a quantised value."""
    x, y = as_channels_last(planner, step.x), planner.produce(step.y)
    recipe = QuantisedMean(
        x=x.layout.grid,
        y_batch=y.layout.strides[0],
        factor=step.factor,
        levels=step.levels,
        tail=y.layout.tail,
        lanes=planner.target.lanes,
    )
    planner.call(recipe, [x.ref, y.ref], "reduce")
