"""Where images come from and results go: NumPy arrays and files, Zarr arrays, TIFF files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from omniconv.errors import DataError, ShapeError, StorageError, UnsupportedError
from omniconv.reference.weights import detach
from omniconv.spec import Shape

EXTRA = 'pip install "omniconv[tiles]"'
TIFF = (".tif", ".tiff")


def is_dask(x: object) -> bool:
    """Whether it is an array of Dask."""
    return type(x).__module__.startswith("dask.array")


def is_zarr(x: object) -> bool:
    """Whether it is an array of Zarr, of format 2 or 3."""
    return type(x).__module__.startswith("zarr") and hasattr(x, "chunks") and hasattr(x, "shape")


@contextmanager
def storing(what: str) -> Iterator[None]:
    """Say of what goes wrong while something is read or written that it did.

    Raises:
        StorageError: it went wrong.
    """
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError) as error:
        raise StorageError(
            f"{what}: {type(error).__name__}: {error}", need="storage that can be read and written",
            fix="the same call again goes on where it stopped",
        ) from error  # fmt: skip


def need_package(package: str) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        UnsupportedError: it is not.
    """
    if find_spec(package) is None:
        raise UnsupportedError(f"{package} is not installed", need=EXTRA)


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
    with storing(f"opening {str(path)!r}"):
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
    """The array of a Zarr store; of a group, as OME-Zarr has, the first resolution."""
    need_package("zarr")
    import zarr

    found: Any = zarr.open(store, mode="r")
    if hasattr(found, "array_keys"):
        names = sorted(found.array_keys())
        multiscales: Any = found.attrs.get("multiscales") or found.attrs.get("ome", {}).get("multiscales")
        if multiscales:
            names = [multiscales[0]["datasets"][0]["path"]]
        if not names:
            raise DataError("a Zarr group without arrays", need="an array, or a group with one")
        return found[names[0]]
    return found


@dataclass(slots=True)
class Destination:
    """Where a result goes.

    Attributes:
        array: that is written to, part by part.
        journal: path of its journal; none for memory, which does not outlive the process.
        flush: makes what was written reach the disk.
        finish: makes the result appear under its name, and returns what the caller is given.
    """

    array: Any
    journal: Path | None
    flush: Callable[[], None]
    finish: Callable[[], Any]


def find_chunks(out: Any) -> Shape | None:
    """Chunks of an array for the result, within which nothing is written twice; ``None`` where there are none."""
    if not is_zarr(out):
        return None
    return tuple(getattr(out, "shards", None) or out.chunks)


def open_result(out: Any, shape: Shape, dtype: np.dtype[Any], chunks: Sequence[int], *, resume: bool) -> Destination:
    """Where a result goes: an array that the caller has, a path that becomes one, or new memory.

    Raises:
        ShapeError, DataError: an array that does not fit, or cannot be written to.
        StorageError: a path that cannot.
    """
    if out is None:
        array = np.empty(shape, dtype)
        return Destination(array, None, _nothing, lambda: array)
    if isinstance(out, str | os.PathLike):
        return _open_path_for_result(Path(out), shape, dtype, chunks, resume=resume)
    if isinstance(out, np.ndarray) or is_zarr(out):
        if tuple(out.shape) != shape:
            raise ShapeError(f"an array of shape {tuple(out.shape)} for the result", need=f"{shape}")
        if out.dtype != dtype:
            raise DataError(f"an array of {out.dtype} for the result", need=f"{dtype}")
    if isinstance(out, np.memmap) and out.filename is not None:
        if not out.flags.writeable:
            raise DataError("a memmap that cannot be written to", need='mode="r+"')
        return Destination(out, _beside(Path(out.filename)), out.flush, lambda: out)
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise DataError("an array that cannot be written to", need="a writable one")
        return Destination(out, None, _nothing, lambda: out)
    if is_zarr(out):
        root = getattr(out.store, "root", None) or getattr(out.store, "path", None)
        name = (out.path or "").replace("/", ".")
        journal = None if root is None else _beside(Path(str(root)) if not name else Path(f"{root}.{name}"))
        return Destination(out, journal, _nothing, lambda: out)
    raise DataError(
        f"out={type(out).__name__}", need="a NumPy array, a memmap, a Zarr array, or a path that ends in .npy or .zarr"
    )


def _nothing() -> None:
    """There is no disk behind it, or it writes by itself."""


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".tiles")


def _open_path_for_result(
    path: Path, shape: Shape, dtype: np.dtype[Any], chunks: Sequence[int], *, resume: bool
) -> Destination:
    """A file or folder that has another name until it is whole."""
    if path.suffix not in (".npy", ".zarr"):
        raise DataError(f"out={path.name!r}", need="a path that ends in .npy or .zarr")
    part, journal = path.with_name(path.name + ".part"), _beside(path)
    old = resume and part.exists() and journal.exists()
    with storing(f"opening {str(part)!r}"):
        if not old and part.exists():
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if not old:
            journal.unlink(missing_ok=True)
        array: Any
        if path.suffix == ".npy":
            if old:
                array = np.load(part, mmap_mode="r+", allow_pickle=False)
            else:
                array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
                _reserve(part)
            _check_old(array, shape, dtype, part)

            def finish_file() -> Any:
                part.replace(path)
                return np.load(path, mmap_mode="r+", allow_pickle=False)

            return Destination(array, journal, array.flush, finish_file)
        need_package("zarr")
        import zarr

        if old:
            array = zarr.open_array(part, mode="r+")
        else:
            array = zarr.create_array(part, shape=shape, dtype=dtype, chunks=tuple(chunks))
        _check_old(array, shape, dtype, part)

        def finish_folder() -> Any:
            if path.exists():
                shutil.rmtree(path)
            part.replace(path)
            return zarr.open_array(path, mode="r+")

        return Destination(array, journal, _nothing, finish_folder)


def _reserve(path: Path) -> None:
    """Take the room on the disk now: what is missing shows at once, not as a signal while a page is written."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _check_old(array: Any, shape: Shape, dtype: np.dtype[Any], path: Path) -> None:
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise DataError(
            f"{str(path)!r} holds {array.dtype} {tuple(array.shape)}", need=f"{dtype} {shape}, or resume=False"
        )
