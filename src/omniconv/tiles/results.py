"""Where results go: arrays in memory, memmaps, Zarr arrays, and paths that appear when they are whole."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from omniconv.errors import DataError, LimitError, ShapeError, StorageError
from omniconv.limits import format_size
from omniconv.outside import need_package, storing
from omniconv.spec import Shape
from omniconv.tiles.geo import Ground, Raster, check_axes, make_raster
from omniconv.tiles.ome import WRITTEN, Specimen, describe_group, is_own_group
from omniconv.tiles.place import Location
from omniconv.tiles.plan import TiledOutput
from omniconv.tiles.storage import TIFF, folder_of, is_zarr

OME: Final = ".ome.zarr"
"""Paths of results that say where positions lie."""
BLOSC: Final = 2**31 - 16
"""The largest chunk that Blosc packs [bytes]."""


def has_chunks(out: Any) -> bool:
    """Whether a result goes to chunks, each of which one tile has to write."""
    return is_zarr(out) or (isinstance(out, str | os.PathLike) and Path(out).suffix == ".zarr")


class Destination:
    """An array that the caller has, or new memory.

    Attributes:
        array: that is written to, part by part.
        journal: path of its journal; none for memory, which does not outlive the process.
    """

    journal: Path | None = None

    def __init__(self, array: Any) -> None:
        self.array = array

    def begin(self, *, old: bool) -> None:
        """Make ``array`` ready: what an earlier run left, where it left something (``old``)."""

    def flush(self) -> None:
        """Make what was written reach the disk."""

    def finish(self) -> Any:
        """Make the result appear under its name, and return what the caller is given."""
        return self.array


class _Memmap(Destination):
    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.journal = _beside(Path(array.filename))

    def flush(self) -> None:
        self.array.flush()


class _ZarrArray(Destination):
    """Writes by itself; only one in a folder outlives the process for certain."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        folder = folder_of(array)
        if folder is not None:
            name = (array.path or "").replace("/", ".")
            self.journal = _beside(Path(f"{folder}.{name}" if name else folder))


class _NewFile(Destination):
    """A file or folder that has another name until it is whole."""

    def __init__(self, path: Path, shape: Shape, dtype: np.dtype[Any]) -> None:
        super().__init__(None)
        self.path, self.shape, self.dtype = path, shape, dtype
        self.part, self.journal = path.with_name(path.name + ".part"), _beside(path)

    def begin(self, *, old: bool) -> None:
        with storing(f"opening {str(self.part)!r}", fix="resume=False, which begins anew"):
            if old and self.part.exists():
                self.array = self.open(self.part)
            else:
                if self.part.exists():
                    shutil.rmtree(self.part) if self.part.is_dir() else self.part.unlink()
                self.array = self.create()
        if tuple(self.array.shape) != self.shape or self.array.dtype != self.dtype:
            raise DataError(
                f"{str(self.part)!r} holds {self.array.dtype} {tuple(self.array.shape)}",
                need=f"{self.dtype} {self.shape}",
                fix="resume=False, which begins anew",
            )
        self.reserve()

    def open(self, path: Path) -> Any:
        """What is there, to be written to."""
        raise NotImplementedError

    def create(self) -> Any:
        """A new one."""
        raise NotImplementedError

    def reserve(self) -> None:
        """Take the room on the disk now: what is missing shows at once, not while a part is written."""


class _NewNpy(_NewFile):
    def open(self, path: Path) -> Any:
        return np.load(path, mmap_mode="r+", allow_pickle=False)

    def create(self) -> Any:
        return np.lib.format.open_memmap(self.part, mode="w+", dtype=self.dtype, shape=self.shape)

    def reserve(self) -> None:
        _reserve(self.part)

    def flush(self) -> None:
        self.array.flush()

    def finish(self) -> Any:
        self.part.replace(self.path)
        return self.open(self.path)


class _NewZarr(_NewFile):
    def __init__(self, path: Path, output: TiledOutput) -> None:
        super().__init__(path, output.shape, np.dtype(output.dtype))
        self.chunks = tuple(map(math.ceil, output.tile_shape()))

    def open(self, path: Path) -> Any:
        import zarr

        return zarr.open_array(path, mode="r+")

    def create(self) -> Any:
        import zarr

        return zarr.create_array(self.part, **self.describe())

    def describe(self) -> dict[str, Any]:
        """What the array is like. Bytes of the same weight are packed together: what a network computes has exponents
        that are alike, and this takes a fifth of the time of what Zarr does by itself, and less room. Nobody looks
        first whether a chunk has nothing but zeros: as bytes that takes as long as packing it.
        """
        from zarr.codecs import BloscCodec

        fits = math.prod(self.chunks) * self.dtype.itemsize <= BLOSC
        how = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle") if fits else "auto"
        alone = {"write_empty_chunks": True}
        return {"shape": self.shape, "dtype": self.dtype, "chunks": self.chunks, "compressors": how, "config": alone}

    def finish(self) -> Any:
        if self.path.exists():
            shutil.rmtree(self.path)
        self.part.replace(self.path)
        return self.open(self.path)


class _NewGroup(_NewZarr):
    """An OME-Zarr with one resolution."""

    def __init__(self, path: Path, output: TiledOutput, place: Specimen | None) -> None:
        super().__init__(path, output)
        self.letters = output.axes.names
        self.description = describe_group(self.letters, place, path.name.removesuffix(OME))

    def open(self, path: Path) -> Any:
        return super().open(path / WRITTEN)

    def create(self) -> Any:
        import zarr

        group = zarr.create_group(self.part, attributes=self.description, zarr_format=3)
        return group.create_array(
            WRITTEN,
            dimension_names=list(self.letters.lower()),
            **self.describe(),
        )


class _NewRaster(_NewFile):
    """A GeoTIFF."""

    def __init__(self, path: Path, output: TiledOutput, ground: Ground | None) -> None:
        super().__init__(path, output.shape, np.dtype(output.dtype))
        self.letters, self.ground = output.axes.names, ground

    def open(self, path: Path) -> Any:
        return Raster(path, self.letters, write=True)

    def create(self) -> Any:
        return make_raster(self.part, self.shape, self.dtype, self.letters, self.ground)

    def reserve(self) -> None:
        _reserve(self.part)

    def flush(self) -> None:
        self.array.flush()

    def finish(self) -> Any:
        self.array.close()
        self.part.replace(self.path)
        return Raster(self.path, self.letters)


def open_result(out: Any, output: TiledOutput, place: Location | None) -> Destination:
    """Where a result goes: an array that the caller has, a path that becomes one, or new memory.

    Args:
        out: what the caller says of it.
        output: its shape, axes and type.
        place: where its positions lie, if that is known.

    Raises:
        ShapeError, DataError: an array that does not fit, or cannot be written to; a path of something else.
        LimitError: a new array that is larger than memory.
    """
    shape, dtype = output.shape, np.dtype(output.dtype)
    if out is None:
        try:
            return Destination(np.empty(shape, dtype))
        except (MemoryError, ValueError):
            size = format_size(math.prod(shape) * dtype.itemsize)
            raise LimitError(f"a result of {size} in memory", need="less", fix='out="result.zarr"') from None
    if isinstance(out, str | os.PathLike):
        return _open_path_for_result(Path(out), output, place)
    if not isinstance(out, np.ndarray) and not is_zarr(out):
        raise DataError(
            f"out={type(out).__name__}",
            need="a NumPy array, a memmap, a Zarr array, or a path that ends in .npy, .zarr or .tif",
        )
    if tuple(out.shape) != shape:
        raise ShapeError(f"an array of shape {tuple(out.shape)} for the result", need=f"{shape}")
    if out.dtype != dtype:
        raise DataError(f"an array of {out.dtype} for the result", need=f"{dtype}")
    if is_zarr(out):
        if getattr(out, "read_only", False):
            raise DataError("a Zarr array that cannot be written to", need='mode="r+"')
        return _ZarrArray(out)
    mapped = isinstance(out, np.memmap) and out.filename is not None
    if not out.flags.writeable:
        raise DataError("an array that cannot be written to", need='mode="r+"' if mapped else "a writable one")
    return _Memmap(out) if mapped else Destination(out)


def _reserve(path: Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with storing(f"opening {str(path)!r}"), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".tiles")


def _open_path_for_result(path: Path, output: TiledOutput, place: Location | None) -> Destination:
    """A path, whose old content, if any, is of the same sort: nothing else is replaced.

    Raises:
        DataError: another ending, something else in its place, or a result that such a file does not hold.
        StorageError: no folder to put it in.
    """
    suffix, group = path.suffix.lower(), path.name.endswith(OME)
    if suffix not in (".npy", ".zarr", *TIFF):
        raise DataError(f"out={path.name!r}", need="a path that ends in .npy, .zarr or .tif")
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise StorageError(f"there is no folder {str(path.parent)!r} for the result", need="a folder that exists")
    if suffix != ".zarr":
        if path.exists() and not path.is_file():
            raise DataError(f"{str(path)!r} is not a file", need="another out=, or remove it")
        if suffix == ".npy":
            return _NewNpy(path, output.shape, np.dtype(output.dtype))
        check_axes(output.axes.names, np.dtype(output.dtype))
        return _NewRaster(path, output, place if isinstance(place, Ground) else None)
    need_package("zarr")
    if path.exists() and not _may_be_replaced(path, group=group):
        what = "a result in OME-Zarr" if group else "a Zarr array"
        raise DataError(f"{str(path)!r} is not {what}", need="another out=, or remove it")
    return _NewGroup(path, output, place if isinstance(place, Specimen) else None) if group else _NewZarr(path, output)


def _may_be_replaced(path: Path, *, group: bool) -> bool:
    """Whether a folder is empty or one Zarr array, or a group with one; not a group of several, nor anything else."""
    import zarr

    try:
        if any(path.iterdir()):
            if group:
                return is_own_group(path)
            zarr.open_array(path, mode="r")
    except Exception:  # noqa: BLE001 - whatever Zarr says of something else
        return False
    return True
