r"""The recurrent kernel: some times of a recurrent layer in one call, or a part of the units at one time.

.. math:: s_{t, g} = x_{t, g} + \sum_k w_{g, k} h_{t-1, k}

The products of some vectors of sums, for some sequences, are added up in registers, unit after unit of the state
before; weights lie in the order in which they are read. When all gates of a block of units are there, they are opened,
and the new state is stored once, in the result, where the next time reads it. The cell of an LSTM stays in its place. A
GRU whose reset gate comes before the product goes through the units twice. Where states are rounded, those before are
copied so at each time, by each unit of work for itself.

Every sum is one chain, first unit to last, whatever the tile: results depend on neither tiles nor threads.
"""

from __future__ import annotations

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.emit.vectors import count_groups, emit_vectors
from omniconv.compiler.kernels.recurrent.cells import Gates
from omniconv.compiler.kernels.recurrent.products import Products
from omniconv.compiler.kernels.recurrent.rounding import emit_rounded
from omniconv.compiler.kernels.recurrent.tiles import RecurrentTile
from omniconv.program.steps import Array
from omniconv.program.steps.recurrent import GATES
from omniconv.records import dataclass
from omniconv.spec import Activation
from omniconv.target.model import Target

X, Y, C, W, B, P, LENGTHS, TEMP, SCALE = range(9)
"""Positions of the buffers in ``args``: X and Y at the first time, C the cells, LENGTHS a table, TEMP for each
thread, SCALE of products."""

Strides = tuple[int, int, int]
"""Of times, sequences and directions [elements]."""


@dataclass(frozen=True, slots=True)
class GateGroup:
    """Gates whose sums are added up together."""

    gates: tuple[int, ...]
    tile: RecurrentTile


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """The recipe: everything its code depends on.

    Attributes:
        cell, functions, clip, coupled, rounded: as in :class:`omniconv.program.steps.RecurrentStep`, for all
            directions.
        biased, peepholes, scaled: whether there are b, p and scales.
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
    phases: tuple[GateGroup, ...]
    chunk: int
    parts: int
    lanes: int
    rounded: bool = False
    scaled: bool = False

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
        """What a thread keeps: the products of a block and, between two phases, update gates and states behind the
        reset gates, or rounded states [elements].
        """
        kept = 2 if len(self.phases) > 1 else int(self.rounded)
        return self.chunk * (self.block + kept * self.pitch)

    @property
    def block(self) -> int:
        """The products of a block of units, for one sequence [elements]."""
        return self.lanes * max(len(phase.gates) * phase.tile.vectors for phase in self.phases)

    @property
    def panel(self) -> int:
        """Weights of a direction [elements]."""
        return self.pitch * self.hidden * sum(len(phase.gates) for phase in self.phases)

    def pack_weights(self, w: Array) -> Array:
        """Weights of some directions in reading order: phase, block of units, group of vectors of sums, unit before,
        then the group's lanes; zeros in spare lanes.
        """
        parts = []
        for matrix in w.reshape(len(w), GATES[self.cell], self.hidden, self.hidden):
            for phase in self.phases:
                spread = np.zeros((self.hidden, len(phase.gates), self.pitch), w.dtype)
                spread[:, :, : self.hidden] = matrix[list(phase.gates)].transpose(2, 0, 1)
                for first in range(0, self.pitch, width := phase.tile.vectors * self.lanes):
                    block = spread[:, :, first : first + width].reshape(self.hidden, -1)
                    step = phase.tile.wide * self.lanes
                    parts += [block[:, at : at + step].reshape(-1) for at in range(0, block.shape[1], step)]
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
        self.scale = k.shift(k.arg(SCALE), k.mul(direction, len(recipe.phases[0].gates) * recipe.hidden))
        self.products = k.own(TEMP)
        self.kept = k.shift(self.products, recipe.chunk * recipe.block)

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

    def _phase(self, phase: GateGroup, number: int, time: Index, before: Index, place: int) -> None:
        """One phase at one time, for all units or a part of them."""
        k, r = self.k, self.r
        x = k.shift(self.x, k.mul(time, r.x[0]))
        y, h = (k.shift(self.y, k.mul(at, r.y[0])) for at in (time, before))
        # The second phase multiplies the states behind the reset gates.
        source, step = (k.shift(self.kept, r.pitch), 2 * r.pitch) if number else (h, r.y[1])
        if r.rounded:
            emit_rounded(k, h, self.kept, (r.chunk, r.hidden), (r.y[1], r.pitch))
            source, step = self.kept, r.pitch

        def block(c: Index, vectors: int, tail: int | None) -> None:
            weights = k.shift(self.w, k.add(k.mul(c, len(phase.gates) * r.hidden), place))
            Products(k=k, tile=phase.tile, hidden=r.hidden, sequences=r.chunk, step=step, pitch=r.block).emit(
                source, weights, self.products, len(phase.gates) * vectors
            )
            with k.loop(r.chunk) as row:
                opened = _Row(self, phase, number, row, x, y, h, vectors, tail)
                for v in range(vectors):
                    opened.emit(c, v)

        emit_vectors(k, r.hidden, block, group=phase.tile.vectors, part=self.part, parts=r.parts)


class _Row:
    """The gates of one sequence at one time, opened: x, y and h at the first sequence of the unit."""

    def __init__(
        self,
        unit: _Unit,
        phase: GateGroup,
        number: int,
        row: Index,
        x: Pointer,
        y: Pointer,
        h: Pointer,
        vectors: int,
        tail: int | None,
    ) -> None:
        self.u, self.k, self.r, self.phase, self.number = unit, unit.k, unit.r, phase, number
        self.vectors, self.tail = vectors, tail
        k, r = unit.k, unit.r
        own = k.mul(row, r.y[1])
        self.x, self.y, self.h = k.shift(x, k.mul(row, r.x[1])), k.shift(y, own), k.shift(h, own)
        self.c = k.shift(unit.c, own)
        self.products = k.shift(unit.products, k.mul(row, r.block))
        self.kept = k.shift(unit.kept, k.mul(row, 2 * r.pitch))

    def emit(self, c: Index, v: int) -> None:
        """Vector ``v`` of a block that begins at unit ``c``."""
        k, r, gates = self.k, self.r, self.u.gates
        at, count = k.add(c, v * r.lanes), self.tail if v == self.vectors - 1 else None
        sums = {gate: self._sum(gate, index, at, v, count) for index, gate in enumerate(self.phase.gates)}
        if r.cell == "lstm":
            peephole = (lambda gate: k.load(self.u.p, k.add(at, gate * r.hidden), count=count)) if r.peepholes else None
            cell = k.load(self.c, at, count=count)
            state, cell = gates.update_lstm(sums, cell, peephole, coupled=r.coupled)
            k.store(cell, self.c, at, count=count)
        elif r.cell == "rnn":
            state = gates.open(0, sums[0])
        elif self.number == 0 and len(r.phases) > 1:
            before = k.load(self.h, at, count=count)
            k.store(gates.open(0, sums[0]), self.kept, at)
            k.store(k.b.fmul(gates.open(0, sums[1]), before), self.kept, k.add(at, r.pitch))
            return
        else:
            before = k.load(self.h, at, count=count)
            update = k.load(self.kept, at) if self.number else gates.open(0, sums[0])
            candidate = sums[2]
            if not self.number:
                candidate = k.fma(gates.open(0, sums[1]), candidate, self._given(2, at, count))
            state = gates.blend(update, gates.open(1, candidate), before)
        k.store(state, self.y, at, count=count)

    def _given(self, gate: int, at: Index, count: int | None) -> Value:
        """The input's share of a sum."""
        return self.k.load(self.x, self.k.add(at, gate * self.r.hidden), count=count)

    def _sum(self, gate: int, index: int, at: Index, v: int, count: int | None) -> Value:
        """A sum of the gate that is number ``index`` of the phase: the product, and the input's share or b."""
        k = self.k
        product = k.load(self.products, (index * self.vectors + v) * self.r.lanes)
        if self.r.scaled:
            scale = k.load(self.u.scale, k.add(at, gate * self.r.hidden), count=count)
            return k.fma(scale, product, self._given(gate, at, count))
        inner = self.r.biased and gate == 2
        return k.b.fadd(product, k.load(self.u.b, at, count=count) if inner else self._given(gate, at, count))
