"""The caller's arrays as they come in: named, of one type, in host memory; copied only when shapes are checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, ShapeError
from omniconv.spec import Shape

Array: TypeAlias = npt.NDArray[Any]


def serves(x: Any, shape: Shape, dtype: np.dtype[Any]) -> bool:
    """Whether an input can be read as it is. Most can, and each question takes time of every call."""
    return type(x) is np.ndarray and x.dtype is dtype and x.shape == shape and x.flags.carray


def read_array(name: str, x: Any, dtype: np.dtype[Any], at: str, what: str = "input") -> Array:
    """An input, or what ``what`` calls it, as an array of ``dtype``, as it lies in memory.

    Raises:
        DataError: not an array in host memory, or of another type.
    """
    if not isinstance(x, np.ndarray):
        if not hasattr(x, "__dlpack__"):
            raise DataError(
                f"{what} {name!r} is a {type(x).__name__}",
                need="a NumPy array or an object with __dlpack__",
                fix=f"numpy.asarray(x, numpy.{dtype})",
                at=at,
            )
        try:
            x = np.from_dlpack(x)
        except Exception as error:
            problem = f"{what} {name!r} cannot be read as a NumPy array: {error}"
            raise DataError(problem, need="an array in host memory, without gradients", at=at) from error
    if x.dtype != dtype:
        raise DataError(f"{what} {name!r} has dtype {x.dtype}", need=str(dtype), fix=f"x.astype(numpy.{dtype})", at=at)
    found: Array = x
    return found


def arrange(x: Array) -> Array:
    """An array of a shape that was checked, contiguous; other orders in memory are copied."""
    return x if x.flags.c_contiguous and x.flags.aligned else np.array(x, order="C")


def read_names(inputs: Any, names: Collection[str], at: str, what: str = "inputs") -> None:
    """Check that inputs, or what ``what`` calls them, come by name, and which.

    Raises:
        ShapeError: missing or unknown inputs.
        DataError: not arrays by name.
    """
    if not isinstance(inputs, Mapping):
        raise DataError(f"{what} is a {type(inputs).__name__}", need="arrays by name", fix="{name: array}", at=at)
    if set(inputs) != set(names):
        given = sorted(map(str, inputs))
        raise ShapeError(f"{what} {given} were given", need=f"exactly {sorted(names)}", at=at)
