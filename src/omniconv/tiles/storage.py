"""Arrays that lie elsewhere: reading and writing parts of them, and whether two meet."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError
from omniconv.tiles.geo import CACHE, Raster
from omniconv.tiles.room import MakeRoom, count_packing, list_pieces, make_room

TIFF = (".tif", ".tiff")


def is_dask(x: object) -> bool:
    """Whether it is an array of Dask."""
    return type(x).__module__.startswith("dask.array")


def is_zarr(x: object) -> bool:
    """Whether it is an array of Zarr, of format 2 or 3."""
    return type(x).__module__.startswith("zarr") and hasattr(x, "chunks") and hasattr(x, "shape")


def find_chunks(array: Any) -> tuple[int, ...] | None:
    """What of a Zarr array is written at once: its chunks, or shards of them; ``None`` for other arrays."""
    return tuple(getattr(array, "shards", None) or array.chunks) if is_zarr(array) else None


def read_box(array: Any, where: tuple[slice, ...], make: MakeRoom = make_room) -> npt.NDArray[Any]:
    """A part of an array, for which ``make`` makes room where that is needed."""
    pages = _find_pages(array)
    if not is_zarr(array) and pages is None:
        return np.asarray(array[where])
    shape = [len(range(*one.indices(size))) for one, size in zip(where, array.shape, strict=True)]
    part = make(shape, array.dtype)
    chunks = array.chunks if pages is None else _choose_rows(array)
    for inside, outside in list_pieces(where, array.shape, chunks, array.dtype.itemsize):
        part[inside] = array[outside]
        _let_go(pages)
    return part


def write_box(array: Any, where: tuple[slice, ...], y: npt.NDArray[Any]) -> None:
    """Write a part of an array."""
    pages = _find_pages(array)
    chunks = find_chunks(array) if pages is None else _choose_rows(array)
    if chunks is None:
        array[where] = y
        return
    for inside, outside in list_pieces(where, array.shape, chunks, array.dtype.itemsize):
        array[outside] = y[inside]
        _let_go(pages)


def count_fixed(place: Any) -> int:
    """What a library takes to pack and unpack parts of an array, whatever their size [bytes]."""
    if isinstance(place, Raster):
        return CACHE + count_packing(place.shape, place.chunks, place.dtype.itemsize)
    if isinstance(place, str | os.PathLike):
        return CACHE if Path(place).suffix.lower() in TIFF else 0
    return count_packing(place.shape, place.chunks, place.dtype.itemsize) if is_zarr(place) else 0


def _find_pages(array: Any) -> mmap.mmap | None:
    """The pages of a file that an array shows and shares with all others: these count as memory of this process while
    they are mapped, though the file has them.
    """
    found: Any = array.base if isinstance(array, np.memmap) and array.mode != "c" else None
    return found if isinstance(found, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


def _choose_rows(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """What lies together in a file, as chunks do: rows."""
    return (*(1,) * (array.ndim - 1), *array.shape[-1:])


def _let_go(pages: mmap.mmap | None) -> None:
    """Unmap pages of a file; they come again when they are looked at, with all that was written to them."""
    if pages is not None:
        pages.madvise(mmap.MADV_DONTNEED)


def folder_of(array: Any) -> str | None:
    """The folder of the store of a Zarr array; ``None`` for memory, an archive or another host."""
    root = getattr(array.store, "root", None) or getattr(array.store, "path", None)
    return os.path.realpath(root) if isinstance(root, str | os.PathLike) and Path(root).is_dir() else None


def check_apart(x: Any, image: Any, out: Any) -> None:
    """Refuse to write where the image is read: tiles to come would read what others have written.

    Args:
        x: the image as the caller gives it.
        image: its array.
        out: where the result goes.

    Raises:
        DataError: both are, or may be, at one place.
    """
    places = _places(image) | (_places(x) if isinstance(x, str | os.PathLike) else set())
    if _meet(image, out) or _replaces(_places(out), places):
        raise DataError("the result would be written over the image", need="another place for it", fix="another out=")


def check_distinct(outs: Mapping[str, Any]) -> None:
    """Refuse two outputs at one place.

    Raises:
        DataError: they are, or may be.
    """
    for (one, a), (other, b) in itertools.combinations(outs.items(), 2):
        if _meet(a, b) or _replaces(_places(a), _places(b)) or _replaces(_places(b), _places(a)):
            raise DataError(f"outputs {one!r} and {other!r} would be written to one place", need="a place for each")


def _places(what: Any) -> set[object]:
    """Where an array lies outside this process, or a path leads."""
    if isinstance(what, str | os.PathLike):
        with suppress(ValueError):  # a path that no file can have; opening it says so
            return {os.path.realpath(what)}
    if isinstance(what, np.memmap) and what.filename is not None:
        return {os.path.realpath(what.filename)}
    if is_zarr(what):
        folder = folder_of(what)
        return {(id(what.store), what.path) if folder is None else str(Path(folder) / (what.path or ""))}
    return set()


def _replaces(out: set[object], kept: set[object]) -> bool:
    """Whether what is written takes the place of something, or of a folder that holds it."""
    folders = {str(folder) for place in kept if isinstance(place, str) for folder in Path(place).parents}
    return bool(out & (kept | folders))


def _meet(a: Any, b: Any) -> bool:
    """Whether two arrays of NumPy share memory, or where that is too hard to say, may."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return False
    work: Any = 10**6  # NumPy takes any number, its stubs two of them
    try:
        return np.shares_memory(a, b, max_work=work)
    except np.exceptions.TooHardError:
        return True
