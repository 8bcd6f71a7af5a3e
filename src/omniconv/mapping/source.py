"""Which images there are: those in a folder, of a pattern, a list, a generator or a bag of Dask."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePath
from typing import Any

from omniconv.choices import check_instance
from omniconv.errors import DataError, OmniconvError, StorageError
from omniconv.mapping.pictures import PICTURES
from omniconv.records import dataclass
from omniconv.tiles.storage import TIFF

KNOWN = frozenset((*PICTURES, *TIFF, ".npy", ".zarr"))
"""Endings of images."""


@dataclass(frozen=True, slots=True)
class MapItem:
    """One image.

    Attributes:
        index: its number.
        name: for reports.
        place: where its result goes below the folder of results, without an ending.
        content: a path, an array, or why there is neither.
    """

    index: int
    name: str
    place: str
    content: Any


@dataclass(frozen=True, slots=True)
class MapSource:
    """Images that can be gone through once.

    Attributes:
        items: the images.
        total: how many there are, where that is known.
    """

    items: Iterator[MapItem]
    total: int | None


def open_source(source: Any, pattern: str | None, out: Path | None) -> MapSource:
    """Anything that :func:`omniconv.map` takes.

    Args:
        source: as there.
        pattern: of names in folders.
        out: a folder that is left out where it lies in that of the images, or a pattern leads into it.

    Raises:
        DataError: something else.
        StorageError: a path that leads nowhere.
    """
    if pattern is not None:
        check_instance("pattern", pattern, str, need='names of files, e.g. "*.png"')
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), pattern, out)
    if pattern is not None:
        raise DataError(f"pattern={pattern!r} with a {type(source).__name__}", need="a pattern for folders only")
    if type(source).__module__.startswith("dask.bag"):
        return MapSource(_number(_items_of_bag(source)), None)
    none = (bytes, bytearray, memoryview, Mapping, AbstractSet)
    if isinstance(source, none) or hasattr(source, "__array__") or not isinstance(source, Iterable):
        raise DataError(
            f"images in a {type(source).__name__}",
            need="a folder, a list or generator of paths and arrays, or a bag of Dask",
            fix="[image]",
        )
    if not isinstance(source, list | tuple):
        return MapSource(_number(source), None)
    paths = [_absolute(item) for item in source if isinstance(item, str | os.PathLike)]
    return MapSource(_number(source, _find_common(paths)), len(source))


def _absolute(path: str | os.PathLike[str]) -> str:
    try:
        return os.path.abspath(path)  # noqa: PTH100 - links stay as they are
    except (ValueError, OSError, TypeError):
        return ""


def _find_common(paths: list[str]) -> str | None:
    """The folder that all paths lie in."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths]) if all(paths) else None  # noqa: PTH120
    except ValueError:
        return None


def _number(source: Iterable[Any], base: str | None = None) -> Iterator[MapItem]:
    """Items of an iterable, named by their paths below a folder, or by their number."""
    for index, item in enumerate(source):
        if isinstance(item, str | os.PathLike):
            path = Path(_absolute(item) or os.fspath(item))
            name = path.relative_to(base).as_posix() if base is not None else path.name
            yield MapItem(index, name, _without_ending(name), path)
        else:
            yield MapItem(index, str(index), f"{index:06d}", item)


def _without_ending(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix() if PurePath(name).suffix else name


def _items_of_bag(bag: Any) -> Iterator[Any]:
    """Items of a bag of Dask, one partition at a time: by threads, unless a client or a setting says otherwise."""
    import dask

    scheduler: Any = dask.config.get("scheduler", None) or _find_scheduler()
    for part in bag.to_delayed():
        yield from part.compute(**({} if scheduler is None else {"scheduler": scheduler}))


def _find_scheduler() -> str | None:
    from dask.base import get_scheduler

    return None if get_scheduler() is not None else "threads"


def _open_path(path: str, pattern: str | None, out: Path | None) -> MapSource:
    try:
        folder, there = os.path.isdir(path), os.path.lexists(path)  # noqa: PTH112
    except ValueError:  # a path that no file can have
        folder = there = False
    if folder and not path.rstrip("/\\").endswith(".zarr"):
        items = list(_walk(Path(path), pattern, out))
        if not items:
            raise DataError(
                f"no images in {path!r}",
                need=f"files like {pattern}" if pattern else "files that end in " + ", ".join(sorted(KNOWN)),
            )
        return MapSource(iter(items), len(items))
    if pattern is not None:
        raise DataError(f"pattern={pattern!r} with {path!r}", need="a pattern for folders only")
    if there:
        return MapSource(_number([path]), 1)
    found = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - takes ** and roots
    found = [name for name in found if out is None or not Path(os.path.realpath(Path(name).parent)).is_relative_to(out)]
    if not found:
        raise StorageError(f"no file or folder {path!r}", need="images that exist")
    return open_source(found, None, out)


def _walk(folder: Path, pattern: str | None, out: Path | None) -> Iterator[MapItem]:
    """Images below a folder in order of their names. Links to files are followed, to folders not."""
    failed: list[OSError] = []
    apart = None if out is None else os.path.realpath(out)
    count = 0
    for top, folders, files in os.walk(folder, onerror=failed.append):
        folders.sort()
        stores = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [
            name
            for name in folders
            if name not in stores and not name.startswith(".") and os.path.realpath(Path(top, name)) != apart
        ]
        wanted = _matcher(pattern)
        for name in sorted(files + stores):
            path = Path(top, name)
            below = path.relative_to(folder)
            if wanted(below):
                yield MapItem(count, below.as_posix(), _without_ending(below.as_posix()), path.absolute())
                count += 1
    for error in failed:
        name = str(error.filename)
        found: OmniconvError = StorageError(f"folder {name!r}: {error.strerror}", need="a folder that can be read")
        yield MapItem(count, name, name, found)
        count += 1


def _matcher(pattern: str | None) -> Callable[[PurePath], bool]:
    if pattern is None:
        return lambda path: path.suffix.lower() in KNOWN and not path.name.startswith(".")
    return lambda path: path.match(pattern)
