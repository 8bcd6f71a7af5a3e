"""Where images come from: NumPy arrays and files, Zarr arrays, TIFF files."""

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
from omniconv.outside import need_package, storing
from omniconv.reference.weights import detach
from omniconv.tiles.room import list_pieces, make_room

TIFF = (".tif", ".tiff")


def is_dask(x: object) -> bool:
    """Whether it is an array of Dask."""
    return type(x).__module__.startswith("dask.array")


def is_zarr(x: object) -> bool:
    """Whether it is an array of Zarr, of format 2 or 3."""
    return type(x).__module__.startswith("zarr") and hasattr(x, "chunks") and hasattr(x, "shape")


def open_image(x: Any) -> Any:
    """An array whose parts can be read: what is given, or what a path leads to.

    Raises:
        DataError: something else.
        StorageError: a file that cannot be read.
    """
    if isinstance(x, str | os.PathLike):
        return _open_path(Path(x))
    if isinstance(x, np.ndarray) or is_zarr(x) or is_dask(x):
        return x
    if hasattr(x, "__dlpack__"):
        with suppress(TypeError, ValueError, RuntimeError, BufferError):
            exporting: Any = detach(x)
            return np.from_dlpack(exporting)
    raise DataError(
        f"an image of type {type(x).__name__}",
        need="a NumPy array, a Zarr or Dask array, or a path to .npy, .zarr or .tif",
    )


def _open_path(path: Path) -> Any:
    with storing(f"opening {str(path)!r}", fix="a file that is whole"):
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix.lower() in TIFF:
            need_package("tifffile")
            import tifffile

            try:
                return tifffile.memmap(path, mode="r")
            except ValueError:  # compressed, so that Zarr has to read it in parts
                return _first_array(tifffile.imread(path, aszarr=True))
        if path.suffix == ".zarr" or path.is_dir():
            return _first_array(path)
    raise DataError(f"an image in {path.name!r}", need="a file .npy, .zarr, .tif or .tiff")


def _first_array(store: Any) -> Any:
    """The array of a Zarr store; of a group, as OME-Zarr has, the first resolution.

    Raises:
        DataError: a group without arrays, or whose description names none.
    """
    need_package("zarr")
    import zarr

    found: Any = zarr.open(store, mode="r")
    if not hasattr(found, "array_keys"):
        return found
    names = sorted(found.array_keys())
    ome: Any = found.attrs.get("ome")
    multiscales: Any = found.attrs.get("multiscales") or (ome.get("multiscales") if isinstance(ome, dict) else None)
    if multiscales:
        try:
            names = [multiscales[0]["datasets"][0]["path"]]
        except (LookupError, TypeError):
            names = [None]
        if not isinstance(names[0], str):
            raise DataError("multiscales of a Zarr group that name no array", need="datasets with a path, or the array")
    if not names:
        raise DataError("a Zarr group without arrays", need="an array, or a group with one")
    array = found[names[0]]
    if not is_zarr(array):
        raise DataError(f"{names[0]!r} of a Zarr group is not an array", need="an array")
    return array


def find_chunks(array: Any) -> tuple[int, ...] | None:
    """What of a Zarr array is written at once: its chunks, or shards of them; ``None`` for other arrays."""
    return tuple(getattr(array, "shards", None) or array.chunks) if is_zarr(array) else None


def read_box(array: Any, where: tuple[slice, ...]) -> npt.NDArray[Any]:
    """A part of an array."""
    pages = _find_pages(array)
    if not is_zarr(array) and pages is None:
        return np.asarray(array[where])
    shape = [len(range(*one.indices(size))) for one, size in zip(where, array.shape, strict=True)]
    part = make_room(shape, array.dtype)
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


def _find_pages(array: Any) -> mmap.mmap | None:
    """The pages of a file that an array shows and shares with all others: these count as memory of this process while
    they are mapped, though the file has them.
    """
    found = array.base if isinstance(array, np.memmap) and array.mode != "c" else None
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
    if places & _places(out) or (isinstance(image, np.ndarray) and isinstance(out, np.ndarray) and _meet(image, out)):
        raise DataError("the result would be written over the image", need="another place for it", fix="another out=")


def check_distinct(outs: Mapping[str, Any]) -> None:
    """Refuse two outputs at one place.

    Raises:
        DataError: they are, or may be.
    """
    for (one, a), (other, b) in itertools.combinations(outs.items(), 2):
        if _places(a) & _places(b) or (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and _meet(a, b)):
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


def _meet(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two arrays share memory, or where that is too hard to say, may."""
    work: Any = 10**6  # NumPy takes any number, its stubs two of them
    try:
        return np.shares_memory(a, b, max_work=work)
    except np.exceptions.TooHardError:
        return True
