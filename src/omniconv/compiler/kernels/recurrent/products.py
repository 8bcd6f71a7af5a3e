"""The products of a recurrent layer: a block of weights times the states of some sequences, tile by tile."""

from __future__ import annotations

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.kernels.recurrent.tiles import UNROLL, RecurrentTile
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Emission of the products of a block.

    Attributes:
        k: the kernel.
        tile: what is added up side by side.
        hidden: units of a state.
        sequences: how many there are.
        step: from the state of a sequence to that of the next [elements].
        pitch: from the products of a sequence to those of the next [elements].
    """

    k: Kernel
    tile: RecurrentTile
    hidden: int
    sequences: int
    step: int
    pitch: int

    def emit(self, source: Pointer, weights: Pointer, target: Pointer, columns: int) -> None:
        """``columns`` vectors of sums of all sequences, whose states lie at ``source``."""
        k, tile = self.k, self.tile
        groups, narrow = divmod(columns, tile.wide)
        whole, rest = divmod(self.sequences, tile.rows)

        def group(index: Index, wide: int) -> None:
            column = k.mul(index, tile.wide * k.lanes)
            w, out = k.shift(weights, k.mul(column, self.hidden)), k.shift(target, column)
            if whole:
                with k.loop(whole) as number:
                    self._tile(k.mul(number, tile.rows), tile.rows, wide, source, w, out)
            if rest:
                self._tile(whole * tile.rows, rest, wide, source, w, out)

        if groups:
            with k.loop(groups) as index:
                group(index, tile.wide)
        if narrow:
            group(groups, narrow)

    def _tile(self, first: Index, rows: int, wide: int, source: Pointer, weights: Pointer, target: Pointer) -> None:
        """``rows`` sequences from ``first`` on by ``wide`` vectors."""
        k = self.k
        zero = k.splat(0.0)
        sums = [[k.variable(zero.type, zero) for _ in range(wide)] for _ in range(rows)]
        unroll = min(UNROLL, self.hidden)
        rounds, rest = divmod(self.hidden, unroll)
        source, weights = k.anchor(k.shift(source, k.mul(first, self.step))), k.anchor(weights)

        def add(unit: Index, values: list[list[Value]]) -> None:
            line = k.mul(unit, wide * k.lanes)

            def weight(v: int) -> Value:
                return k.load(weights, k.add(line, v * k.lanes))

            def state(row: int) -> Value:
                return k.load_splat(source, k.add(unit, row * self.step))

            # The fewer of both are held in registers, the others come one by one.
            if rows < wide:
                states = [state(row) for row in range(rows)]
                for v in range(wide):
                    w = weight(v)
                    for row in range(rows):
                        values[row][v] = k.fma(states[row], w, values[row][v])
            else:
                held = [weight(v) for v in range(wide)]
                for row in range(rows):
                    h = state(row)
                    for v in range(wide):
                        values[row][v] = k.fma(h, held[v], values[row][v])

        def run(start: Index, number: int) -> None:
            values = [[k.get(slot) for slot in row] for row in sums]
            for u in range(number):
                add(k.add(start, u), values)
            for slots, found in zip(sums, values, strict=True):
                for slot, value in zip(slots, found, strict=True):
                    k.set(slot, value)

        with k.loop(rounds * unroll, step=unroll) as index:
            run(index, unroll)
        if rest:
            run(rounds * unroll, rest)
        for row, slots in enumerate(sums):
            out = k.shift(target, k.mul(k.add(first, row), self.pitch))
            for v, slot in enumerate(slots):
                k.store(k.get(slot), out, v * k.lanes)
