"""What is read in tiles: what the caller gives, or what a path leads to, with what its description says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from omniconv.errors import DataError, ShapeError, StorageError
from omniconv.integers import as_integer
from omniconv.outside import need_package, storing
from omniconv.reference.weights import detach
from omniconv.tiles.geo import GEO_TAGS, open_raster
from omniconv.tiles.ome import open_group
from omniconv.tiles.place import OpenedImage
from omniconv.tiles.storage import TIFF, is_dask, is_zarr
from omniconv.tiles.subject import TileSubject


def open_image(x: Any) -> Any:
    """An array whose parts can be read; see :func:`open_source`."""
    return open_source(x).array


def open_source(x: Any, level: int = 0) -> OpenedImage:
    """What is given, or what a path leads to: of several resolutions one, the finest first.

    Raises:
        DataError: something else, or a resolution that it has not.
        StorageError: a file that cannot be read.
    """
    if isinstance(x, str | os.PathLike):
        return _open_path(Path(x), level)
    if hasattr(x, "array_keys") and type(x).__module__.startswith("zarr"):
        return open_group(x, x, level)
    if level:
        raise DataError(f"level={level} of an image with one resolution", need="level=0")
    if isinstance(x, np.ndarray) or is_zarr(x) or is_dask(x):
        return OpenedImage(x, level, x)
    if hasattr(x, "__dlpack__"):
        with suppress(TypeError, ValueError, RuntimeError, BufferError):
            exporting: Any = detach(x)
            return OpenedImage(x, level, np.from_dlpack(exporting))
    raise DataError(
        f"an image of type {type(x).__name__}",
        need="a NumPy array, a Zarr or Dask array, or a path to .npy, .zarr or .tif",
    )


def open_sources(
    subject: TileSubject, given: Mapping[str, Any], level: int | Mapping[str, int]
) -> dict[str, OpenedImage]:
    """All inputs of a network, of images the resolutions that are asked for.

    Raises:
        ShapeError: levels of inputs that are no images.
    """
    names = [item.name for item in subject.images]
    if isinstance(level, Mapping) and not set(level) <= set(names):
        raise ShapeError(f"level for {list(level)}", need=f"levels of images, which are {names}", at=subject.at)
    levels = dict(level) if isinstance(level, Mapping) else dict.fromkeys(names, level)
    return {name: open_source(one, as_integer("level", levels.get(name, 0), 0, None)) for name, one in given.items()}


def settle_axes(axes: str | Mapping[str, str] | None, images: Mapping[str, OpenedImage]) -> dict[str, str] | None:
    """Letters for the axes of images: those that are asked for, or else those that their descriptions say.

    Raises:
        ShapeError: letters that say something else of channels and positions than a description does.
    """
    found: dict[str, str] = {}
    for name, image in images.items():
        asked: Any = axes.get(name) if isinstance(axes, Mapping) else axes
        if asked is None:
            found |= {} if image.axes is None else {name: image.axes}
            continue
        found[name] = asked
        if image.axes is not None and isinstance(asked, str) and len(asked) == len(image.axes):
            pairs = zip(asked.upper(), image.axes, strict=True)
            if any(one != other and {one, other} & set("CZYX") for one, other in pairs):
                what = f"axes={asked!r} of an image whose description says {image.axes}"
                raise ShapeError(what, need=f"axes={image.axes!r}, or none", at=name)
    if isinstance(axes, Mapping):
        found |= {name: letters for name, letters in axes.items() if name not in images}
    return found or None


def _open_path(path: Path, level: int) -> OpenedImage:
    if path.suffix.lower() in {".npy", ".zarr", *TIFF} and not path.exists():
        raise StorageError(f"no file or folder {str(path)!r}", need="an image that exists")
    with storing(f"opening {str(path)!r}", fix="a file that is whole"):
        if path.suffix.lower() in TIFF:
            return _open_tiff(path, level)
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".zarr" or path.is_dir():
            need_package("zarr")
            import zarr

            array = zarr.open(path, mode="r")
        else:
            raise DataError(f"an image in {path.name!r}", need="a file .npy, .zarr, .tif or .tiff")
        return replace(open_source(array, level), given=path)


def _open_tiff(path: Path, level: int) -> OpenedImage:
    """By the reader that its field uses: one with a georeference by rasterio, any other by tifffile.

    Raises:
        DataError: a resolution that it has not.
    """
    need_package("tifffile")
    import tifffile

    with tifffile.TiffFile(path) as file:
        if any(code in file.pages.first.tags for code in GEO_TAGS):
            return open_raster(path, level)
        levels = len(file.series[0].levels)
    if level >= levels:
        raise DataError(f"level={level} of an image with {levels} resolutions", need=f"0 to {levels - 1}")
    if level == 0:
        with suppress(ValueError):  # compressed, so that Zarr has to read it in parts
            return OpenedImage(path, level, tifffile.memmap(path, mode="r"))
    need_package("zarr")
    import zarr

    return OpenedImage(path, level, zarr.open_array(tifffile.imread(path, aszarr=True, level=level), mode="r"))
