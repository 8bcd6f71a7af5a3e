"""Integers as they are given: whatever has ``__index__`` becomes a Python `int`, before anything is computed or kept.

NumPy's integers overflow silently, and they equal (and hash as) Python's, so that one of them in a cache would answer
for the other. Every public function therefore takes its sizes through this module, and inside there are only `int`,
and an :class:`~omniconv.open_size.OpenSize` where something is made for many sizes at once.
The one division that Python lacks, :func:`ceil_div`, is here as well.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

from omniconv.errors import OmniconvError, ShapeError, SpecError
from omniconv.open_size import OpenSize

LIMIT: Final = 2**31 - 1
"""No size, stride, dilation, padding, channel count or number of threads may be larger."""

_NO_SEQUENCES: Final = (str, bytes, bytearray, memoryview, Mapping, AbstractSet)
_LONGEST: Final = 80  # characters of a value in a message


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up.

    Example:
        >>> ceil_div(7, 3), ceil_div(6, 3), ceil_div(-7, 3), ceil_div(0, 3)
        (3, 2, -2, 0)
    """
    return -(a // -b)


def say_count(count: int, noun: str) -> str:
    """A number of things in words, for tables and messages.

    Example:
        >>> say_count(1, "thread"), say_count(2, "thread"), say_count(0, "choice")
        ('1 thread', '2 threads', '0 choices')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def as_integer(
    name: str,
    value: object,
    low: int | None = 1,
    high: int | None = LIMIT,
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
        low, high: the range that is allowed; ``None`` for no end.
        error: the class that is raised.
        fix: a value that would do, for messages.
        at: the problem line, for messages.
    """
    number = read_integer(value)
    if number is None:
        raise error(state(name, value, "is not an integer"), need=_rule("an integer", low, high), fix=fix, at=at)
    if not _within(number, low, high):
        raise error(f"{name}={number} is out of range", need=_rule("an integer", low, high), fix=fix, at=at)
    return number


def as_integers(
    name: str,
    value: object,
    low: int | None = 1,
    high: int | None = LIMIT,
    *,
    error: type[OmniconvError] = SpecError,
    need: str = "a sequence of integers",
    fix: str = "",
    at: str = "",
) -> tuple[int, ...]:
    """A sequence of integers of any library as a tuple of Python `int`, each from ``low`` to ``high``.

    Tuples, lists, ``torch.Size``, ranges, one-dimensional arrays and tensors are sequences; text, bytes, mappings and
    sets are none.

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
        raise error(state(name, value, "is not a sequence of integers"), need=need, fix=fix, at=at)
    numbers = []
    for item in items:
        number = read_integer(item)
        if number is None:
            raise error(state(name, value, "is not made of integers"), need=need, fix=fix, at=at)
        numbers.append(number)
    if not all(_within(number, low, high) for number in numbers):
        problem = state(name, tuple(numbers), "is out of range")
        raise error(problem, need=_rule("integers", low, high), fix=fix, at=at)
    return tuple(numbers)


def as_shape(
    value: object, name: str = "shape", *, need: str = "(N, C, *spatial)", fix: str = "", at: str = ""
) -> tuple[int, ...]:
    """A shape as a tuple of Python `int`, each at least 1.

    Example:
        >>> import numpy as np
        >>> as_shape((1, 3, *np.array([8, 8], np.int32)))
        (1, 3, 8, 8)

    Args:
        value, name, fix, at: as for :func:`as_integer`.
        need: the form that was expected, for messages.

    Raises:
        ShapeError: not a sequence of integers, or a size out of range.
    """
    shape = as_integers(name, value, None, None, error=ShapeError, need=need, fix=fix, at=at)
    if not all(1 <= size <= LIMIT for size in shape):
        problem = state(name, shape, "has an empty, negative or absurd axis")
        raise ShapeError(problem, need=f"sizes from 1 to {LIMIT}", at=at)
    return shape


def as_flag(name: str, value: object, *, at: str = "") -> bool:
    """A truth value of any library as a Python `bool`. Numbers and text are none.

    Raises:
        SpecError: something else.
    """
    if isinstance(value, bool):
        return value
    if "bool" in str(getattr(value, "dtype", "")) and not getattr(value, "ndim", 0):
        return bool(value)
    raise SpecError(state(name, value, "is not a truth value"), need="True or False", at=at)


def read_integer(value: object) -> int | None:
    """The Python `int` that a value stands for, or ``None`` where it is no integer."""
    if type(value) is int or isinstance(value, OpenSize):
        return cast("int", value)
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
    return None if axes == 0 else tuple(value)


def _within(number: int, low: int | None, high: int | None) -> bool:
    return (low is None or low <= number) and (high is None or number <= high)


def _rule(what: str, low: int | None, high: int | None) -> str:
    if low is None or high is None:
        return what if low is None else f"{what} of at least {low}"
    return f"{what} from {low} to {high}"


def state(name: str, value: object, problem: str) -> str:
    """What is wrong with an argument, for a message: of arrays with several axes their shape, of long values the start.

    Example:
        >>> state("threads", "2", "is not an integer")
        "threads='2' is not an integer"
    """
    axes: object = getattr(value, "ndim", 0)
    if isinstance(axes, int) and axes > 1:
        return f"{name} is {type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
    text = repr(value)
    return f"{name}={text if len(text) <= _LONGEST else text[: _LONGEST - 3] + '...'} {problem}"
