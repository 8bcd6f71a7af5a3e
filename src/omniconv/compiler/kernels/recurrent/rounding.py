"""States rounded to 256 levels of their range; see :class:`omniconv.program.steps.RecurrentStep`."""

from __future__ import annotations

from functools import partial

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors, largest, smallest

LEVELS = 255.0
"""Steps between the least and the largest."""


def emit_rounded(k: Kernel, source: Pointer, target: Pointer, shape: tuple[int, int], steps: tuple[int, int]) -> None:
    """Copy states, rounded.

    Args:
        k: the kernel.
        source, target: the first state, and where it goes, in whole vectors.
        shape: sequences and units.
        steps: from one sequence to the next, in ``source`` and in ``target`` [elements].
    """
    sequences, hidden = shape
    zero, one = k.splat(0.0), k.splat(1.0)
    low, high = k.variable(zero.type, zero), k.variable(zero.type, zero)
    with k.loop(sequences) as row:
        states = k.shift(source, k.mul(row, steps[0]))

        def widen(at: Index, _: int, tail: int | None) -> None:
            state = k.load(states, at, count=tail)
            k.set(low, smallest(k, k.get(low), state))
            k.set(high, largest(k, k.get(high), state))

        emit_vectors(k, hidden, widen)
    least = k.spread(emit_fold(k, partial(smallest, k), k.get(low)))
    most = k.spread(emit_fold(k, partial(largest, k), k.get(high)))
    width = k.b.fdiv(k.b.fsub(most, least), k.splat(LEVELS))
    width = k.b.select(k.b.fcmp_ordered(">", width, zero), width, one)
    bottom = k.call("roundeven", k.b.fdiv(least, width))
    top = k.b.fadd(k.splat(LEVELS), bottom)
    with k.loop(sequences) as row:
        states, rounded = k.shift(source, k.mul(row, steps[0])), k.shift(target, k.mul(row, steps[1]))

        def copy(at: Index, _: int, tail: int | None) -> None:
            level = k.call("roundeven", k.b.fdiv(k.load(states, at, count=tail), width))
            level = largest(k, smallest(k, level, top), bottom)
            k.store(k.b.fmul(level, width), rounded, at)

        emit_vectors(k, hidden, copy)
