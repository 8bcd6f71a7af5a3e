"""`Element`: the type of the numbers that a program computes with.

A program computes with one element of floats; values on levels are of an element of their own
(:mod:`omniconv.program.levels`), and tables stand apart. Every size, load, store, constant and elementary function of a
kernel goes through it, so that a further type is a row here, its type to LLVM
(:mod:`omniconv.compiler.emit.builder`), its elementary functions (:mod:`omniconv.compiler.emit.elementary`), and a
reason in each kernel family that does not serve it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from omniconv.errors import SpecError
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class Element:
    """A floating-point type, or signed integers.

    Attributes:
        name: NumPy's, too.
        bytes: size of one number [bytes].
        llvm: LLVM's name of the type.
        precision: bits of the significand, the leading one included; of integers those without the sign.
    """

    name: str
    bytes: int
    llvm: str
    precision: int

    def __str__(self) -> str:
        return self.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type; of bfloat16, which NumPy lacks, that of its bits."""
        return np.dtype("uint16" if self.llvm == "bfloat" else self.name)

    @property
    def suffix(self) -> str:
        """The type in the names of LLVM's intrinsics, such as ``f32``."""
        return self.llvm if self.integer else f"f{8 * self.bytes}"

    @property
    def integer(self) -> bool:
        """Whether its numbers are integers."""
        return self.llvm.startswith("i")

    @property
    def roundoff(self) -> float:
        """Unit roundoff: half the distance of neighbouring numbers at 1."""
        return 2.0**-self.precision

    @property
    def largest_integer(self) -> int:
        """All whole numbers up to this one are exact."""
        return 1 << self.precision

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return float(np.finfo(self.dtype).max)

    @property
    def largest_power(self) -> float:
        """The largest power of two."""
        return float(2.0 ** (np.finfo(self.dtype).maxexp - 1))

    @property
    def largest_offset(self) -> float:
        """An eighth of the unit roundoff of the largest power of two: added to a finite number, it never overflows."""
        return self.largest_power * self.roundoff / 8

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number with all digits."""
        return float(np.finfo(self.dtype).smallest_normal)

    @property
    def smallest(self) -> float:
        """The smallest positive number."""
        return float(np.finfo(self.dtype).smallest_subnormal)


FLOAT32: Final = Element("float32", 4, "float", 24)
FLOAT64: Final = Element("float64", 8, "double", 53)

BFLOAT16: Final = Element("bfloat16", 2, "bfloat", 8)
"""The upper half of a float32: its exponents, and 8 of its 24 digits. Numbers are kept in it between layers; kernels
compute with float32."""

INT16: Final = Element("int16", 2, "i16", 15)
INT32: Final = Element("int32", 4, "i32", 31)

ELEMENTS: Final = {element.name: element for element in (FLOAT32, FLOAT64)}
"""Every element that programs compute with, by name."""

INTEGERS: Final = {element.name: element for element in (INT16, INT32)}
"""The elements of values on a levels, and of their sums."""


def find_kept(name: str) -> Element:
    """The element that numbers in memory have, by its name.

    Raises:
        SpecError: there is none of this name.
    """
    known = (*ELEMENTS.values(), *INTEGERS.values(), BFLOAT16)
    found = next((element for element in known if element.name == name), None)
    if found is None:
        raise SpecError(f"element {name!r}", need="one of " + ", ".join(map(str, known)))
    return found


def find_element(dtype: object) -> Element:
    """The element that a name, a NumPy type or a NumPy dtype stands for.

    Example:
        >>> find_element("float32") is find_element(np.float32) is find_element(np.dtype("float32")) is FLOAT32
        True

    Raises:
        SpecError: anything else.
    """
    if isinstance(dtype, Element):
        return dtype
    try:
        # None would be float64 to NumPy.
        found = None if dtype is None else np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        found = None
    if found is not None and found.isnative and found.name in ELEMENTS:
        return ELEMENTS[found.name]
    raise SpecError(f"dtype={dtype!r} is not supported", need="one of " + ", ".join(ELEMENTS), fix=f"{FLOAT32.name!r}")
