"""`Record`: what every analysis returns is a frozen dataclass that can be written as JSON."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np

from omniconv.spec import Chain, Conv


class Record:
    """Base of the results of analyses; a frozen dataclass derives from it."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The record as dictionaries, lists, numbers and texts, ready for ``json.dumps``.

        Arrays become nested lists, fractions become whole numbers or floats, infinities the texts ``"inf"`` and
        ``"-inf"``, specs their one-line text.
        """
        result = to_plain(self)
        assert isinstance(result, dict)
        return result


def to_plain(value: Any) -> Any:
    """Anything a record holds, in JSON's own types.

    Example:
        >>> to_plain((Fraction(1, 2), Fraction(4, 2), np.ones(2, bool), float("inf")))
        [0.5, 2, [True, True], 'inf']
    """
    if isinstance(value, Conv | Chain):
        return value.text()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name)) for name in names if not name.startswith("_")}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, range):
        return [value.start, value.stop]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [to_plain(item) for item in value]
    return value
