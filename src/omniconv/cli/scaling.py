"""Options that scale the values of pictures, for the commands that read many."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import typer

from omniconv.cli.exits import UsageProblemError
from omniconv.records import dataclass

Multiply: TypeAlias = Annotated[float, typer.Option("--scale", help="Multiply values, e.g. 0.00392157 for 1/255.")]
Mean: TypeAlias = Annotated[str, typer.Option("--mean", help="Subtract, for all channels or each, after --scale.")]
Deviation: TypeAlias = Annotated[str, typer.Option("--std", help="Divide by, for all channels or each, after --mean.")]


@dataclass(frozen=True, slots=True)
class Scaling:
    """``(x scale - mean) / std``, with a mean and a standard deviation for all channels or for each; channels last."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Of one picture."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return np.asarray((x * self.scale - mean) / std, np.float64)


def read_scaling(scale: float, mean: str, std: str) -> Scaling | None:
    """What the three options ask for; ``None`` where that is nothing.

    Raises:
        UsageProblemError: texts that are no numbers, or a zero to divide by.
    """
    if (scale, mean, std) == (1.0, "0", "1"):
        return None
    found = Scaling(scale, _read_numbers("--mean", mean), _read_numbers("--std", std))
    if 0.0 in found.std:
        raise UsageProblemError(f"--std {std}; need numbers that are not zero")
    return found


def _read_numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in text.split(","))
    except ValueError:
        raise UsageProblemError(f"{option} {text}; need numbers, e.g. 0.485,0.456,0.406") from None
