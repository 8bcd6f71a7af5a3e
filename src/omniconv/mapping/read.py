"""`ImageReader`: an image of whatever sort as the network takes it."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, OmniconvError, ShapeError
from omniconv.mapping.pictures import PICTURES, check_size, convert, read_picture, read_tiff
from omniconv.outside import storing
from omniconv.tiles.axes import CHANNEL, read_axes
from omniconv.tiles.opening import open_image
from omniconv.tiles.storage import TIFF, find_chunks

Array: TypeAlias = npt.NDArray[Any]


class ImageReader:
    """Reads images. Whatever an image is, what goes wrong is an error of its own.

    Args:
        rank, channels: of the network's input.
        dtype: that the network computes with.
        limit: for one image, as it is stored and as the network takes it [bytes].
        axes: of the arrays, or of what ``preprocess`` returns.
        preprocess: is given each array, and returns the one to use.
    """

    def __init__(
        self,
        rank: int,
        channels: int | None,
        dtype: np.dtype[Any],
        limit: int,
        axes: str | None,
        preprocess: Callable[[Array], Any] | None,
    ) -> None:
        self.rank, self.channels, self.dtype, self.axes, self.preprocess = rank, channels, dtype, axes, preprocess
        self.check_input = check_size(limit, dtype.itemsize)
        self.check = self.check_input if preprocess is None else check_size(limit, 0)

    def __call__(self, content: Any) -> Array:
        """An image ``(C, *spatial)``.

        Raises:
            OmniconvError: it cannot be read, or does not fit the network.
        """
        if isinstance(content, OmniconvError):
            raise content
        with storing("reading", fix="a file that is whole"):
            array, names = self._open(content)
        rule = "safe"
        if self.preprocess is not None:
            array, rule = self._prepare(array), "same_kind"
            self.check_input(array.shape, array.itemsize, 0)
        if not np.can_cast(array.dtype, self.dtype, rule):  # type: ignore[arg-type]
            raise DataError(
                f"an image of {array.dtype} for a network of {self.dtype}",
                need=f"a type that {self.dtype} holds",
                fix="preprocess=, which converts it",
            )
        if not array.size:
            raise ShapeError(f"an image of shape {array.shape}", need="at least one value")
        return self._turn(array, self.axes or names)

    def _open(self, content: Any) -> tuple[Array, str | None]:
        """The array of a path, a picture or anything like an array, and its axes by name where they are known."""
        if isinstance(content, Path):
            return self._open_path(content)
        if type(content).__module__.startswith("PIL."):
            return convert(content, self.channels, self.check)
        if hasattr(content, "__dlpack__") or not hasattr(content, "__array__"):
            content = open_image(content)
        self._check_array(content)
        return np.asarray(content), None

    def _open_path(self, path: Path) -> tuple[Array, str | None]:
        suffix = path.suffix.lower()
        if suffix == ".zarr":
            found = open_image(path)
            self._check_array(found)
            return np.asarray(found[...]), None
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path.name!r} is no file", need="a file with an image")
        if suffix in PICTURES:
            return read_picture(path, self.channels, self.check)
        if suffix in TIFF:
            return read_tiff(path, self.check)
        if suffix != ".npy":
            raise DataError(
                f"an image in {path.name!r}", need=f"a file {', '.join((*PICTURES, *TIFF, '.npy'))} or a .zarr folder"
            )
        found = open_image(path)
        self._check_array(found)
        return np.array(found), None

    def _check_array(self, array: Any) -> None:
        """Refuse one that is too large, before it is copied or read."""
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape):
            itemsize = getattr(dtype, "itemsize", 8)
            # Zarr unpacks whole chunks, which may be larger than the array.
            chunk = find_chunks(array)
            self.check(shape, itemsize, math.prod(chunk) * itemsize if chunk else 0)

    def _prepare(self, array: Array) -> Array:
        assert self.preprocess is not None
        try:
            return np.asarray(self.preprocess(array))
        except Exception as error:
            raise DataError(
                f"preprocess of an image of {array.dtype} {array.shape}: {type(error).__name__}: {error}",
                need="a function of one array that returns one",
            ) from error

    def _turn(self, array: Array, names: str | None) -> Array:
        """An array as the network takes it: channels first, in its type."""
        axes = read_axes(names, array.shape, self.rank, self.channels)
        if any(count != 1 for count in axes.planes(array.shape).values()):
            raise ShapeError(
                f"an array of shape {array.shape} along {axes.names} is several images",
                need="one image each",
                fix="a list of them, or omniconv.tiled, which takes planes",
            )
        order = [name for name in axes.names if axes.is_plane(name)]
        order += [CHANNEL] if CHANNEL in axes.names else []
        moved = array.transpose([axes.names.index(name) for name in (*order, *axes.spatial)])
        return np.ascontiguousarray(moved.reshape(axes.inside(array.shape)[1:]), self.dtype)
