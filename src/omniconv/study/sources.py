"""Labelled images that users have: folders by class, ``.npz`` archives, and what the library ``datasets`` saves."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, OmniconvError, StorageError
from omniconv.limits import check_memory, memory_limit
from omniconv.mapping.pictures import FORMATS, PICTURES, check_size, convert
from omniconv.outside import need_package, storing
from omniconv.study.images import COMMON, EXTRA, LARGEST, SMALLEST, LabelledImages, check_labels, name_classes

_IMAGES: Final = ("x", "images", "x_train", "arr_0")
_LABELS: Final = ("y", "labels", "y_train", "arr_1")
"""Names of the arrays of an archive, the first that is there."""
_WHOLE: Final = "a file that is whole"
_MARKS: Final = ("dataset_info.json", "dataset_dict.json")


def read_folder(path: Path) -> LabelledImages:
    """Pictures below a folder, by the name of the folder in it that they lie in. What cannot be used is left out.

    Raises:
        DataError: no two folders with a picture each.
    """
    need_package("PIL", "pillow", EXTRA)
    with storing(f"reading the folder {path}", fix="a folder that you may read"):
        folders = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    left_out: list[str] = []
    found: list[Any] = []
    labels: list[str] = []
    held = 0
    for folder in folders:
        for file in _list_pictures(folder):
            try:
                picture = _open_file(file)
            except OmniconvError as error:
                left_out.append(f"{folder.name}/{file.name}: {error.problem}")
                continue
            held += picture.nbytes
            check_memory(4 * held, "the images", at=str(path))
            found.append(picture)
            labels.append(folder.name)
    if len(set(labels)) < 2:
        reasons = f" ({left_out[0]})" if left_out else ""
        raise DataError(
            f"{len(set(labels))} classes with a picture in {path.name!r}{reasons}",
            need="a folder for each of two classes or more, with pictures in it",
            fix="cats/1.png and dogs/1.png",
        )
    numbers, classes = name_classes(labels)
    return LabelledImages(
        path.name,
        f"pictures of {len(classes)} folders, by folder",
        _make_alike(found),
        numbers,
        classes,
        tuple(left_out),
    )


def _list_pictures(folder: Path) -> list[Path]:
    with storing(f"reading the folder {folder}", fix="a folder that you may read"):
        names = [Path(base) / name for base, _, files in os.walk(folder) for name in files]
    return sorted(name for name in names if name.suffix.lower() in PICTURES)


def _open_file(file: Path) -> npt.NDArray[Any]:
    """The picture of a file; see `_open`."""
    if not file.is_file():  # to open a pipe would wait for a writer
        raise DataError(f"{file.name!r} is no file", need="a picture")
    with storing("it cannot be read", fix="a file that you may read"):
        opened = file.open("rb")
    return _open(opened)


def _open(file: BinaryIO) -> npt.NDArray[Any]:
    """A picture as grey ``(h, w)`` or colour ``(h, w, 3)``, of 8 bits, no larger than it is used.

    Raises:
        OmniconvError: it is broken, or too small.
    """
    from PIL import Image

    with storing("it cannot be read", fix=_WHOLE), file, Image.open(file, formats=FORMATS) as picture:
        grey = picture.mode in ("1", "L")
        values, _ = convert(picture, 1 if grey else 3, check_size(memory_limit() // 8, 4))
        if min(values.shape[:2]) < SMALLEST:
            raise DataError(
                f"{values.shape[1]} x {values.shape[0]} pixels are too few", need=f"{SMALLEST} x {SMALLEST} at least"
            )
        if max(values.shape[:2]) > LARGEST:
            values = _resize(values, COMMON)
    return values


def _resize(values: npt.NDArray[Any], size: int) -> npt.NDArray[np.uint8]:
    """A picture squeezed into a square."""
    from PIL import Image

    picture = Image.fromarray(values)
    return np.asarray(
        picture.resize(
            (size, size), Image.Resampling.BOX if min(values.shape[:2]) > size else Image.Resampling.BILINEAR
        )
    )


def _make_alike(pictures: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Pictures as ``(n, channels, size, size)`` from 0 to 1: grey where all are, of one size."""
    colour = any(picture.ndim == 3 for picture in pictures)
    sizes = {picture.shape[:2] for picture in pictures}
    height, width = next(iter(sizes))
    alike = len(sizes) == 1 and height == width
    size = height if alike else COMMON
    check_memory(8 * len(pictures) * (3 if colour else 1) * size * size, "the images")
    x = np.empty((len(pictures), 3 if colour else 1, size, size), np.float32)
    for place, picture in enumerate(pictures):
        values = (picture if alike else _resize(picture, size)).astype(np.float32) / 255
        x[place] = values.transpose(2, 0, 1) if values.ndim == 3 else values[None]
    return x


def read_archive(path: Path) -> LabelledImages:
    """Two arrays: images ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``, and their labels.

    Raises:
        StorageError: a damaged file.
        DataError: other arrays.
    """
    _check_archive(path)
    with storing(f"reading {path.name!r}", fix=_WHOLE), np.load(path, allow_pickle=False) as archive:
        names = [next((name for name in known if name in archive.files), None) for known in (_IMAGES, _LABELS)]
        if None in names:
            raise DataError(
                f"{path.name!r} has the arrays {', '.join(archive.files) or 'none'}",
                need=f"images ({', '.join(_IMAGES)}) and labels ({', '.join(_LABELS)})",
                fix="numpy.savez(path, x=images, y=labels)",
            )
        images, labels = (np.asarray(archive[name]) for name in names if name is not None)
    x = _read_images(images, path.name)
    numbers, classes = name_classes(check_labels(labels.squeeze() if labels.ndim == 2 else labels, len(x), path.name))
    return LabelledImages(path.name, f"images of {len(classes)} classes", x, numbers, classes)


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than memory holds, before it is unpacked."""
    with storing(f"reading {path.name!r}", fix=_WHOLE), zipfile.ZipFile(path) as archive:
        check_memory(5 * sum(item.file_size for item in archive.infolist()), "the images", at=path.name)


def _read_images(images: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    if images.ndim not in (3, 4) or images.dtype.kind not in "uif" or not len(images):
        raise DataError(
            f"images of {images.dtype} and shape {images.shape}",
            need="numbers, (n, h, w), (n, h, w, c) or (n, c, h, w)",
            at=where,
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        images = images.transpose(0, 3, 1, 2)
    n, channels, height, width = images.shape
    if channels > 16 or min(height, width) < SMALLEST or height != width or height > 4 * LARGEST:
        raise DataError(
            f"images of {channels} channels and {height} x {width} pixels",
            need=f"squares of {SMALLEST} to {4 * LARGEST} pixels with up to 16 channels",
            at=where,
        )
    x = images.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError("images with values that are not finite", need="finite numbers", at=where)
    low, high = float(x.min()), float(x.max())
    x = (x - low) / (high - low) if high > low else np.zeros_like(x)
    if height > LARGEST:
        step = height // COMMON
        kept = step * COMMON
        x = x[:, :, :kept, :kept].reshape(n, channels, COMMON, step, COMMON, step).mean((3, 5), dtype=np.float32)
    return np.ascontiguousarray(x)


def is_saved(path: Path) -> bool:
    """Whether the library ``datasets`` has saved a folder."""
    return any((path / mark).is_file() for mark in _MARKS)


def read_saved(path: Path) -> LabelledImages:
    """A data set as ``save_to_disk`` of the library ``datasets`` writes it: its part ``train`` where it has parts.

    Raises:
        UnsupportedError: pyarrow is not installed.
        DataError: there is no column of images, or none of classes.
    """
    need_package("pyarrow", "pyarrow", EXTRA)
    need_package("PIL", "pillow", EXTRA)
    parts = _read_description(path / _MARKS[1]).get("splits") if (path / _MARKS[1]).is_file() else None
    if isinstance(parts, list) and parts:
        part = "train" if "train" in parts else parts[0]
        if not isinstance(part, str) or Path(part).name != part:
            raise DataError(f"a part called {part!r} in {path.name!r}", need="the name of a folder")
        folder = path / part
    else:
        folder = path
    features = _read_description(folder / _MARKS[0]).get("features")
    kinds = (
        {name: item.get("_type") for name, item in features.items() if isinstance(item, dict)}
        if isinstance(features, dict)
        else {}
    )
    column = next((name for name, kind in kinds.items() if kind == "Image"), None)
    target = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    if column is None or target is None:
        listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
        raise DataError(f"{path.name!r} has the columns {listed}", need="one of Image and one of ClassLabel")
    assert isinstance(features, dict)
    names = features[target].get("names")
    pictures: list[npt.NDArray[Any]] = []
    labels: list[int] = []
    left_out: list[str] = []
    held = 0
    for place, (content, label) in enumerate(_read_rows(folder, column, target)):
        try:
            if not isinstance(content, bytes) or not isinstance(label, int):
                raise DataError("no picture, or no class", need="both")
            picture = _open(BytesIO(content))
        except OmniconvError as error:
            left_out.append(f"row {place}: {error.problem}")
            continue
        held += picture.nbytes
        check_memory(4 * held, "the images", at=str(path))
        pictures.append(picture)
        labels.append(label)
    numbers, classes = name_classes(labels)
    if len(classes) < 2:
        raise DataError(f"{len(classes)} classes with a picture in {path.name!r}", need="two or more")
    if isinstance(names, list) and all(int(name) < len(names) for name in classes):
        classes = tuple(str(names[int(name)]) for name in classes)
    task = f"images of a data set of {len(classes)} classes"
    return LabelledImages(path.name, task, _make_alike(pictures), numbers, classes, tuple(left_out))


def _read_description(file: Path) -> dict[str, Any]:
    with storing(f"reading {file.name!r}", fix=_WHOLE):
        if file.stat().st_size > 2**24:
            raise DataError(f"{file.name!r} has {file.stat().st_size} bytes", need="a description of a data set")
        found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise DataError(f"{file.name!r} holds a {type(found).__name__}", need="a description of a data set")
    return found


def _read_rows(folder: Path, column: str, target: str) -> Iterator[tuple[Any, Any]]:
    """The picture and the class of each row. Files are mapped, and read batch by batch."""
    import pyarrow as pa

    files: Iterable[Path] = sorted(folder.glob("*.arrow"))
    if not files:
        raise StorageError(f"no .arrow file in {folder.name!r}", need="what save_to_disk wrote")
    for file in files:
        with storing(f"reading {file.name!r}", fix=_WHOLE), pa.memory_map(str(file)) as mapped:
            for batch in pa.ipc.open_stream(mapped):
                pictures = batch.column(batch.schema.get_field_index(column))
                kept = pictures.field("bytes") if pa.types.is_struct(pictures.type) else pictures
                for content, label in zip(kept, batch.column(batch.schema.get_field_index(target)), strict=True):
                    yield content.as_py(), label.as_py()
