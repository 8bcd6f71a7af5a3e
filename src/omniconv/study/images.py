"""`LabelledImages`: images of one size, each with a class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError
from omniconv.records import dataclass

Pixels: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]

EXTRA: Final = "study"
SMALLEST: Final = 4
"""Pixels on a side; smaller images are left out."""
LARGEST: Final = 64
"""Pixels on a side that images are used with; larger ones, and those of mixed sizes, are brought to :data:`COMMON`."""
COMMON: Final = 32


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of one size, each with a class.

    Attributes:
        name: of the source.
        task: what is to be told apart.
        x: ``(n, channels, size, size)``, from 0 to 1.
        labels: the class of each.
        classes: their names.
        left_out: images that could not be used, and why.
    """

    name: str
    task: str
    x: Pixels
    labels: Labels
    classes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What tells these images from others."""
        state = hashlib.blake2b(digest_size=16)
        for part in (self.x, self.labels):
            state.update(np.ascontiguousarray(part).tobytes())
        return state.hexdigest()

    def take(self, most: int) -> LabelledImages:
        """At most so many, in turns from each class, in their order."""
        if most >= len(self.labels):
            return self
        turn = np.empty(len(self.labels), np.int64)
        for label in range(len(self.classes)):
            places = np.flatnonzero(self.labels == label)
            turn[places] = np.arange(len(places))
        kept = np.sort(np.lexsort((np.arange(len(turn)), turn))[:most])
        return LabelledImages(self.name, self.task, self.x[kept], self.labels[kept], self.classes, self.left_out)


def check_labels(labels: npt.NDArray[np.generic], count: int, where: str) -> npt.NDArray[np.generic]:
    """Labels as they are given: one for each image.

    Raises:
        DataError: they are not.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "iubU":
        raise DataError(
            f"labels of {labels.dtype} and shape {labels.shape} for {count} images",
            need="an integer or a text for each image",
            at=where,
        )
    return labels


def name_classes(labels: Sequence[object] | npt.NDArray[np.generic]) -> tuple[Labels, tuple[str, ...]]:
    """Labels as numbers from zero, and the names of the classes in order."""
    names, found = np.unique(np.asarray(labels), return_inverse=True)
    return found.astype(np.int64).reshape(-1), tuple(str(name) for name in names)
