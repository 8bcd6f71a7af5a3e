"""The numbers that a normalisation has for each channel."""

from __future__ import annotations

from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Value
from omniconv.compiler.kernels.normalise.walk import Unit
from omniconv.records import dataclass
from omniconv.spec import Activation

GROUP: Final = 16
"""Vectors of channels in a unit: whole lines of memory, several of each position. A gradient takes half the time of one
with two vectors (8x144x24x24: 0.9 and 2.0 ms), although its numbers and sums do not fit the registers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What there is: mean and variance, and with ``affine`` a factor and what is added. What follows them."""

    affine: bool
    epsilon: float
    activation: Activation | None

    @property
    def count(self) -> int:
        """How many a channel has."""
        return 4 if self.affine else 2

    def group(self, least: int) -> int:
        """Vectors of channels in a unit: at least so many where the activation is long code, else :data:`GROUP`."""
        return least if self.activation is not None and self.activation.transcendental else GROUP


def emit_root(k: Kernel, variance: Value, epsilon: float) -> Value:
    """1 / sqrt(variance + epsilon)."""
    root = k.call("sqrt", k.b.fadd(variance, k.splat(epsilon, variance.type)))
    return k.b.fdiv(k.splat(1.0, variance.type), root)


@dataclass(frozen=True, slots=True)
class Channels:
    """The numbers of the channels of a unit: mean, 1 / sqrt(variance + epsilon), that times w, and b."""

    means: list[Value]
    roots: list[Value]
    scales: list[Value]
    shifts: list[Value]

    @classmethod
    def read(cls, k: Kernel, unit: Unit, numbers: Numbers, first: int) -> Channels:
        """Those of a unit; they stand in the arguments from ``first`` on."""
        means = unit.read(k.arg(first))
        roots = [emit_root(k, variance, numbers.epsilon) for variance in unit.read(k.arg(first + 1))]
        if not numbers.affine:
            return cls(means, roots, roots, [])
        factors = unit.read(k.arg(first + 2))
        scales = [k.b.fmul(root, w) for root, w in zip(roots, factors, strict=True)]
        return cls(means, roots, scales, unit.read(k.arg(first + 3)))

    def finish(self, k: Kernel, apart: Value, v: int) -> Value:
        """``(x - m) r w + b`` from ``x - m``."""
        return k.fma(apart, self.scales[v], self.shifts[v]) if self.shifts else k.b.fmul(apart, self.scales[v])
