"""Integers as they are given: whatever has ``__index__`` becomes a Python `int`, before anything is computed or kept.

NumPy's integers overflow silently, and they equal (and hash as) Python's, so that one of them in a cache would answer
for the other. Every public function therefore takes its sizes through this module, and inside there are only `int`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from omniconv.errors import OmniconvError, ShapeError, SpecError

LIMIT: Final = 2**31 - 1
"""No size, stride, dilation, padding, channel count or number of threads may be larger."""

_NO_SEQUENCES: Final = (str, bytes, bytearray, memoryview, Mapping, AbstractSet)
_LONGEST: Final = 80  # characters of a value in a message


def as_integer(
    name: str,
    value: object,
    low: int = 1,
    high: int = LIMIT,
    *,
    error: type[OmniconvError] = SpecError,
    fix: str = "",
    at: str = "",
) -> int:
    """One integer of any library as a Python `int`, from ``low`` to ``high``.

    Python's and NumPy's integers, scalar arrays and tensors are integers; truth values, floats and text are none.

    Example:
        >>> import numpy as np
        >>> as_integer("threads", np.int32(2)), as_integer("threads", np.array(2))
        (2, 2)
        >>> as_integer("threads", 2.0)
        Traceback (most recent call last):
            ...
        omniconv.errors.SpecError: threads=2.0 is not an integer; need an integer from 1 to 2147483647

    Args:
        name: the argument, for messages.
        value: what was given for it.
        low, high: the range that is allowed.
        error: the class that is raised.
        fix: a value that would do, for messages.
        at: the problem line, for messages.
    """
    number = read_integer(value)
    need = f"an integer from {low} to {high}" if high < 2**62 else f"an integer of at least {low}"
    if number is None:
        raise error(f"{describe(name, value)} is not an integer", need=need, fix=fix, at=at)
    if not low <= number <= high:
        raise error(f"{name}={number} is out of range", need=need, fix=fix, at=at)
    return number


def as_integers(
    name: str,
    value: object,
    low: int = 1,
    high: int = LIMIT,
    *,
    error: type[OmniconvError] = SpecError,
    need: str = "a sequence of integers",
    fix: str = "",
    at: str = "",
) -> tuple[int, ...]:
    """A sequence of integers of any library as a tuple of Python `int`, each from ``low`` to ``high``.

    Tuples, lists, ``torch.Size``, one-dimensional arrays and tensors are sequences. Text, bytes, mappings, sets and
    arrays with other numbers of axes are none.

    Example:
        >>> import numpy as np
        >>> as_integers("rates", np.array([1, 2, 5]))
        (1, 2, 5)

    Args:
        name, value, low, high, error, fix, at: as for :func:`as_integer`.
        need: what was expected, for messages.
    """
    items = read_sequence(value)
    if items is None:
        raise error(f"{describe(name, value)} is not a sequence of integers", need=need, fix=fix, at=at)
    numbers = []
    for item in items:
        number = read_integer(item)
        if number is None:
            raise error(f"{describe(name, value)} is not made of integers", need=need, fix=fix, at=at)
        numbers.append(number)
    if any(not low <= number <= high for number in numbers):
        problem = f"{describe(name, tuple(numbers))} is out of range"
        raise error(problem, need=f"integers from {low} to {high}", fix=fix, at=at)
    return tuple(numbers)


def as_shape(
    name: str, value: object, *, low: int = 1, need: str = "(N, C, *spatial)", fix: str = "", at: str = ""
) -> tuple[int, ...]:
    """A shape as a tuple of Python `int`.

    Example:
        >>> import numpy as np
        >>> as_shape("shape", (1, 3, *np.array([8, 8], np.int32)))
        (1, 3, 8, 8)

    Args:
        name, value, fix, at: as for :func:`as_integer`.
        low: the smallest size that is allowed.
        need: the form that was expected, for messages.

    Raises:
        ShapeError: not a sequence of integers, or a size out of range.
    """
    return as_integers(name, value, low, error=ShapeError, need=need, fix=fix, at=at)


def read_integer(value: object) -> int | None:
    """The Python `int` that a value stands for, or ``None`` where it is no integer."""
    if type(value) is int:
        return value
    axes: object = getattr(value, "ndim", None)
    if isinstance(value, bool) or axes or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return None


def read_sequence(value: object) -> tuple[Any, ...] | None:
    """The items of a value that stands for a sequence, or ``None`` where it stands for none."""
    if type(value) is tuple:
        return value
    if not isinstance(value, Iterable) or isinstance(value, _NO_SEQUENCES):
        return None
    axes: object = getattr(value, "ndim", None)
    return tuple(value) if axes is None or axes == 1 else None


def describe(name: str, value: object) -> str:
    """An argument and its value for a message: of arrays with axes the kind and shape, of long values the beginning."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and len(shape) > 1:
        return f"{name}, {type(value).__name__} of shape {tuple(shape)},"
    text = repr(value)
    return f"{name}={text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'}"
