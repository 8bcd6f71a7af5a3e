"""`StudySettings`: what decides the numbers of a study, all of it chosen before the run and kept with the result."""

from __future__ import annotations

import math
from typing import Any, Final

from omniconv.errors import SpecError
from omniconv.integers import as_integer, read_sequence, state
from omniconv.records import dataclass
from omniconv.study.variants import STANDARD, find_variants

RATES: Final = (3e-3, 1e-2, 3e-2)
"""Rates of learning that are tried for each kind; the one with the best validation is used for all seeds."""
BATCH: Final = 64
WEIGHT_DECAY: Final = 0.01
PATIENCE: Final = 6
"""A training ends after so many epochs without a better validation. The best epoch counts, for every kind."""
FEWEST_EPOCHS: Final = 2
"""That a limit of time may leave."""


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What is studied, and how long.

    Example:
        >>> StudySettings(kinds=("dilated",), seeds=3).kinds
        ('standard', 'dilated')

    Attributes:
        kinds: names of :data:`omniconv.study.variants.VARIANTS`; all by default, and the standard one always.
        seeds: networks of each kind, paired by their first weights and the order of their data.
        first_seed: the seeds are the numbers from this one on.
        width: channels of the first layer; the last ones have twice as many.
        epochs: of each training, at most.
        decoder_steps: of training of each decoder.
        most_images: that are used, drawn evenly from the classes; all by default.
        minutes: that the whole may take; fewer epochs are trained where the estimate is longer [min].

    Raises:
        SpecError: a value out of range, or a kind that is not known.
    """

    kinds: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    width: int = 16
    epochs: int = 16
    decoder_steps: int = 300
    most_images: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = read_sequence(self.kinds)
        if given is None or not all(isinstance(name, str) for name in given):
            fix = 'kinds=("grouped_2", "dilated")'
            raise SpecError(state("kinds", self.kinds, "are no names"), need="a sequence of names", fix=fix)
        found = find_variants(tuple(given))
        if len(found) < 2:
            raise SpecError(state("kinds", self.kinds, "leave nothing to compare"), need=f"one beside {STANDARD}")
        object.__setattr__(self, "kinds", tuple(item.name for item in found))
        for name, low, high in (
            ("seeds", 2, 1000),
            ("first_seed", 0, 2**31 - 2000),
            ("width", 4, 512),
            ("epochs", 1, 10_000),
            ("decoder_steps", 1, 100_000),
        ):
            object.__setattr__(self, name, as_integer(name, getattr(self, name), low, high))
        if self.most_images is not None:
            object.__setattr__(self, "most_images", as_integer("most_images", self.most_images, 20))
        object.__setattr__(self, "minutes", _read_minutes(self.minutes))


def _read_minutes(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise SpecError(state("minutes", value, "is no time"), need="a positive number of minutes", fix="minutes=8")
    return float(value)
