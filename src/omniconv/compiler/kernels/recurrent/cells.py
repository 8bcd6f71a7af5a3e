"""The cells of recurrent layers on the machine: from the sums of the gates to the new state, in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniconv.compiler.emit.arithmetic import emit_clamp
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_activation
from omniconv.compiler.emit.machine import Value
from omniconv.spec import Activation

Peephole = Callable[[int], Value] | None
"""Weights from a cell to its gate of that number."""


class Gates:
    """The functions of a cell, applied to sums within a bound."""

    def __init__(self, k: Kernel, functions: Sequence[Activation], clip: float | None) -> None:
        self.k, self.functions, self.clip = k, functions, clip

    def open(self, number: int, total: Value) -> Value:
        """Function ``number`` of a sum."""
        if self.clip is not None:
            total = emit_clamp(self.k, total, -self.clip, self.clip)
        return emit_activation(self.k, total, self.functions[number])

    def update_lstm(
        self, sums: dict[int, Value], cell: Value, peephole: Peephole, *, coupled: bool
    ) -> tuple[Value, Value]:
        """The new hidden state and the new cell, from the sums of the gates i o f g."""
        k = self.k

        def seen(gate: int, cell: Value) -> Value:
            return sums[gate] if peephole is None else k.fma(peephole(gate), cell, sums[gate])

        taken = self.open(0, seen(0, cell))
        kept = k.b.fsub(k.splat(1.0), taken) if coupled else self.open(0, seen(2, cell))
        cell = k.fma(kept, cell, k.b.fmul(taken, self.open(1, sums[3])))
        shown = emit_activation(k, cell, self.functions[2])
        return k.b.fmul(self.open(0, seen(1, cell)), shown), cell

    def blend(self, update: Value, candidate: Value, before: Value) -> Value:
        """The new state of a GRU: ``(1 - z) n + z h``."""
        k = self.k
        return k.fma(update, before, k.b.fmul(k.b.fsub(k.splat(1.0), update), candidate))
