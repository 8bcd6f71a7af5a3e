"""GeoTIFF: images read in windows, and results with the georeference of the image, by way of rasterio."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError
from omniconv.outside import need_package
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.tiles.place import Moves, OpenedImage
from omniconv.tiles.room import make_room

LETTERS: Final = "CYX"
"""Axes of a raster: bands, rows and columns."""
BLOCK: Final = 256
"""Rows and columns of a block of a result."""
CACHE: Final = 4 * 2**20
"""Blocks that the library keeps [bytes]."""
BIG: Final = 2 * 10**9
"""Results of more bytes are BigTIFF; others end before 4 GiB, whatever else is in the file."""
GEO_TAGS: Final = frozenset({33550, 33922, 34264, 34735})
"""Scale, tie points, transform and keys of a georeference."""


@contextmanager
def _library() -> Iterator[Any]:
    """The library, which keeps few blocks and writes no files beside ours."""
    need_package("rasterio", extra="geo")
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_PAM_ENABLED="NO"):
        yield rasterio


def _open(library: Any, path: str, *arguments: Any, **options: Any) -> Any:
    """A file of the library, which warns where there is no georeference. Filters of warnings are of all threads: they
    are changed where a file is opened, not where workers read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.errors.NotGeoreferencedWarning)
        return library.open(path, *arguments, **options)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the pixels of a raster lie.

    Attributes:
        affine: a, b, c, d, e, f of ``x = a column + b row + c``, ``y = d column + e row + f``.
        crs: the coordinate system, as text.
    """

    affine: tuple[float, ...]
    crs: str

    def move(self, moves: Moves) -> Ground:
        """See :class:`omniconv.tiles.place.Location`."""
        a, b, c, d, e, f = self.affine
        rows, columns = moves["Y"], moves["X"]
        sx, sy, rx, ry = float(columns.start), float(rows.start), float(columns.rate), float(rows.rate)
        return Ground((a * rx, b * ry, a * sx + b * sy + c, d * rx, e * ry, d * sx + e * sy + f), self.crs)


class Raster:
    """A raster whose windows are read, and of a result written; along ``axes``, which are bands, rows and columns.

    A library of C behind it is used by one thread at a time.

    Args:
        path: of the file.
        axes: letters, of :data:`LETTERS` in any order; without C for one band.
        level: of the overviews, the image itself first.
        write: whether it is written to.

    Attributes:
        shape, dtype: of the array.
        chunks: what the library reads and writes at once.

    Raises:
        DataError: a level that the file has not.
    """

    def __init__(self, path: Path, axes: str = LETTERS, level: int = 0, *, write: bool = False) -> None:
        self._path, self._axes, self._write, self._level = os.path.realpath(path), axes, write, level
        self._lock = threading.Lock()
        self._file: Any = None
        with _library() as library:
            file = self._open(library)
            overviews = file.overviews(1)
            if level > len(overviews):
                file.close()
                what = f"level={level} of an image with {1 + len(overviews)} resolutions"
                raise DataError(what, need=f"0 to {len(overviews)}")
            self._file = file if level == 0 else _open(library, self._path, overview_level=level - 1)
            sizes = {"C": self._file.count, "Y": self._file.height, "X": self._file.width}
            rows, columns = self._file.block_shapes[0]
            block = {"C": self._file.count, "Y": rows, "X": columns}
            self.dtype = np.dtype(self._file.dtypes[0])
            self.shape: Shape = tuple(sizes[letter] for letter in axes)
            self.chunks: Shape = tuple(min(block[letter], sizes[letter]) for letter in axes)

    def _open(self, library: Any) -> Any:
        return _open(library, self._path, "r+" if self._write else "r")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def ground(self) -> Ground | None:
        """Where its pixels lie, if it says so.

        Raises:
            DataError: it says so by control points or a camera model, which a result would lose.
        """
        with self._lock, _library():
            if self._file.gcps[0] or self._file.rpcs:
                raise DataError(
                    f"{self._path!r} is georeferenced by control points or a camera model",
                    need="a raster with an affine transform",
                    fix="gdalwarp, which makes one of it",
                )
            if self._file.crs is None and self._file.transform.is_identity:
                return None
            crs = "" if self._file.crs is None else self._file.crs.to_wkt()
            return Ground(tuple(self._file.transform)[:6], crs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _window(self, where: Any) -> tuple[list[int], tuple[tuple[int, int], tuple[int, int]]]:
        """Bands, and rows and columns.

        Raises:
            DataError: something else than slices of all that lies between two positions.
        """
        given = where if isinstance(where, tuple) else (where,)
        slices = (*given, *(slice(None),) * (self.ndim - len(given)))
        if len(slices) != self.ndim or not all(isinstance(one, slice) and one.step in (None, 1) for one in slices):
            raise DataError(f"{given} of a raster", need="slices without a step", fix="np.asarray(raster)")
        found = {"C": (0, 1)}
        for letter, one, size in zip(self._axes, slices, self.shape, strict=True):
            found[letter] = one.indices(size)[:2]
        return list(range(1 + found["C"][0], 1 + found["C"][1])), (found["Y"], found["X"])

    def _turn(self, bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bands, rows and columns as they lie along the axes."""
        kept = bands if "C" in self._axes else bands[0]
        letters = LETTERS if "C" in self._axes else LETTERS[1:]
        return kept.transpose([letters.index(letter) for letter in self._axes])

    def __getitem__(self, where: slice | tuple[slice, ...]) -> npt.NDArray[Any]:
        bands, (rows, columns) = self._window(where)
        room = make_room((len(bands), rows[1] - rows[0], columns[1] - columns[0]), self.dtype)
        with self._lock, _library():
            self._file.read(bands, window=(rows, columns), out=room)
        return self._turn(room)

    def __setitem__(self, where: slice | tuple[slice, ...], y: npt.NDArray[Any]) -> None:
        bands, window = self._window(where)
        letters = LETTERS if "C" in self._axes else LETTERS[1:]
        turned = y.transpose([self._axes.index(letter) for letter in letters])
        with self._lock, _library():
            self._file.write(turned.reshape(len(bands), *turned.shape[-2:]), bands, window=window)

    def flush(self) -> None:
        """Make what was written reach the file: the library does when it is closed."""
        with self._lock, _library() as library:
            self._file.close()
            self._file = self._open(library)

    def close(self) -> None:
        """Leave the file."""
        with self._lock, _library():
            self._file.close()


def open_raster(given: Any, level: int) -> OpenedImage:
    """A GeoTIFF, or a level of its overviews."""
    found = Raster(Path(given), level=level)
    return OpenedImage(given, level, found, LETTERS, found.ground)


def make_raster(path: Path, shape: Shape, dtype: np.dtype[Any], axes: str, ground: Ground | None) -> Raster:
    """A new raster of zeros, all of whose blocks have their place in the file, so that each is written where it is.

    They are not compressed: else a block that is written again would move.
    """
    sizes = {"C": 1, **dict(zip(axes, shape, strict=True))}
    number = math.prod(shape) * dtype.itemsize
    placed: dict[str, Any] = {}
    with _library() as library:
        if ground is not None:
            placed = {"transform": library.Affine(*ground.affine)}
            placed |= {"crs": library.crs.CRS.from_wkt(ground.crs)} if ground.crs else {}
        _open(
            library,
            os.path.realpath(path),
            "w",
            driver="GTiff",
            width=sizes["X"],
            height=sizes["Y"],
            count=sizes["C"],
            dtype=dtype.name,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            interleave="band",
            BIGTIFF="YES" if number > BIG else "NO",
            **placed,
        ).close()
    return Raster(path, axes, write=True)


def check_axes(axes: str, dtype: np.dtype[Any]) -> None:
    """Refuse what no raster holds.

    Raises:
        DataError: axes of planes, volumes or signals, or a type that it has not.
    """
    if not {"Y", "X"} <= set(axes) <= set(LETTERS) or dtype.kind == "b":
        raise DataError(
            f"a result of {dtype} along {axes} in a GeoTIFF",
            need="numbers in bands, rows and columns",
            fix='out="result.zarr"',
        )
