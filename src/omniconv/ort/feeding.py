"""What a run is given, checked: names of outputs, values of inputs, options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import DataError
from omniconv.integers import read_sequence
from omniconv.ort.failures import Fail, InvalidArgument, fail
from omniconv.ort.options import RunOptions
from omniconv.ort.value import AnyArray, OrtValue

LONGEST: Final = 120
"""Characters of a name in a message."""


def check_names(names: Any, known: Sequence[str]) -> list[str] | None:
    """Names of outputs, of those that are known; ``None`` for all.

    Raises:
        DataError, InvalidArgument: others, or something else than names.
    """
    if names is None:
        return None
    found = read_sequence(names)
    if found is None:
        raise DataError(f"output_names is a {type(names).__name__}", need="a list of names", fix=str(known))
    for name in found:
        if not isinstance(name, str):
            raise DataError(f"output_names holds a {type(name).__name__}", need="names", fix=str(known))
        if name not in known:
            listed = ", ".join(map(repr, known))
            raise fail(InvalidArgument, f"output {name[:LONGEST]!r} is unknown", need=f"one of {listed}")
    return list(found) or None


def read_value(name: str, value: Any, dtype: np.dtype[Any] | None) -> AnyArray:
    """What is given for an input, as an array. Numbers that are no array become one of this type, if that changes none.

    Raises:
        DataError, InvalidArgument: something else.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, OrtValue):
        return value.array
    if hasattr(value, "__dlpack__"):
        return OrtValue.from_dlpack(value).array
    if not isinstance(value, Sequence | np.generic) or isinstance(value, str | bytes):
        raise DataError(f"input {name!r} is a {type(value).__name__}", need="a NumPy array", at=name)
    return _read_numbers(name, value, dtype)


def _read_numbers(name: str, value: Any, dtype: np.dtype[Any] | None) -> AnyArray:
    """Lists of numbers as an array of a type, if they have the same values in it, or are floats for floats."""
    try:
        found = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise fail(InvalidArgument, f"input {name!r} is no array: {error}", need="lists of equal lengths") from None
    if dtype is None or found.dtype == dtype:
        return found
    if found.dtype.kind not in "biuf" or (isinstance(value, np.generic)):
        raise DataError(f"input {name!r} is {found.dtype}", need=str(dtype), fix=f"numpy.asarray(x, numpy.{dtype})")
    with np.errstate(all="ignore"):
        converted = found.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(converted, found):
        raise fail(InvalidArgument, f"input {name!r} holds numbers that are no {dtype}", need=f"numbers of {dtype}")
    return converted


def check_run(options: Any) -> None:
    """Look at the options of a run.

    Raises:
        Fail: they call it off.
        DataError: they are none.
    """
    if options is None:
        return
    if not isinstance(options, RunOptions):
        kind = f"{type(options).__module__}.{type(options).__name__}"
        raise DataError(f"run_options is a {kind}", need="omniconv.ort.RunOptions")
    if options.terminate:
        raise fail(Fail, "the run was called off by its options", need="terminate=False")
