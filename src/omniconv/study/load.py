"""`load_images`: from packages that ship images, a folder, an archive, or a data set on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from omniconv.errors import DataError, StorageError
from omniconv.outside import need_package
from omniconv.study.images import EXTRA, LabelledImages
from omniconv.study.sources import is_saved, read_archive, read_folder, read_saved

TEXTURES: Final = ("brick", "grass", "gravel")
PATCH: Final = 16


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
    path = Path(source)
    if path.suffix.lower() == ".npz" and path.is_file():
        return read_archive(path)
    if path.is_dir():
        return read_saved(path) if is_saved(path) else read_folder(path)
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
