r"""Hard-swish between quantised values, in words: a table that a formula gives, integer for integer.

With :math:`\lfloor a b \rceil = (a b + 2^{14}) \gg 15`, one instruction where machines have it,

.. math:: y = \mathrm{clamp}(\lfloor 2^k x\, \mathrm{clamp}(2 \lfloor 2^7 x\, a \rceil + c,\, 0,\, u) \rceil,\,
    \mathrm{low},\, \mathrm{high})

is x times a ramp from 0 to 1. A table has roundings of its own, so that no formula is known to give it; but all of its
256 entries are tried at once, and of the few thousand ramps next to the exact one some nearly always gives them all
(:func:`find_ramp`). That is a quarter of the work of choosing among 256 entries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import add_saturated, clamp_between, multiply_scaled, spread_word
from omniconv.compiler.emit.machine import Bits, Pointer
from omniconv.program.levels import Levels
from omniconv.program.steps.quantised_conv import Integers

_UNIT, _WORD = 2**15, 2**15 - 1
"""What a product is divided by; and the largest word."""
_RAISED = 7
"""Bits that x is shifted by for its slope: 255 times 2**7 is a word."""
_NEAR = (np.arange(-4, 5), np.arange(-5, 6), np.arange(-12, 13))
"""What is tried: upper ends, slopes and offsets next to the exact ones."""


class Ramp(NamedTuple):
    """Words: 2**k, a, c, u, and the limits of y."""

    scale: int
    slope: int
    offset: int
    end: int
    low: int
    high: int


def find_ramp(x: Levels, table: Integers, y: Levels) -> Ramp | None:
    """The ramp that gives a table, or ``None`` where none that is tried does."""
    q = np.arange(x.low, x.high + 1, dtype=np.int64)
    ratio, bend = x.scale / y.scale, 3 / x.scale
    about = np.clip(np.rint(q * ratio * np.clip(q / (2 * bend) + 0.5, 0, 1)), y.low, y.high)
    if np.abs(about - table).max() > 1:
        return None
    for bits in range(4):
        unit = _UNIT >> bits
        exact = ratio * unit, ratio * unit / (4 * bend) * (_UNIT >> _RAISED), ratio / 2 * unit
        # Scales may be as far apart as floats are; what is no word is as good as the first number that is none.
        end, slope, offset = (round(min(each, _UNIT)) + near for each, near in zip(exact, _NEAR, strict=True))
        if not (slope[0] > 0 and max(slope[-1], offset[-1], end[-1]) <= _WORD):
            continue
        line = _multiply(q << _RAISED, slope[:, None])
        sums = _saturate(_saturate(2 * line)[:, None] + offset[:, None])
        for number in end.tolist():
            found = _multiply(q << bits, np.clip(sums, 0, number))
            fits = np.argwhere((np.clip(found, y.low, y.high) == table).all(-1))
            if len(fits):
                return Ramp(1 << bits, int(slope[fits[0, 0]]), int(offset[fits[0, 1]]), number, y.low, y.high)
    return None


def _multiply(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (a * b + _UNIT // 2) // _UNIT


def _saturate(a: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.clip(a, -_WORD - 1, _WORD)


def load_ramp(k: Kernel, ramp: Pointer, lanes: int) -> list[Bits]:
    """The numbers of a `Ramp`, each in a vector of its own."""
    return [spread_word(k, ramp, number, lanes) for number in range(len(Ramp._fields))]


def emit_ramp(k: Kernel, ramp: list[Bits], value: Bits) -> Bits:
    """Words of y from those of x."""
    kind = value.type
    scale, slope, offset, end, low, high = ramp
    line = multiply_scaled(k, k.b.shl(value, Bits(k.splat(_RAISED, kind))), slope)
    sums = add_saturated(k, add_saturated(k, line, line), offset)
    weight = clamp_between(k, sums, Bits(k.splat(0, kind)), end)
    return clamp_between(k, multiply_scaled(k, k.b.imul(value, scale), weight), low, high)
