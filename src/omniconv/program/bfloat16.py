"""bfloat16 in NumPy, which lacks the type: numbers rounded to it, and their bits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint16]
_BLOCK: Final = 2**14
"""Numbers that are looked at together: those that tell are mostly among the first."""


def narrow(values: npt.NDArray[Any]) -> Bits:
    """The bits of float32 numbers rounded to bfloat16: to the nearest, halves to even; NaN stays NaN.

    Example:
        >>> [hex(h) for h in narrow(np.float32([1, 1 + 2**-8, 1 + 3 * 2**-8, -3.4e38]))]
        ['0x3f80', '0x3f80', '0x3f82', '0xff80']
    """
    numbers = np.ascontiguousarray(values, np.float32)
    bits = numbers.view(np.uint32)
    upper = bits >> np.uint32(16)
    rounded = (bits + (np.uint32(2**15 - 1) + (upper & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(numbers), np.uint32(2**16 - 1), rounded).astype(np.uint16)


def widen(bits: Bits) -> Float32:
    """The numbers that bits of bfloat16 stand for."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to_bfloat16(values: npt.NDArray[Any]) -> Float32:
    """Float32 numbers rounded to the nearest of bfloat16, halves to even.

    Example:
        >>> round_to_bfloat16(np.float32([0.1, 1e-40])).tolist()
        [0.10009765625, 9.183549615799121e-41]
    """
    return widen(narrow(values))


def is_bfloat16(values: npt.NDArray[Any]) -> bool:
    """Whether bfloat16 has all of some float32 numbers exactly.

    Example:
        >>> is_bfloat16(np.float32([-255, 0.5])), is_bfloat16(np.float32([0.5, 0.1]))
        (True, False)
    """
    if values.dtype != np.float32:
        return False
    flat = np.ascontiguousarray(values).reshape(-1)
    return all(_is_exact(flat[first : first + _BLOCK]) for first in range(0, flat.size, _BLOCK))


def _is_exact(values: Float32) -> bool:
    lower = np.bitwise_or.reduce(values.view(np.uint32)) & np.uint32(2**16 - 1)
    return not lower and not np.isnan(values).any()
