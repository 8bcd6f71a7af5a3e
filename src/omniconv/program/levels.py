"""`Levels`: where the numbers of a quantised value lie.

A quantised value holds integers q that stand for numbers :math:`q s`. The zero point of the type it was stored in is
taken off: 8 bits with a zero point z become integers from ``-128 - z`` to ``127 - z``, or from ``-z`` to ``255 - z``,
of which 0 stands for zero. Signed and unsigned, symmetric or not are then the same to every step, and what pads a value
with zeros pads it with 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.errors import SpecError, UnsupportedError
from omniconv.program.element import INT16, Element
from omniconv.records import dataclass

LARGEST = 255
"""Integers of a levels, at most: the distance of two of 8 bits."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Integers from ``low`` to ``high``, times ``scale``.

    Attributes:
        scale: a positive float32 number.
        low, high: the least and the largest integer.
    """

    scale: float
    low: int
    high: int

    def __post_init__(self) -> None:
        if not (self.scale > 0 and np.isfinite(np.float32(self.scale)) and np.float32(self.scale) == self.scale):
            raise SpecError(f"scale={self.scale!r}", need="a positive, finite number of float32")
        if not -LARGEST <= self.low <= self.high <= LARGEST:
            raise SpecError(f"integers from {self.low} to {self.high}", need=f"a range inside -{LARGEST} to {LARGEST}")

    @property
    def largest(self) -> int:
        """The largest distance from 0."""
        return max(abs(self.low), abs(self.high))


def require_integers(word: str, reads: Sequence[Element], usual: Element) -> None:
    """Check that a step of integers reads nothing else.

    Args:
        word: of the step, for the message.
        reads: elements of the values that it reads.
        usual: that of the program.

    Raises:
        UnsupportedError: a value of another element.
    """
    if any(element != INT16 for element in reads):
        raise UnsupportedError(f"{word} of {usual} values", need=f"{INT16} values")
