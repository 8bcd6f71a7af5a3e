"""Looks for integers of other libraries inside descriptions, programs and plans, where only Python's may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

import numpy as np


def find_foreign(value: Any, path: str = "") -> Iterator[str]:
    """Where a number that is not Python's lies inside a value; the elements of arrays do not count."""
    if isinstance(value, bool | int | float | str | bytes | np.ndarray | Fraction | type(None)):
        if isinstance(value, float | int) and type(value) not in (bool, int, float):
            yield f"{path}: {value!r}"
    elif isinstance(value, np.generic) or hasattr(value, "__index__"):
        yield f"{path}: {value!r}"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_foreign(key, f"{path} key")
            yield from find_foreign(item, f"{path}[{key!r}]")
    elif isinstance(value, tuple | list | set | frozenset):
        for index, item in enumerate(value):
            yield from find_foreign(item, f"{path}[{index}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from find_foreign(getattr(value, item.name), f"{path}.{item.name}")
