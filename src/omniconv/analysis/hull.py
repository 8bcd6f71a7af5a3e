r"""What an output position reads on one axis of a value, as if the input had no end, and the merge of branches.

The set of positions is carried back exactly (:mod:`omniconv.analysis.runs`); its first and last position are the hull.
Beside it run the rate (input positions per output position, exact fractions) and the centre of the field,

- :math:`o \mapsto o s + (e - 1) / 2 - p`, :math:`e = d (k - 1) + 1`, through a convolution or a pool,
- :math:`o \mapsto (o + p - (e - 1) / 2) / s` through a transposed convolution,
- the line through what its index tables read through a resize,

which must agree between the branches of an aligned network.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from omniconv.analysis.runs import Runs, contains, join, move, read
from omniconv.records import dataclass
from omniconv.spec import Axis

MIXED = "reshape that mixes axes"
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """What one output position demands of one axis of a value.

    Attributes:
        runs: the positions; outside the axis where padding is read. Never empty.
        rate: positions of this axis for each position of the output axis; 0 where it does not move, ``None`` unknown.
        centre: of the field of output 0, lowest and highest over all branches.
        origin: the output axis that moves it.
        aligned: all branches so far had the same rate and centre.
        exact: no position too many, and all of them move with the rate.
        whole: names of the operators that cover the whole axis, whatever the position.
    """

    runs: Runs
    rate: Fraction | None = Fraction(0)
    centre: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))
    origin: int | None = None
    aligned: bool = True
    exact: bool = True
    whole: frozenset[str] = NOTHING

    @property
    def low(self) -> int:
        """First position."""
        return self.runs[0][0]

    @property
    def high(self) -> int:
        """Last position."""
        return self.runs[-1][1]

    @property
    def moves(self) -> bool:
        """Whether it depends on the output position."""
        return self.origin is not None and not self.whole

    def moved(self, shift: int) -> Reach:
        """The same positions, counted from elsewhere."""
        low, high = self.centre
        return replace(self, runs=move(self.runs, shift), centre=(low + shift, high + shift))

    def scaled(self, runs: Runs, factor: Fraction, shift: Fraction) -> Reach | None:
        """Through a layer whose centre map is ``o * factor + shift``; ``None`` where nothing is read."""
        if not runs:
            return None
        rate = None if self.rate is None else self.rate * factor
        centres = sorted(c * factor + shift for c in self.centre)
        return replace(self, runs=runs, rate=rate, centre=(centres[0], centres[1]))


def at(first: int, last: int, whole: frozenset[str] = NOTHING) -> Reach:
    """Positions that no output moves."""
    return Reach(((first, last),), whole=whole)


def everything(size: int, name: str = "") -> Reach:
    """The whole of an axis of ``size``; ``name`` says why."""
    return at(0, size - 1, frozenset({name}) if name else NOTHING)


def merge(a: Reach, b: Reach) -> Reach:
    """What either of two branches reads."""
    runs = a.runs if contains(a.runs, b.runs) else join(a.runs + b.runs)
    whole, aligned = a.whole | b.whole, a.aligned and b.aligned
    exact = a.exact and b.exact and (bool(whole) or (a.rate, a.origin) == (b.rate, b.origin))
    if whole or a.origin is None or b.origin is None:
        base = a if a.origin is not None else b
        return replace(base, runs=runs, whole=whole, aligned=aligned, exact=exact)
    same = (a.rate, a.centre, a.origin) == (b.rate, b.centre, b.origin)
    wide = a if a.high - a.low >= b.high - b.low else b
    centre = (min(a.centre[0], b.centre[0]), max(a.centre[1], b.centre[1]))
    return replace(wide, runs=runs, centre=centre, aligned=same and aligned, exact=exact)


def through_taps(reach: Reach, axis: Axis) -> Reach | None:
    """Through one axis of a convolution, transposed convolution or pool; ``None`` where no tap reads anything."""
    if axis.kernel == axis.stride == 1 and not axis.padding[0]:
        return reach
    middle = Fraction(axis.extent - 1, 2) - axis.padding[0]
    # What covers a whole axis is not looked at more closely.
    runs = read(((reach.low, reach.high),) if reach.whole else reach.runs, axis)
    if not axis.transposed:
        return reach.scaled(runs, Fraction(axis.stride), middle)
    return reach.scaled(runs, Fraction(1, axis.stride), -middle / axis.stride)
