r"""Interval maps: the hull of what an output position reads, on every axis, as if the input had no end.

An output interval :math:`[a, b]` needs the input interval

- :math:`[a s - p,\; b s - p + e - 1]`, :math:`e = d (k - 1) + 1`, through a convolution or a pool,
- :math:`[\lceil (a + p - e + 1) / s \rceil,\; \lfloor (b + p) / s \rfloor]` through a transposed convolution (tightened
  where a dilation leaves the ends without a tap),
- what its index tables say through a resize, continued periodically beyond them;

at a merge the hull of all branches. Beside it run the rate (input positions per output position, exact fractions)
and the centre of the field, which must agree between the branches of an aligned network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from omniconv.spec import Axis

MIXED = "reshape that mixes axes"
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """What one output position demands of one axis of a value.

    Attributes:
        low, high: first and last position; outside the axis where padding is read.
        rate: positions of this axis for each position of the output axis; 0 where it does not move, ``None`` unknown.
        centre: of the field of output 0, lowest and highest over all branches.
        origin: the output axis that moves it.
        aligned: all branches so far had the same rate and centre.
        whole: names of the operators that cover the whole axis, whatever the position.
    """

    low: int
    high: int
    rate: Fraction | None = Fraction(0)
    centre: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))
    origin: int | None = None
    aligned: bool = True
    whole: frozenset[str] = NOTHING

    def moved(self, shift: int) -> Reach:
        """The same positions, counted from elsewhere."""
        low, high = self.centre
        return replace(self, low=self.low + shift, high=self.high + shift, centre=(low + shift, high + shift))

    def scaled(self, low: int, high: int, factor: Fraction, shift: Fraction) -> Reach:
        """Through a layer whose centre map is ``o * factor + shift``."""
        rate = None if self.rate is None else self.rate * factor
        centres = sorted(c * factor + shift for c in self.centre)
        return replace(self, low=low, high=high, rate=rate, centre=(centres[0], centres[1]))


def everything(size: int, name: str = "") -> Reach:
    """The whole of an axis of ``size``; ``name`` says why."""
    return Reach(0, size - 1, whole=frozenset({name}) if name else NOTHING)


def merge(a: Reach | None, b: Reach | None) -> Reach | None:
    """The hull of two branches."""
    if a is None or b is None:
        return b if a is None else a
    low, high = min(a.low, b.low), max(a.high, b.high)
    whole = a.whole | b.whole
    if whole or a.origin is None or b.origin is None:
        base = a if a.origin is not None else b
        return replace(base, low=low, high=high, whole=whole, aligned=a.aligned and b.aligned)
    same = (a.rate, a.centre, a.origin) == (b.rate, b.centre, b.origin)
    wide = a if a.high - a.low >= b.high - b.low else b
    centre = (min(a.centre[0], b.centre[0]), max(a.centre[1], b.centre[1]))
    return replace(wide, low=low, high=high, centre=centre, aligned=same and a.aligned and b.aligned)


def through_taps(reach: Reach, axis: Axis) -> Reach | None:
    """Through one axis of a convolution, transposed convolution or pool; ``None`` where no tap reads anything."""
    before, extent = axis.padding[0], axis.extent
    middle = Fraction(extent - 1, 2) - before
    if not axis.transposed:
        low, high = axis.infer_input(reach.low, reach.high)
        return reach.scaled(low, high, Fraction(axis.stride), middle)
    span = _transposed_span(axis, reach.low, reach.high)
    if span is None:
        return None
    return reach.scaled(*span, Fraction(1, axis.stride), -middle / axis.stride)


def _transposed_span(axis: Axis, first: int, last: int) -> tuple[int, int] | None:
    """First and last input positions that some tap of outputs ``first..last`` reads."""
    s, d, p = axis.stride, axis.dilation, axis.padding[0]
    reads = [
        (o + p - t * d) // s
        for o in {*range(first, min(last, first + s - 1) + 1), *range(max(first, last - s + 1), last + 1)}
        for t in range(axis.kernel)
        if (o + p - t * d) % s == 0
    ]
    return (min(reads), max(reads)) if reads else None
