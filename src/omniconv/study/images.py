"""`LabelledImages`, and where they come from: packages that ship them, a folder, an archive, a data set on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, StorageError
from omniconv.outside import need_package

Pixels: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.int64]

EXTRA: Final = "study"
SMALLEST: Final = 4
"""Pixels on a side; smaller images are left out."""
LARGEST: Final = 64
"""Pixels on a side that images are used with; larger ones, and those of mixed sizes, are brought to :data:`COMMON`."""
COMMON: Final = 32
TEXTURES: Final = ("brick", "grass", "gravel")
PATCH: Final = 16


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


def load_images(source: object) -> LabelledImages:
    """Images by the name or the path of their source.

    Args:
        source: ``"digits"``, ``"textures"``, or the path of a folder with a folder for each class, of an ``.npz``
            archive, or of a folder that the library ``datasets`` has saved.

    Raises:
        UnsupportedError: a package that is needed is not installed.
        StorageError: there is nothing, or it cannot be read.
        DataError: what is there are no labelled images.
    """
    if not isinstance(source, str) or not source or "\0" in source:
        raise DataError(f"data={source!r}", need='"digits", "textures" or a path')
    if source == "digits":
        return _load_digits()
    if source == "textures":
        return _load_textures()
    from omniconv.study import sources

    path = Path(source)
    if path.suffix.lower() == ".npz" and path.is_file():
        return sources.read_archive(path)
    if path.is_dir():
        return sources.read_saved(path) if sources.is_saved(path) else sources.read_folder(path)
    raise StorageError(
        f"no images at {source!r}", need='"digits", "textures", a folder with a folder for each class, or an .npz file'
    )


def _load_digits() -> LabelledImages:
    need_package("sklearn", "scikit-learn", EXTRA)
    from sklearn.datasets import load_digits

    found = load_digits()
    x = np.asarray(found.images, np.float32)[:, None] / np.float32(16)
    labels = np.asarray(found.target, np.int64)
    return LabelledImages("digits", "handwritten digits of scikit-learn", x, labels, tuple("0123456789"))


def _load_textures() -> LabelledImages:
    """Three photographs of surfaces in patches that do not overlap."""
    need_package("skimage", "scikit-image", EXTRA)
    from skimage import data

    parts, labels = [], []
    for label, name in enumerate(TEXTURES):
        photograph = np.asarray(getattr(data, name)(), np.float32) / np.float32(255)
        rows, columns = (size // PATCH for size in photograph.shape)
        cut = photograph[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
        parts.append(cut.swapaxes(1, 2).reshape(-1, 1, PATCH, PATCH))
        labels.append(np.full(rows * columns, label, np.int64))
    task = f"patches of {PATCH} x {PATCH} pixels of three photographs of scikit-image, by what they show"
    return LabelledImages("textures", task, np.concatenate(parts), np.concatenate(labels), TEXTURES)


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
