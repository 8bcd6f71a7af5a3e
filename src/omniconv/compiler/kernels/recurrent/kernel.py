r"""The recurrent kernel: some times of a recurrent layer in one call, or a part of the units at one time.

.. math:: s_{t, g} = x_{t, g} + \sum_k w_{g, k} h_{t-1, k}

The sums of all gates of some vectors of units, for some sequences, are added up in registers, unit after unit of the
state before; weights lie in the order in which they are read. The functions of the gates and the update of the state
follow behind, and the new state is stored once, in the result, where the next time reads it. The cell of an LSTM stays
in its place. A GRU whose reset gate comes before the product goes through the units twice.

Every sum is one chain, first unit to last, whatever the tile: results depend on neither tiles nor threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Slot, Value
from omniconv.compiler.emit.vectors import count_groups, emit_vectors
from omniconv.compiler.kernels.recurrent.cells import Gates
from omniconv.compiler.kernels.recurrent.tiles import UNROLL, Tile
from omniconv.program.steps import Array
from omniconv.program.steps.recurrent import GATES
from omniconv.spec import Activation
from omniconv.target.model import Target

X, Y, C, W, B, P, LENGTHS, TEMP = range(8)
"""Positions of the buffers in ``args``: X and Y at the first time, C the cells, LENGTHS a table, TEMP for each
thread."""

Strides = tuple[int, int, int]
"""Of times, sequences and directions [elements]."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Gates whose sums are added up together."""

    gates: tuple[int, ...]
    tile: Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """The recipe: everything its code depends on.

    Attributes:
        cell, functions, clip, coupled: as in :class:`omniconv.program.steps.RecurrentStep`, for all directions.
        biased, peepholes: whether there are b and p.
        times: how many, at most.
        batch: sequences.
        hidden: units.
        reverse: for each direction of the call, whether it runs from the last time to the first.
        ragged: whether sequences end at times of their own.
        x, y: strides; cells lie like one time of y.
        phases: one after another at each time.
        chunk: sequences in a unit of work, a divisor of ``batch``; 1 of a ragged one.
        parts: shares of the hidden units, each a unit of work; 1 where there are several times.
        lanes: of a vector.
    """

    cell: str
    functions: tuple[Activation, ...]
    clip: float | None
    coupled: bool
    biased: bool
    peepholes: bool
    times: int
    batch: int
    hidden: int
    reverse: tuple[bool, ...]
    ragged: bool
    x: Strides
    y: Strides
    phases: tuple[Phase, ...]
    chunk: int
    parts: int
    lanes: int

    @property
    def units(self) -> int:
        """Units of work: some sequences in one direction, or a part of their hidden units."""
        return len(self.reverse) * (self.batch // self.chunk) * self.parts

    @property
    def pitch(self) -> int:
        """Hidden units in whole vectors [elements]."""
        return -(self.hidden // -self.lanes) * self.lanes

    @property
    def most_parts(self) -> int:
        """The finest shares of the hidden units."""
        return count_groups(self.hidden, self.lanes, self.phases[0].tile.vectors)

    @property
    def scratch(self) -> int:
        """What a thread keeps between two phases: update gates and states behind the reset gates [elements]."""
        return 2 * self.chunk * self.pitch if len(self.phases) > 1 else 0

    @property
    def panel(self) -> int:
        """Weights of a direction [elements]."""
        return self.pitch * self.hidden * sum(len(phase.gates) for phase in self.phases)

    def pack_weights(self, w: Array) -> Array:
        """Weights of some directions in reading order: phase, block of vectors, unit before, gate, then the block's
        lanes; zeros in spare lanes.
        """
        parts = []
        for matrix in w.reshape(len(w), GATES[self.cell], self.hidden, self.hidden):
            for phase in self.phases:
                wide = np.zeros((self.hidden, len(phase.gates), self.pitch), w.dtype)
                wide[:, :, : self.hidden] = matrix[list(phase.gates)].transpose(2, 0, 1)
                width = phase.tile.vectors * self.lanes
                parts += [wide[:, :, first : first + width].reshape(-1) for first in range(0, self.pitch, width)]
        return np.concatenate(parts)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:
            direction, chunk, part = k.split(unit, len(self.reverse), self.batch // self.chunk, self.parts)
            _Unit(self, k, direction, k.mul(chunk, self.chunk), part).emit()
        return k.finish()


class _Unit:
    """Emission of one unit: the sequences from ``first`` on in one direction."""

    def __init__(self, recipe: Recurrence, k: Kernel, direction: Index, first: Index, part: Index) -> None:
        self.r, self.k, self.first, self.part = recipe, k, first, part
        self.gates = Gates(k, recipe.functions, recipe.clip)
        self.backwards = recipe.reverse[0] if len(recipe.reverse) == 1 else k.compare("==", direction, 1)
        own = k.add(k.mul(direction, recipe.y[2]), k.mul(first, recipe.y[1]))
        self.x = k.shift(k.arg(X), k.add(k.mul(direction, recipe.x[2]), k.mul(first, recipe.x[1])))
        self.y, self.c = k.shift(k.arg(Y), own), k.shift(k.arg(C), own)
        self.w = k.shift(k.arg(W), k.mul(direction, recipe.panel))
        self.b = k.shift(k.arg(B), k.mul(direction, recipe.hidden))
        self.p = k.shift(k.arg(P), k.mul(direction, 3 * recipe.hidden))

    def emit(self) -> None:
        """All times, then what a ragged sequence leaves."""
        k, r = self.k, self.r
        count: Index = k.lookup(k.arg(LENGTHS), self.first) if r.ragged else r.times
        last = k.sub(count, 1)
        with k.loop(count) as turn:
            time = self._turned(k.sub(last, turn), turn)
            before = self._turned(k.add(time, 1), k.sub(time, 1))
            if r.ragged:  # the state before a reversed sequence lies behind the times of all
                begins = self._turned(r.times, -1)
                before = k.choose(k.compare("==", turn, 0), k.index(begins), k.index(before))
            place = 0
            for number, phase in enumerate(r.phases):
                self._phase(phase, number, time, before, place)
                place += len(phase.gates) * r.pitch * r.hidden
        if r.ragged:
            self._end(count)

    def _turned(self, backwards: Index, forwards: Index) -> Index:
        if isinstance(self.backwards, bool):
            return backwards if self.backwards else forwards
        return self.k.choose(self.backwards, self.k.index(backwards), self.k.index(forwards))

    def _end(self, count: Index) -> None:
        """Zeros behind a sequence, and its last state in its place."""
        k, r = self.k, self.r
        at = k.shift(self.y, k.mul(self._turned(0, k.sub(count, 1)), r.y[0]))

        def keep(c: Index, _: int, tail: int | None) -> None:
            k.store(k.load(at, c, count=tail), self.y, k.add(c, r.times * r.y[0]), count=tail)

        emit_vectors(k, r.hidden, keep)
        with k.loop(r.times, start=count) as time:
            row = k.shift(self.y, k.mul(time, r.y[0]))
            emit_vectors(k, r.hidden, lambda c, _, tail: k.store(k.splat(0.0), row, c, count=tail))

    def _phase(self, phase: Phase, number: int, time: Index, before: Index, place: int) -> None:
        """One phase at one time, for all units or a part of them."""
        k, r = self.k, self.r
        x = k.shift(self.x, k.mul(time, r.x[0]))
        y, h = (k.shift(self.y, k.mul(at, r.y[0])) for at in (time, before))
        rows = phase.tile.rows

        def block(c: Index, vectors: int, tail: int | None) -> None:
            weights = k.shift(self.w, k.add(k.mul(c, len(phase.gates) * r.hidden), place))
            whole, rest = divmod(r.chunk, rows)
            if whole:
                with k.loop(whole) as index:
                    _Tile(self, phase, number, k.mul(index, rows), rows, vectors, tail).emit(x, y, h, weights, c)
            if rest:
                _Tile(self, phase, number, whole * rows, rest, vectors, tail).emit(x, y, h, weights, c)

        emit_vectors(k, r.hidden, block, group=phase.tile.vectors, part=self.part, parts=r.parts)


class _Tile:
    """Emission of one tile: ``rows`` sequences, from ``first`` of the unit on, by some vectors of units."""

    def __init__(
        self, unit: _Unit, phase: Phase, number: int, first: Index, rows: int, vectors: int, tail: int | None
    ) -> None:
        self.u, self.k, self.r = unit, unit.k, unit.r
        self.phase, self.number, self.first, self.rows, self.vectors, self.tail = (
            phase, number, first, rows, vectors, tail
        )  # fmt: skip

    def emit(self, x: Pointer, y: Pointer, h: Pointer, weights: Pointer, c: Index) -> None:
        """Sums, then the gates behind them; x, y and h at this time, ``c`` the first unit."""
        k, r = self.k, self.r
        second = self.number == 1
        room = k.shift(k.arg(TEMP), k.mul(k.thread, r.scratch)) if r.scratch else None
        rows = [k.add(self.first, row) for row in range(self.rows)]
        states = [k.shift(h, k.mul(row, r.y[1])) for row in rows]
        kept = [k.shift(room, k.mul(row, 2 * r.pitch)) for row in rows] if room is not None else []
        sources = [k.shift(pointer, r.pitch) for pointer in kept] if second else states
        inputs = [k.shift(x, k.mul(row, r.x[1])) for row in rows]
        sums = [
            [[self._begin(gate, inputs[row], k.add(c, v * r.lanes), v) for v in range(self.vectors)]
             for gate in self.phase.gates]
            for row in range(self.rows)
        ]  # fmt: skip
        self._multiply(sources, weights, sums)
        for row in range(self.rows):
            own = k.mul(rows[row], r.y[1])
            for v in range(self.vectors):
                at = k.add(c, v * r.lanes)
                count = self._count(v)
                totals = {gate: k.get(sums[row][g][v]) for g, gate in enumerate(self.phase.gates)}
                if r.cell == "lstm":
                    place = k.add(own, at)
                    peephole = (lambda gate, at=at, v=v: self._peephole(gate, at, v)) if r.peepholes else None
                    cell = k.load(self.u.c, place, count=count)
                    state, cell = self.u.gates.update_lstm(totals, cell, peephole, coupled=r.coupled)
                    k.store(cell, self.u.c, place, count=count)
                elif r.cell == "rnn":
                    state = self.u.gates.open(0, totals[0])
                elif len(r.phases) == 1:
                    state = self._gru(totals, inputs[row], states[row], at, count)
                elif not second:
                    before = k.load(states[row], at, count=count)
                    k.store(self.u.gates.open(0, totals[0]), kept[row], at)
                    k.store(k.b.fmul(self.u.gates.open(0, totals[1]), before), kept[row], k.add(at, r.pitch))
                    continue
                else:
                    before, update = k.load(states[row], at, count=count), k.load(kept[row], at)
                    state = self.u.gates.blend(update, self.u.gates.open(1, totals[2]), before)
                k.store(state, y, k.add(own, at), count=count)

    def _count(self, vector: int) -> int | None:
        return self.tail if vector == self.vectors - 1 else None

    def _peephole(self, gate: int, at: Index, vector: int) -> Value:
        return self.k.load(self.u.p, self.k.add(at, gate * self.r.hidden), count=self._count(vector))

    def _gru(self, totals: dict[int, Value], x: Pointer, h: Pointer, at: Index, count: int | None) -> Value:
        """A GRU whose reset gate comes behind the product."""
        k = self.k
        update, reset = (self.u.gates.open(0, totals[gate]) for gate in (0, 1))
        given = k.load(x, k.add(at, 2 * self.r.hidden), count=count)
        candidate = self.u.gates.open(1, k.fma(reset, totals[2], given))
        return self.u.gates.blend(update, candidate, k.load(h, at, count=count))

    def _begin(self, gate: int, x: Pointer, at: Index, vector: int) -> Slot:
        """A sum with what it starts from: the input's share, or b."""
        k, count = self.k, self._count(vector)
        if self.r.biased and gate == 2:
            value = k.load(self.u.b, at, count=count)
        else:
            value = k.load(x, k.add(at, gate * self.r.hidden), count=count)
        return k.variable(value.type, value)

    def _multiply(self, sources: list[Pointer], weights: Pointer, sums: list[list[list[Slot]]]) -> None:
        """Add the products of a block of weights with the states of all rows."""
        k, r = self.k, self.r
        width = len(self.phase.gates) * self.vectors
        unroll = min(UNROLL, r.hidden)
        rounds, rest = divmod(r.hidden, unroll)
        slots = [[slot for gate in row for slot in gate] for row in sums]
        weights = k.anchor(weights)
        sources = [k.anchor(source) for source in sources]

        def step(first: Index, number: int) -> None:
            values = [[k.get(slot) for slot in row] for row in slots]
            for u in range(number):
                unit = k.add(first, u)
                line = k.mul(unit, width * r.lanes)
                w = [k.load(weights, k.add(line, v * r.lanes)) for v in range(width)]
                for row, source in enumerate(sources):
                    h = k.load_splat(source, unit)
                    for v in range(width):
                        values[row][v] = k.fma(h, w[v], values[row][v])
            for row, found in zip(slots, values, strict=True):
                for slot, value in zip(row, found, strict=True):
                    k.set(slot, value)

        with k.loop(rounds * unroll, step=unroll) as index:
            step(index, unroll)
        if rest:
            step(rounds * unroll, rest)
