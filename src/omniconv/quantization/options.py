"""`QuantOptions`: what is asked of quantising, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omniconv.choices import as_choice
from omniconv.errors import SpecError
from omniconv.integers import as_flag, read_sequence, state
from omniconv.processors import take_threads
from omniconv.quantization.ranges import RANGES
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantOptions:
    """See :func:`omniconv.quantize`; ``sensitivity`` measures each layer alone, ``time`` at each precision, without
    choosing by it.
    """

    ranges: str = "mse"
    percentile: float = 99.99
    per_channel: bool = True
    reduce_range: bool = False
    equalize: bool = True
    correct_bias: bool = True
    max_drop: float | None = None
    min_snr: float | None = None
    sensitivity: bool = False
    time: bool = False
    fastest: bool = False
    bfloat16: bool = False
    keep: Sequence[str] = ()
    threads: int | None = None
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        flags = (
            "per_channel",
            "reduce_range",
            "equalize",
            "correct_bias",
            "sensitivity",
            "time",
            "fastest",
            "bfloat16",
        )
        checked: dict[str, Any] = {name: as_flag(name, getattr(self, name)) for name in flags}
        checked["ranges"] = as_choice("ranges", self.ranges, RANGES)
        checked["percentile"] = as_number("percentile", self.percentile, 50, 100)
        if self.max_drop is not None:
            checked["max_drop"] = as_number("max_drop", self.max_drop, 0, math.inf)
        if self.min_snr is not None:
            checked["min_snr"] = as_number("min_snr", self.min_snr, -math.inf, math.inf)
        take_threads(self.threads)
        names = read_sequence(self.keep)
        if names is None or not all(isinstance(name, str) for name in names):
            raise SpecError(
                state("keep", self.keep, "is no list of names"), need="names of layers", fix='keep=["conv1"]'
            )
        checked["keep"] = tuple(names)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def as_number(name: str, value: object, low: float, high: float) -> float:
    """One finite number of any library as a Python `float`, from ``low`` to ``high``.

    Example:
        >>> as_number("max_drop", 1, 0, 100)
        1.0

    Raises:
        SpecError: another value, or none that is a number.
    """
    need = f"a number from {low:g} to {high:g}" if math.isfinite(low) or math.isfinite(high) else "a finite number"
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        raise SpecError(state(name, value, "is not a number"), need=need)
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - an object may raise anything here
        raise SpecError(state(name, value, "is not a number"), need=need) from None
    if not math.isfinite(number) or not low <= number <= high:
        raise SpecError(state(name, value, "is out of range"), need=need)
    return number
