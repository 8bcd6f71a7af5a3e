"""Normalised values, and the gradient of what they were made of: each element by itself."""

from __future__ import annotations

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_activation
from omniconv.compiler.emit.machine import Value
from omniconv.compiler.emit.slopes import emit_pullback
from omniconv.compiler.kernels.normalise.channels import Channels, Numbers
from omniconv.compiler.kernels.normalise.walk import Spot, Unit, Walk, emit_units
from omniconv.records import dataclass
from omniconv.target.model import Target

X, DY = range(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalise:
    """``y = f((x - m) r w + b)``: the arguments are x, the numbers of the channels, and y."""

    walk: Walk
    numbers: Numbers

    @property
    def group(self) -> int:
        """Vectors of channels in a unit."""
        return self.numbers.group(least=1)

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.count_units(self.group)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)

        def work(unit: Unit) -> None:
            channels = Channels.read(k, unit, self.numbers, X + 1)

            def visit(_: int, v: int, place: Spot) -> None:
                value = channels.finish(k, k.b.fsub(place.load(X), channels.means[v]), v)
                if self.numbers.activation is not None:
                    value = emit_activation(k, value, self.numbers.activation)
                place.store(value, 1, X + 1 + self.numbers.count)

            unit.each(visit)

        emit_units(k, self.walk, self.group, 1 if self.group == 1 else 8, work)
        return k.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseGradient:
    """``dx = w r (g - db / n - (x - m) r dw / n)``: the arguments are x, dy, the numbers of the channels, the sums
    where there are some, and dx.

    Attributes:
        walk, numbers: see there.
        sums: distance between the two sums [elements], db and dw; 0 where moments were given: then ``dx = w r g``.
    """

    walk: Walk
    numbers: Numbers
    sums: int

    @property
    def group(self) -> int:
        """Vectors of channels in a unit."""
        return self.numbers.group(least=1)

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.count_units(self.group)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        behind = DY + 1 + self.numbers.count

        def work(unit: Unit) -> None:
            channels = Channels.read(k, unit, self.numbers, DY + 1)
            share = k.splat(1.0 / self.walk.size)
            steady: list[Value] = []
            slopes: list[Value] = []
            if self.sums:
                steady = [k.b.fmul(each, share) for each in unit.read(k.arg(behind))]
                factors = unit.read(k.shift(k.arg(behind), self.sums))
                slopes = [
                    k.b.fmul(k.b.fmul(each, share), root) for each, root in zip(factors, channels.roots, strict=True)
                ]

            def visit(_: int, v: int, place: Spot) -> None:
                apart = k.b.fsub(place.load(X), channels.means[v])
                back = emit_pullback(k, channels.finish(k, apart, v), place.load(DY), self.numbers.activation)
                if self.sums:
                    back = k.b.fsub(k.b.fsub(back, steady[v]), k.b.fmul(apart, slopes[v]))
                place.store(k.b.fmul(back, channels.scales[v]), 2, behind + bool(self.sums))

            unit.each(visit)

        emit_units(k, self.walk, self.group, 1 if self.group == 1 else 2, work)
        return k.finish()
