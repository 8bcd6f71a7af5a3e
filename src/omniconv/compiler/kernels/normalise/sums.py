r"""Sums over a channel: block by block, then over all blocks in their order.

The moments of a block are its mean :math:`m_k` and the sum :math:`q_k` of squared differences to it; of all,

.. math:: m = \sum_k \frac{n_k}{n} m_k, \qquad v = \frac{1}{n} \sum_k \left(q_k + n_k (m_k - m)^2\right),

which subtracts no square of a mean from a sum of squares. A sum has as many roundings as a lane has elements in a
block, plus as many as there are blocks, plus six that combine lanes: far fewer than there are elements, and always the
same ones. Those of :math:`m_k` are taken out again: the differences to it, which are small, sum to :math:`r_k`; then
:math:`m_k + r_k / n_k` is the mean, and :math:`q_k - r_k^2 / n_k` belongs to it, which is not negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Mask, Pointer, Value
from omniconv.compiler.emit.slopes import emit_pullback
from omniconv.compiler.emit.vectors import emit_vectors
from omniconv.compiler.kernels.normalise.channels import GROUP, Channels, Numbers, emit_root
from omniconv.compiler.kernels.normalise.walk import Spot, Unit, Walk, emit_units
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

X, DY = range(2)
TOGETHER: Final = 4
"""Positions of the same channels that moments take in a step. What reads or writes more than one array has one, in the
order of memory, which it waits for."""
RUN: Final = 4
"""Vectors in a step, where positions are neighbours: so many sums run on at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockMoments:
    """Mean and sum of squared differences of each channel in each block: from x into ``(blocks, 2, pitch)``."""

    walk: Walk

    @property
    def group(self) -> int:
        """Vectors of channels in a unit."""
        return GROUP

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.count_units(self.group)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)

        def work(unit: Unit) -> None:
            count = unit.count()
            [sums] = unit.total(1, lambda _, place: [place.load(X)])
            means = [k.b.fdiv(each, count) for each in sums]

            def differ(v: int, place: Spot) -> list[Value]:
                difference = k.b.fsub(place.load(X), means[v])
                return [difference, k.b.fmul(difference, difference)]

            rests, squares = unit.total(2, differ)
            pairs = [_correct(k, *each, count) for each in zip(means, squares, rests, strict=True)]
            means, squares = [mean for mean, _ in pairs], [square for _, square in pairs]
            row = _row(k, self.walk, unit.block)
            unit.write(means, row)
            unit.write(squares, k.shift(row, self.walk.pitch))

        emit_units(k, self.walk, self.group, RUN, work, together=TOGETHER)
        return k.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSums:
    """The sums of g and of g (x - m) of each channel in each block: from x, dy and the numbers of the channels."""

    walk: Walk
    numbers: Numbers

    @property
    def group(self) -> int:
        """Vectors of channels in a unit."""
        return self.numbers.group(least=4)

    @property
    def units(self) -> int:
        """Units of work."""
        return self.walk.count_units(self.group)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)

        def work(unit: Unit) -> None:
            channels = Channels.read(k, unit, self.numbers, DY + 1)

            def both(v: int, place: Spot) -> list[Value]:
                apart = k.b.fsub(place.load(X), channels.means[v])
                back = emit_pullback(k, channels.finish(k, apart, v), place.load(DY), self.numbers.activation)
                return [back, k.b.fmul(back, apart)]

            first, second = unit.total(2, both)
            row = _row(k, self.walk, unit.block, DY + 1 + self.numbers.count)
            unit.write(first, row)
            unit.write(second, k.shift(row, self.walk.pitch))

        emit_units(k, self.walk, self.group, RUN, work, asked=2)
        return k.finish()


def _correct(k: Kernel, mean: Value, squares: Value, rest: Value, count: Value) -> tuple[Value, Value]:
    """The mean and the squared differences to it, from those to a mean with roundings, whose differences sum to rest.

    Infinite values have no differences: where rest is not finite, both stay.
    """
    zero, shift = k.splat(0.0), k.b.fdiv(rest, count)
    finite = _is_finite(k, shift)
    less = k.b.fsub(squares, k.b.fmul(shift, rest))
    less = k.b.select(k.b.fcmp_ordered(">", less, zero), less, zero)
    return k.b.select(finite, k.b.fadd(mean, shift), mean), k.b.select(finite, less, squares)


def _is_finite(k: Kernel, value: Value) -> Mask:
    return k.b.fcmp_ordered("==", k.b.fsub(value, value), k.splat(0.0))


def _row(k: Kernel, walk: Walk, block: Index, arg: int = X + 1) -> Pointer:
    return k.shift(k.arg(arg), k.mul(block, 2 * walk.pitch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """The blocks of each channel as one: ``(blocks, 2, pitch)`` becomes rows of y.

    Attributes:
        walk: what was summed.
        epsilon: of sums for gradients, whose second one is divided by the root of the variance; none for moments.
        row: distance between rows of y [elements].
    """

    walk: Walk
    epsilon: float | None
    row: int

    @property
    def units(self) -> int:
        """Units of work: vectors of channels."""
        return ceil_div(self.walk.channels, self.walk.lanes)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as unit:

            def body(channel: Index, _: int, tail: int | None) -> None:
                blocks = k.shift(k.arg(0), channel)
                if self.epsilon is None:
                    rows = self._join_moments(k, blocks)
                else:
                    root = emit_root(k, k.load(k.arg(2), channel, count=tail), self.epsilon)
                    rows = [self._add(k, blocks, 0), k.b.fmul(self._add(k, blocks, 1), root)]
                for number, value in enumerate(rows):
                    k.store(value, k.arg(1), k.add(channel, number * self.row), count=tail)

            emit_vectors(k, self.walk.channels, body, part=unit, parts=self.units)
        return k.finish()

    def _join_moments(self, k: Kernel, blocks: Pointer) -> list[Value]:
        each, rest = self.walk.counts
        size, final = self.walk.size, self.walk.blocks - 1
        last = mean = k.load(blocks, 2 * self.walk.pitch * final)
        squares = self._add(k, blocks, 1)
        if final:
            # What is summed are differences to one of them, which are small; to an infinite one there are none.
            base = k.b.select(_is_finite(k, last), last, k.splat(0.0))
            between = self._add(k, blocks, 0, final, lambda value: k.b.fsub(value, base))
            shift = k.fma(between, k.splat(each / size), k.b.fmul(k.b.fsub(last, base), k.splat(rest / size)))
            mean = k.b.fadd(base, shift)
            apart = k.b.fsub(last, mean)
            squares = k.fma(k.b.fmul(apart, apart), k.splat(float(rest)), squares)

            def square(value: Value) -> Value:
                difference = k.b.fsub(value, mean)
                return k.b.fmul(difference, difference)

            squares = k.fma(self._add(k, blocks, 0, final, square), k.splat(float(each)), squares)
        unbiased = k.splat(float(size - 1)) if size > 1 else k.splat(0.0)
        return [mean, k.b.fdiv(squares, k.splat(float(size))), k.b.fdiv(squares, unbiased)]

    def _add(
        self, k: Kernel, blocks: Pointer, row: int, many: int = 0, change: Callable[[Value], Value] | None = None
    ) -> Value:
        """A row of the first blocks, or of all, added up, each value changed before."""
        total = k.variable(k.vector_type(), k.splat(0.0))
        with k.loop(many or self.walk.blocks) as block:
            value = k.load(blocks, k.add(k.mul(block, 2 * self.walk.pitch), row * self.walk.pitch))
            k.set(total, k.b.fadd(k.get(total), value if change is None else change(value)))
        return k.get(total)
