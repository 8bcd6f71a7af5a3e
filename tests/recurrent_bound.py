"""How far a recurrent layer in floating point may be from float64, accumulated over its times.

Every number travels with a bound of its error: sums of n terms add ``gamma(n)`` times their magnitude, a function
passes an error on times its steepest slope, a product mixes the errors of its sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from tests.program_oracle import Float64, activate

from omniconv.program.steps import RecurrentStep
from omniconv.spec import Activation

FLUSHED: Final = 1e-28
"""A sigmoid may be 0 below the normal range: the roundings of one of this size cover it."""
FUNCTION_ROUNDINGS: Final = 8
"""Roundings of an elementary function, whose errors emit/elementary32.py states, and of the bound itself."""


@dataclass(frozen=True)
class Near:
    """Numbers, how far they may be off, and the unit roundoff of those who compute them."""

    value: Float64
    error: Float64
    u: float

    def rounded(self, terms: int, magnitude: Float64 | None = None) -> Near:
        size = np.abs(self.value) if magnitude is None else magnitude
        return Near(self.value, self.error + terms * self.u / (1 - terms * self.u) * (size + self.error), self.u)

    def __add__(self, other: Near) -> Near:
        size = np.abs(self.value) + np.abs(other.value)
        return Near(self.value + other.value, self.error + other.error, self.u).rounded(1, size)

    def __mul__(self, other: Near) -> Near:
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        return Near(self.value * other.value, error, self.u).rounded(1)

    def rest(self) -> Near:
        return Near(1 - self.value, self.error, self.u).rounded(1, 1 + np.abs(self.value))

    def add_product(self, w: Float64, h: Near) -> Near:
        """``self + w @ h``, in any order."""
        size = np.abs(self.value) + np.abs(w) @ np.abs(h.value)
        error = self.error + np.abs(w) @ h.error
        return Near(self.value + w @ h.value, error, self.u).rounded(len(h.value) + 2, size + error)

    def apply(self, function: Activation, bound: float | None = None) -> Near:
        value = self.value if bound is None else np.clip(self.value, -bound, bound)
        steep = {"sigmoid": 0.25}.get(function.name, 1.0) * max(1.0, *(abs(p) for _, p in function.parameters), 0.0)
        result = activate(function, value)
        size = np.abs(result) + (1.0 if function.name in ("hard_sigmoid", "elu") else FLUSHED)
        return Near(result, self.error * steep, self.u).rounded(FUNCTION_ROUNDINGS, size)


def bound_recurrence(
    step: RecurrentStep, values: Mapping[str, Float64], errors: Mapping[str, Float64], shape: tuple[int, ...], u: float
) -> tuple[Float64, Float64]:
    """The result, and how far a computation with unit roundoff ``u`` may be from it.

    Args:
        step, values, shape: as for the oracle.
        errors: of the values; what is not there is exact.
        u: unit roundoff.
    """
    total, directions, batch, hidden = shape
    times, y, wrong = total - step.states, np.zeros(shape), np.zeros(shape)

    def read(name: str | None, form: tuple[int, ...]) -> tuple[Float64, Float64]:
        if name is None:
            return np.zeros(form), np.zeros(form)
        return values[name].reshape(form), np.broadcast_to(errors.get(name, 0.0), values[name].shape).reshape(form)

    x, xe = read(step.x, (times, batch, directions, -1, hidden))
    h0, h0e = read(step.h, (directions, batch, hidden))
    c0, c0e = read(step.c, (directions, batch, hidden))
    for d, n in itertools.product(range(directions), range(batch)):
        w = step.w[d].astype(np.float64).reshape(-1, hidden, hidden)
        h, c = Near(h0[d, n], h0e[d, n], u), Near(c0[d, n], c0e[d, n], u)
        length = times if step.lengths is None else step.lengths[n]
        for t in reversed(range(length)) if step.reverse[d] else range(length):
            given = [Near(x[t, n, d, g], xe[t, n, d, g], u) for g in range(len(w))]
            h, c = _run_cell(step, d, given, w, h, c)
            y[t, d, n], wrong[t, d, n] = h.value, h.error
        y[times, d, n], wrong[times, d, n] = h.value, h.error
        if step.states == 2:
            y[times + 1, d, n], wrong[times + 1, d, n] = c.value, c.error
    return y, wrong


def _run_cell(step: RecurrentStep, d: int, x: list[Near], w: Float64, h: Near, c: Near) -> tuple[Near, Near]:
    f, *rest = step.functions[d]
    exact = lambda value: Near(value.astype(np.float64), np.zeros(value.shape), h.u)
    if step.cell == "rnn":
        return x[0].add_product(w[0], h).apply(f, step.clip), c
    if step.cell == "gru":
        z, r = (x[g].add_product(w[g], h).apply(f, step.clip) for g in (0, 1))
        if step.b is None:
            n = x[2].add_product(w[2], r * h)
        else:
            n = x[2] + r * exact(step.b[d]).add_product(w[2], h)
        return z.rest() * n.apply(rest[0], step.clip) + z * h, c
    s = [given.add_product(matrix, h) for given, matrix in zip(x, w, strict=True)]
    p = np.zeros((3, len(h.value))) if step.p is None else step.p[d].reshape(3, -1)
    i = (s[0] + exact(p[0]) * c).apply(f, step.clip)
    kept = i.rest() if step.coupled else (s[2] + exact(p[2]) * c).apply(f, step.clip)
    c = kept * c + i * s[3].apply(rest[0], step.clip)
    return (s[1] + exact(p[1]) * c).apply(f, step.clip) * c.apply(rest[1]), c
