"""Tables of quantised values: each integer becomes the entry that it is the number of."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import I16, I64, Kernel
from omniconv.compiler.emit.integers import load_words, shift_words, spread_word, store_words, words
from omniconv.compiler.emit.lookup import emit_lookup
from omniconv.compiler.emit.machine import Bits, Index, Pointer, Value
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.mapping import Map, X, Y, by_runs, find_order
from omniconv.compiler.kernels.quantised.ramp import emit_ramp, find_ramp, load_ramp
from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major
from omniconv.compiler.lowering.posts import find_runs
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Buffer, BufferRef
from omniconv.open_size import Opener
from omniconv.program.steps import QuantisedTableStep
from omniconv.program.steps.quantised_table import ENTRIES
from omniconv.records import dataclass
from omniconv.target.model import Target

TABLE = 2
"""Position of the table in ``args``."""
HEAD = 8
"""Words before its entries: 16 bytes, of which four are used."""
_GROUP = 4
"""Vectors of sums whose numbers of words make a vector of bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTable:
    """The recipe of one kernel.

    Attributes:
        walk: positions and strides.
        by: what gives entries: a formula (see `Ramp`), a choice among bytes for a vector at a time, or one word after
            the other.
    """

    walk: Map
    by: Literal["ramp", "bytes", "words"]

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.units

    def opened(self, opener: Opener) -> QuantisedTable:
        """The same kernel for values of any size."""
        return replace(self, walk=self.walk.opened(opener))

    def shared(self, opener: Opener) -> QuantisedTable:
        """The same kernel for any sizes."""
        return replace(self, walk=self.walk.shared(opener))

    def pack(self, first: int, low: int, table: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """The table as the kernel reads it: :data:`HEAD` words, then an entry for each byte, from that of ``first`` on.

        Bytes are entries without ``low``, the least that there may be. The first word makes of two integers, one of
        them in the upper half, the numbers of their entries.
        """
        padded = np.pad(table, (0, ENTRIES - len(table)), mode="edge").astype(np.int16)
        entries = (padded - low).astype(np.uint8).view(np.int16) if self.by == "bytes" else padded
        shift = np.array(-257 * first if self.by == "bytes" else -first).astype(np.int16)
        return np.concatenate([np.array([shift, low], np.int16), np.zeros(HEAD - 2, np.int16), entries])

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        ramp = load_ramp(k, k.arg(TABLE), 2 * self.walk.lanes) if self.by == "ramp" else []
        self.walk.emit_positions(k, lambda at, part: self._pixel(k, at, part, ramp))
        return k.finish()

    def _pixel(self, k: Kernel, at: tuple[Index, Index, Index, Index], part: Index, ramp: list[Bits]) -> None:
        walk, lanes = self.walk, self.walk.lanes
        x, y = (_at(k, k.arg(place), strides, at) for place, strides in ((X, walk.x_strides), (Y, walk.y_strides)))

        def body(c: Index, vectors: int, tail: int | None) -> None:
            count = vectors * lanes if tail is None else (vectors - 1) * lanes + tail
            here, there = shift_words(k, x, c), shift_words(k, y, c)
            if self.by == "ramp":
                self._ramp(k, here, there, count, ramp)
            elif self.by == "bytes":
                self._vectors(k, here, there, count)
            else:
                for lane in range(count):
                    self._word(k, here, there, lane)

        emit_vectors(k, walk.sizes[1], body, group=_GROUP, part=part, parts=walk.parts)

    def _vectors(self, k: Kernel, x: Pointer, y: Pointer, count: int) -> None:
        """Up to two vectors of words, which make one of bytes: one in the lower halves, and one in the upper ones."""
        size = 2 * self.walk.lanes
        kind = words(size)
        shift, low = (spread_word(k, k.arg(TABLE), place, size) for place in range(2))
        places = [place for place in (0, size) if place < count]
        pair = [load_words(k, x, place, size) for place in places]
        upper = k.b.shl(pair[-1], Bits(k.splat(8, kind)))
        found = emit_lookup(k, shift_words(k, k.arg(TABLE), HEAD), k.b.add(k.b.add(pair[0], upper), shift))
        halves = k.b.and_(found, Bits(k.splat(255, kind))), k.b.lshr(found, Bits(k.splat(8, kind)))
        for place, half in zip(places, halves, strict=False):
            store_words(k, k.b.add(half, low), y, place, min(size, count - place))

    def _ramp(self, k: Kernel, x: Pointer, y: Pointer, count: int, ramp: list[Bits]) -> None:
        """Vectors of words, each by itself."""
        size = 2 * self.walk.lanes
        for place in range(0, count, size):
            found = emit_ramp(k, ramp, load_words(k, x, place, size))
            store_words(k, found, y, place, min(size, count - place))

    def _word(self, k: Kernel, x: Pointer, y: Pointer, lane: int) -> None:
        """One word."""
        shift, value = (k.b.sext(Bits(k.b.load(word, I16, 2)), I64) for word in (k.arg(TABLE), shift_words(k, x, lane)))
        entry = k.add(k.add(shift, value), HEAD)
        found = Value(k.b.load(shift_words(k, k.arg(TABLE), entry), I16, 2))
        k.b.store(found, shift_words(k, y, lane), 2)


def _at(k: Kernel, pointer: Pointer, strides: tuple[int, ...], at: tuple[Index, Index, Index, Index]) -> Pointer:
    offset: Index = 0
    for index, stride in zip(at, (strides[0], *strides[2:]), strict=True):
        offset = k.add(offset, k.mul(index, stride))
    return shift_words(k, pointer, offset)


def lower_quantised_table(planner: Planner, step: QuantisedTableStep) -> None:
    """A table, channels last or row major, as its input is."""
    shape, target = planner.shape(step.y), planner.target
    if 2 <= len(shape) <= 5 and find_order(planner, step):
        x = as_channels_last(planner, step.x, len(shape))
        y = planner.produce_over(step.y, step.x, x)
        walk = Map.of(x.layout, y.layout, (), target.lanes)
    else:
        runs = find_runs(shape, [shape])
        x, y = as_row_major(planner, step.x), planner.produce(step.y, plain=True)
        walk = Map.of(by_runs(x.layout, shape, runs), by_runs(y.layout, shape, runs), (), target.lanes)
    ramp = find_ramp(step.x_levels, step.table, step.levels) if target.traits.words.scaled else None
    if ramp is not None:
        recipe, how = QuantisedTable(walk=walk, by="ramp"), "a formula that gives all entries"
        table = np.array(ramp, np.int16)
    else:
        recipe, how = QuantisedTable(walk=walk, by="bytes" if target.traits.words.lookup else "words"), ""
        table = recipe.pack(step.x_levels.low, step.levels.low, step.table)
    planner.buffers.append(Buffer("constant", table.nbytes, make=lambda: table))
    planner.call(recipe, [x.ref, y.ref, BufferRef(len(planner.buffers) - 1)], "table", how=how)
