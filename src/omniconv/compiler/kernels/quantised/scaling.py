r"""Quantised values times one quantised number for each channel, as in squeeze-and-excitation: one multiplication each.

Numbers of two values that are multiplied, divided by a scale and rounded take four roundings of float32,

.. math:: y = \mathrm{clamp}(\mathrm{round}(((x s_x) (f s_f)) / s))

but for one f they are 256 integers at most, one for each x. Nearly always some float32 number m has
:math:`\mathrm{round}(x m)` equal to all of them. It is looked for among those that no x excludes and tried with all x
when the layer is planned (:func:`find_factors`); the kernel then reads the m of each channel's f, once for many
positions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import I16, I64, Kernel
from omniconv.compiler.emit.integers import (
    clamp,
    load_words,
    pack_words,
    packed_order,
    raise_packed,
    round_even,
    shift_words,
    store_words,
    to_float,
)
from omniconv.compiler.emit.machine import Bits, Index, Pointer
from omniconv.compiler.kernels.mapping import Map
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedMapStep
from omniconv.records import dataclass
from omniconv.target.model import Target

X, Y, FACTORS, TABLE, ROOM = range(5)
"""Positions of the buffers in ``args``."""
RAISED = np.float32(2**16)
"""How much larger words are when they are multiplied."""
_BLOCK, _LEAST = 2**13, 16
"""Numbers of a unit, about; and positions, at least: they share the factors that are read for it."""
_UNROLL = 4
"""Vectors of words in a turn of the inner loop, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedScaling:
    """The recipe of one kernel.

    Attributes:
        images, channels, positions: sizes; positions are a single axis.
        x_strides, y_strides: of images and positions [words]; channels are neighbours.
        batch: distance of the factors of two images, 0 where they share them [words].
        least: the least integer of the factors.
        levels: of y.
        tail: whether whole vectors may be written past the last channel.
        lanes: of a vector of sums.
    """

    images: int
    channels: int
    positions: int
    x_strides: tuple[int, int]
    y_strides: tuple[int, int]
    batch: int
    least: int
    levels: tuple[int, int]
    tail: bool
    lanes: int

    @property
    def size(self) -> int:
        """Words of a vector."""
        return 2 * self.lanes

    @property
    def room(self) -> int:
        """Factors of a unit, in the memory of a thread [numbers]."""
        return ceil_div(self.channels, self.size) * self.size

    @property
    def block(self) -> int:
        """Positions of a unit."""
        return max(_LEAST, _BLOCK // self.channels)

    @property
    def blocks(self) -> int:
        """Units of an image."""
        return ceil_div(self.positions, self.block)

    @property
    def units(self) -> int:
        """Units of work: neighbouring positions of an image."""
        return self.images * self.blocks

    def opened(self, opener: Opener) -> QuantisedScaling:
        """The same kernel for images of any size."""
        return replace(
            self,
            images=opener(self.images),
            positions=opener.any(self.positions),
            x_strides=(opener(self.x_strides[0]), self.x_strides[1]),
            y_strides=(opener(self.y_strides[0]), self.y_strides[1]),
        )

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        whole, rest = divmod(self.channels, self.size)
        unroll = next(count for count in range(_UNROLL, 0, -1) if whole % count == 0)
        with k.loop(k.end, start=k.begin) as unit:
            n, block = k.split(unit, self.images, self.blocks)
            room = k.own(ROOM)
            factors = shift_words(k, k.arg(FACTORS), k.mul(n, self.batch))
            with k.loop(whole) as number:
                self._look_up(k, factors, room, k.mul(number, self.size), self.size)
            if rest:
                self._look_up(k, factors, room, whole * self.size, rest)
            x, y = (
                shift_words(k, k.arg(at), k.mul(n, strides[0]))
                for at, strides in ((X, self.x_strides), (Y, self.y_strides))
            )
            first = k.mul(block, self.block)
            with k.loop(k.min(k.add(first, self.block), self.positions), start=first) as position:
                here, there = (
                    shift_words(k, pointer, k.mul(position, strides[1]))
                    for pointer, strides in ((x, self.x_strides), (y, self.y_strides))
                )
                with k.loop(whole // unroll) as turn:
                    for number in range(unroll):
                        channel = k.mul(k.add(k.mul(turn, unroll), number), self.size)
                        self._scale(k, here, there, room, channel, None)
                if rest:
                    self._scale(k, here, there, room, whole * self.size, None if self.tail else rest)
        return k.finish()

    def _look_up(self, k: Kernel, factors: Pointer, room: Pointer, channel: Index, count: int) -> None:
        """The numbers of some channels, in packed order."""
        order = [place for half in packed_order(self.lanes) for place in half]
        for number, place in enumerate(order):
            if place < count:
                word = shift_words(k, factors, k.add(channel, place))
                integer = k.b.sext(Bits(k.b.load(word, I16, 2)), I64)
                found = k.load_scalar(k.arg(TABLE), k.add(integer, -self.least))
                k.b.store(found, k.shift(room, k.add(channel, number)), 4)

    def _scale(self, k: Kernel, x: Pointer, y: Pointer, room: Pointer, channel: Index, count: int | None) -> None:
        """A vector of words. Values may be read a vector past their ends."""
        halves = raise_packed(k, load_words(k, x, channel, self.size))
        scaled = [
            k.b.fmul(to_float(k, half), k.load(room, k.add(channel, number * self.lanes), lanes=self.lanes))
            for number, half in enumerate(halves)
        ]
        found = pack_words(k, *(round_even(k, value) for value in scaled))
        store_words(k, clamp(k, found, *self.levels), y, channel, count)


def find_factors(x: Levels, factors: Levels, y: Levels) -> npt.NDArray[np.float32] | None:
    """For each integer f of the factors a number m, divided by ``2 ** 16``, with ``clamp(round(x m))`` equal to what is
    asked of all x; ``None`` where there is none for some f, or where numbers are beyond 16 bits.

    What is asked of an x allows an interval of m: from half a step below to half a step above the integer, divided by
    x, without end where that is a limit. The middle of what all of them allow is tried.
    """
    xs = np.arange(x.low, x.high + 1)
    fs = np.arange(factors.low, factors.high + 1)
    numbers = xs.astype(np.float32)[None] * np.float32(x.scale)
    others = fs.astype(np.float32)[:, None] * np.float32(factors.scale)
    with np.errstate(over="ignore"):
        exact = np.rint(numbers * others / np.float32(y.scale))
    if not np.abs(exact).max(initial=0) < 2**15:
        return None
    asked = np.clip(exact, y.low, y.high)
    used, wanted = xs[xs != 0].astype(np.float64), asked[:, xs != 0].astype(np.float64)
    ends = [
        np.where(wanted == limit, sign * np.inf, wanted + sign * 0.5) / used
        for sign, limit in ((-1, y.low), (1, y.high))
    ]
    low, high = np.minimum(*ends).max(1, initial=-np.inf), np.maximum(*ends).min(1, initial=np.inf)
    low, high = np.where(np.isinf(low), high, low), np.where(np.isinf(high), low, high)
    middle = np.where(np.isfinite(low), (low + high) / 2, 0).astype(np.float32) / RAISED
    found = np.rint((RAISED * xs).astype(np.float32) * middle[:, None])
    fits = np.abs(found).max(initial=0) < 2**15 and np.array_equal(np.clip(found, y.low, y.high), asked)
    return middle if fits else None


def lower_quantised_scaling(planner: Planner, step: QuantisedMapStep, walk: Map, refs: tuple[BufferRef, ...]) -> bool:
    """Whether a step is such a product, and lowered as one; ``walk`` are its positions and strides."""
    if len(step.post) != 1 or step.levels is None or step.x_scale is None or None in step.scales:
        return False
    (post,) = walk.posts
    if post.op != "mul" or post.operand is None or walk.run or walk.parts > 1 or walk.sizes[2:4] != (1, 1):
        return False
    batch, channel, *others = post.operand.strides
    if (walk.x_strides[1], channel, *others) != (1, 1, 0, 0, 0):
        return False
    levels = {each.y: getattr(each, "levels", None) for each in planner.program.steps if each.y in step.reads}
    known, factors = levels.get(step.x), levels.get(str(step.post[0].operand))
    if known is None or factors is None:
        return False
    # Numbers are read with the scale of the step, which need not be the one that they were made with.
    scale = step.scales[0]
    assert scale is not None
    table = find_factors(replace(known, scale=step.x_scale), replace(factors, scale=scale), step.levels)
    if table is None:
        return False
    recipe = QuantisedScaling(
        images=walk.sizes[0],
        channels=walk.sizes[1],
        positions=walk.sizes[4],
        x_strides=(walk.x_strides[0], walk.x_strides[4]),
        y_strides=(walk.y_strides[0], walk.y_strides[4]),
        batch=batch,
        least=factors.low,
        levels=(step.levels.low, step.levels.high),
        tail=walk.tail,
        lanes=walk.lanes,
    )
    planner.buffers.append(Buffer("constant", table.nbytes, make=lambda: table))
    places = BufferRef(len(planner.buffers) - 1), planner.thread_memory(recipe.room)
    planner.call(recipe, [*refs, *places], "map", how="one factor for each integer of the second value")
    return True
