r"""`Partial`: what the tiles of a sweep know of a value, put together without rounding.

Sums of floats are exact here: each is a whole number of units :math:`2^{-1074}`, the smallest float64. They are the
same in any order, so that a statistic depends neither on the tiles nor on threads. A row of n numbers below
:math:`2^e` is added in folds: rounded to multiples of :math:`q = 2^{e - w}`, where :math:`n 2^w \le 2^{53}`, so that
float64 holds every partial sum; what is left over is below :math:`q` and has its turn next.

With :math:`s = \sum x` and :math:`t = \sum x^2` the variance is :math:`t / n - (s / n)^2`, in fractions: nothing is
lost where the terms cancel. It is rounded to float64 once, as means are, and then to the type of the network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.statistics import Statistic
from omniconv.records import dataclass

Float64: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.object_]
"""Whole numbers of any size."""

UNIT: Final = 1074
"""Sums count units of 2^-1074."""
_HUGE: Final = 2.0**500
"""From here on numbers are added apart, a factor of 2^600 smaller, where nothing overflows."""
_SQUARES: Final = ("variance", "deviation")
_WHOLE: Final = ("sums", "squares")
_FLOATS: Final = ("odd", "odd_squares", "lowest", "highest")


def add_exactly(x: Float64) -> Integers:
    """The sum of each row of finite numbers, in units of 2^-1074.

    Example:
        >>> [float(Fraction(int(n), 2**UNIT)) for n in add_exactly(np.array([[1e30, 1.0, -1e30], [0.5, 0.25, 0.0]]))]
        [1.0, 0.75]
    """
    total: Integers = np.zeros(len(x), object)
    if x.size == 0:
        return total
    rest = x
    if np.abs(x).max() >= _HUGE:
        huge = np.abs(x) >= _HUGE
        total = total + add_exactly(np.where(huge, x * 2.0**-600, 0.0)) * 2**600
        rest = np.where(huge, 0.0, x)
    width = min(53 - (x.shape[1] - 1).bit_length(), 50)
    while top := float(np.abs(rest).max()):
        exponent = max(math.frexp(top)[1] - width, -UNIT)
        rounding = math.ldexp(1.5, 52 + exponent)
        part = (rest + rounding) - rounding
        sums = np.ldexp(part.sum(1), -exponent)
        total = total + np.array([int(n) << (exponent + UNIT) for n in sums], object)
        rest = rest - part
    return total


def _square_exactly(x: Float64) -> tuple[Integers, Float64]:
    """The sum of the squares of each row; and what is added to it where squares overflow."""
    high = (x.view(np.int64) & np.int64(-(2**27))).view(np.float64)
    low = x - high  # 27 bits each, so that no product is rounded
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        parts = [high * high, 2 * high * low, low * low] if low.any() else [high * high]
        over = ~np.isfinite(parts[0])
    extra = np.where(over.any(1), np.inf, 0.0)
    total: Integers = np.zeros(len(x), object)
    for part in parts:
        total = total + add_exactly(np.where(over, 0.0, part))
    return total, extra


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A part of the positions of a value, for each of its channels.

    Attributes:
        count: how many positions.
        sums, squares: sums of the finite values, and of their squares, in units of 2^-1074.
        odd, odd_squares: what infinities and NaN add to these; else 0.
        lowest, highest: NaN where one is among them.
    """

    count: int
    sums: Integers
    squares: Integers
    odd: Float64
    odd_squares: Float64
    lowest: Float64
    highest: Float64

    @classmethod
    def of(cls, y: npt.NDArray[Any], statistics: Collection[Statistic]) -> Partial:
        """What a tile ``(1, C, *spatial)`` knows for some statistics."""
        x = np.ascontiguousarray(y.reshape(y.shape[1], -1), np.float64)
        ops = {statistic.op for statistic in statistics}
        nothing: Integers = np.zeros(len(x), object)
        sums, squares, none = nothing, nothing, np.zeros(len(x))
        odd, odd_squares, lowest, highest = none, none, none, none
        if ops - {"max", "min"}:
            finite = np.isfinite(x)
            if not finite.all():
                with np.errstate(invalid="ignore"):
                    odd = np.where(finite, 0.0, x).sum(1)
            kept = np.where(finite, x, 0.0)
            sums = add_exactly(kept)
            if ops & set(_SQUARES):
                squares, odd_squares = _square_exactly(kept)
        if "min" in ops:
            lowest = x.min(1)
        if "max" in ops:
            highest = x.max(1)
        return cls(x.shape[1], sums, squares, odd, odd_squares, lowest, highest)

    def __add__(self, other: Partial) -> Partial:
        """Both parts together."""
        with np.errstate(invalid="ignore"):
            return Partial(
                self.count + other.count,
                self.sums + other.sums,
                self.squares + other.squares,
                self.odd + other.odd,
                self.odd_squares + other.odd_squares,
                np.minimum(self.lowest, other.lowest),
                np.maximum(self.highest, other.highest),
            )

    def to_text(self) -> str:
        """All of it as JSON without spaces, exactly."""
        whole = {name: [f"{n:x}" for n in getattr(self, name)] for name in _WHOLE}
        floats = {name: [float(x).hex() for x in getattr(self, name)] for name in _FLOATS}
        return json.dumps({"count": self.count, **whole, **floats}, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Partial:
        """What :meth:`to_text` wrote.

        Raises:
            ValueError, LookupError, TypeError, OverflowError, RecursionError: something else.
        """
        found = json.loads(text)
        whole = {name: np.array([int(n, 16) for n in found[name]], object) for name in _WHOLE}
        floats = {name: np.array([float.fromhex(x) for x in found[name]]) for name in _FLOATS}
        return cls(int(found["count"]), **whole, **floats)

    def find(self, statistic: Statistic, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A statistic, of all parts together."""
        axes = statistic.axes

        def fold(values: npt.NDArray[Any], how: Any = np.add) -> list[Any]:
            found = values.reshape(statistic.lead)
            return np.ravel(how.reduce(found, axis=axes) if axes else found).tolist()

        if statistic.op in ("max", "min"):
            values = fold(self.highest, np.maximum) if statistic.op == "max" else fold(self.lowest, np.minimum)
        else:
            count = self.count * math.prod(statistic.lead[axis] for axis in axes)
            rows = zip(*map(fold, (self.sums, self.squares, self.odd, self.odd_squares)), strict=True)
            values = [_finish(statistic, count, *row) for row in rows]
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype(dtype).reshape(statistic.shape)


def _finish(statistic: Statistic, count: int, total: int, squares: int, odd: float, odd_squares: float) -> float:
    """One number of a sum, mean, variance or deviation."""
    if statistic.op in ("sum", "mean"):
        return odd or _as_float(Fraction(total, 2**UNIT * (count if statistic.op == "mean" else 1)))
    if odd:
        return math.nan
    mean = Fraction(total, 2**UNIT * count)
    variance = odd_squares or _as_float(Fraction(squares, 2**UNIT * count) - mean * mean)
    return math.sqrt(variance + statistic.epsilon) if statistic.op == "deviation" else variance


def _as_float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)
