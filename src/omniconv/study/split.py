"""`split_images`: what a network learns from, what chooses its settings, and what it is judged by."""

from __future__ import annotations

from typing import Final

import numpy as np

from omniconv.errors import DataError
from omniconv.records import dataclass
from omniconv.study.images import LabelledImages, Labels, Pixels

SHARES: Final = {"training": 0.35, "validation": 0.15, "test": 0.5}
"""Half is for the test: what differs between kinds is small, and few images would not show it."""
FEWEST: Final = 5
"""Images of a class: two to learn from, one to choose by, two to judge by."""


@dataclass(frozen=True, eq=False)
class DataSplit:
    """The three parts, images with mean 0 and variance 1 over those that are learned from."""

    train: tuple[Pixels, Labels]
    validation: tuple[Pixels, Labels]
    test: tuple[Pixels, Labels]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images of each."""
        return len(self.train[1]), len(self.validation[1]), len(self.test[1])


def count_parts(images: int) -> tuple[int, int, int]:
    """How the images of one class are divided.

    Example:
        >>> count_parts(100), count_parts(5)
        ((35, 15, 50), (2, 1, 2))
    """
    train = max(2, int(images * SHARES["training"]))
    validation = max(1, int(images * SHARES["validation"]))
    return train, validation, images - train - validation


def split_images(images: LabelledImages, seed: int) -> DataSplit:
    """Divide every class in the same shares, at random.

    Raises:
        DataError: one class, or one with fewer images than that takes.
    """
    counts = np.bincount(images.labels, minlength=len(images.classes))
    if len(images.classes) < 2:
        raise DataError(f"{len(images.classes)} class in {images.name!r}", need="two or more")
    least = int(counts.argmin())
    if counts[least] < FEWEST:
        raise DataError(
            f"class {images.classes[least]!r} has {counts[least]} image" + ("s" if counts[least] != 1 else ""),
            need=f"at least {FEWEST} of each class, for training, validation and test",
            fix="more images of it, or without that class",
            at=images.name,
        )
    rng = np.random.default_rng([seed, 1])
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in range(len(images.classes)):
        places = rng.permutation(np.flatnonzero(images.labels == label))
        ends = np.cumsum(count_parts(len(places)))[:-1]
        for part, chosen in zip(parts, np.split(places, ends), strict=True):
            part.extend(chosen.tolist())
    train = images.x[parts[0]]
    mean, deviation = float(train.mean(dtype=np.float64)), float(train.std(dtype=np.float64)) or 1.0

    def take(part: list[int]) -> tuple[Pixels, Labels]:
        return ((images.x[part] - mean) / deviation).astype(np.float32), images.labels[part]

    return DataSplit(take(parts[0]), take(parts[1]), take(parts[2]))
