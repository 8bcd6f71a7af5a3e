"""Where results go: files that appear when they are whole, and a journal of what they are of.

The folder of results has a folder ``.omniconv`` with the journal and what is being written. The first line of the
journal says what decides the results, beside the images. A further line claims the name of a file before anything is
written there; or says that it is finished, with digests of the image as the network took it and of the file. What no
run has claimed is never replaced. A line that was cut off is none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import uuid
import zipfile
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, OmniconvError, StorageError
from omniconv.outside import need_package, storing
from omniconv.tiles.journal import open_locked, unlock

Array: TypeAlias = npt.NDArray[Any]

PACKAGES: Final = {".npy": "", ".npz": "", ".png": "PIL", ".tif": "tifffile", ".tiff": "tifffile", ".zarr": "zarr"}
"""Endings of results, and the package that writes them."""
INSIDE: Final = ".omniconv"
_NAMES: Final = frozenset({
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ, errno.ELOOP,
})  # fmt: skip
"""What is wrong with one name, and not with the disk."""


def digest_image(image: Array) -> str:
    """What tells an image, as the network takes it, from others."""
    state = hashlib.blake2b(repr((image.shape, image.dtype.str)).encode(), digest_size=16)
    state.update(np.ascontiguousarray(image).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """What tells a file, or a folder with all that is in it, from others; empty where there is none."""
    state = hashlib.blake2b(digest_size=16)
    try:
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file():
                state.update(repr(each.relative_to(path).as_posix()).encode())
                with each.open("rb") as file:
                    while piece := file.read(2**20):
                        state.update(piece)
    except OSError:
        return ""
    return state.hexdigest()


def write_result(folder: Path, place: str, value: Any) -> str:
    """Write one result, which appears when it is whole; returns its digest.

    Args:
        folder: of all results.
        place: its path below, with the ending that says how it is written.
        value: an array, or for ``.npz`` several by name.

    Raises:
        DataError: a value that such a file does not hold, or a name that no file can have.
        StorageError: the disk is full, or failed.
    """
    path, part = folder / place, folder / INSIDE / "parts" / f"{uuid.uuid4()}{Path(place).suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        _write(part, value)
        written = digest_file(part)
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    except OmniconvError:
        raise
    except OSError as error:
        if error.errno in _NAMES:
            raise DataError(
                f"{place!r} cannot be written: {error.strerror}", need="a name that a file can have"
            ) from None
        raise StorageError(
            f"writing {place!r}: {error}",
            need="a disk that can be written",
            fix="the same call again goes on where it stopped",
        ) from error
    except Exception as error:
        raise DataError(
            f"{place!r} cannot hold the result: {type(error).__name__}: {error}", need="another suffix="
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    return written


def _write(path: Path, value: Any) -> None:
    match path.suffix:
        case ".npy":
            np.save(path, value, allow_pickle=False)
        case ".npz":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, array in value.items():  # numpy.savez takes some names for its arguments
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
        case ".zarr":
            import zarr

            zarr.save_array(path, value)
        case ".png":
            from PIL import Image

            Image.fromarray(as_picture(value)).save(path, format="PNG")
        case _:
            import tifffile

            tifffile.imwrite(path, value)


def as_picture(value: Array) -> Array:
    """An array as a picture of 8 bits, or grey of 16: ``(Y, X)`` or ``(Y, X, C)``, given channels first.

    Raises:
        DataError: what no such picture holds.
    """
    shown = value[0] if value.ndim == 3 and value.shape[0] == 1 else value
    shown = np.moveaxis(shown, 0, -1) if shown.ndim == 3 and shown.shape[0] in (3, 4) else shown
    grey = shown.ndim == 2 and shown.dtype in (np.uint8, np.uint16, np.bool_)
    if not grey and (shown.ndim != 3 or shown.dtype != np.uint8 or shown is value):
        raise DataError(
            f"a result of {value.dtype} {value.shape} as a picture",
            need="bool, uint8 or uint16 of shape (Y, X), or uint8 of shape (3, Y, X)",
            fix="postprocess=lambda y: y.argmax(0).astype(numpy.uint8)",
        )
    return np.ascontiguousarray(shown)


def check_suffix(suffix: Any) -> str:
    """The ending of results, and the package for it.

    Raises:
        DataError: another ending.
        UnsupportedError: the package is not installed.
    """
    if not isinstance(suffix, str) or suffix not in PACKAGES:
        raise DataError(f"suffix={suffix!r}", need="one of " + ", ".join(PACKAGES))
    if PACKAGES[suffix]:
        need_package(PACKAGES[suffix], "pillow" if suffix == ".png" else "")
    return suffix


class ResultFolder:
    """The results of one run on a disk, and their journal. To be closed.

    Args:
        path: of the folder, which is made where only itself is missing.
        content: what decides the results, beside the images.
        resume: go on with what is there; otherwise compute all anew.

    Raises:
        DataError: a journal of something else, or something that is no folder.
        StorageError: another run holds it, or it cannot be written.
    """

    def __init__(self, path: Path, content: dict[str, Any], *, resume: bool) -> None:
        self.path, self.head = path, json.dumps(content, sort_keys=True).encode() + b"\n"
        self._done: dict[str, tuple[str, str]] = {}
        self._claimed: set[str] = set()
        self._lock = threading.Lock()
        try:
            if not path.is_dir():
                path.mkdir()
            (path / INSIDE).mkdir(exist_ok=True)
        except (OSError, ValueError) as error:
            raise StorageError(f"no folder {str(path)!r} for results: {error}", need="a folder that exists") from None
        self.journal = path / INSIDE / "journal"
        self._file: IO[bytes] = open_locked(self.journal)
        try:
            shutil.rmtree(path / INSIDE / "parts", ignore_errors=True)
            self._begin(resume=resume)
        except BaseException:
            self.close()
            raise

    def _begin(self, *, resume: bool) -> None:
        self._file.seek(0)
        text = self._file.read()
        first, *rest = text[: text.rfind(b"\n") + 1].splitlines(keepends=True) or [b""]
        for line in rest:
            self._read(line)
        if resume and first and first != self.head:
            raise DataError(
                f"{str(self.path)!r} has results of another run: {_differences(first, self.head)}",
                need="the same network and settings",
                fix="another out=, or resume=False, which computes all anew",
            )
        if not resume:
            self._done.clear()
        if not (resume and first):
            # What earlier runs have written stays theirs, so that it may be replaced.
            self._file.truncate(0)
            self._file.write(self.head)
            for name in sorted(self._claimed):
                self._write({"claim": name})
        else:
            self._file.truncate(text.rfind(b"\n") + 1)
        self._file.flush()

    def _read(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            found = json.loads(line)
            name = found.get("done", found.get("claim")) if isinstance(found, dict) else None
            if not isinstance(name, str):
                return
            self._claimed.add(name)
            if "done" in found and isinstance(found["read"], str) and isinstance(found["written"], str):
                self._done[name] = found["read"], found["written"]

    def _write(self, line: dict[str, str]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")

    def _note(self, line: dict[str, str]) -> None:
        with storing(f"writing {str(self.journal)!r}"):
            self._write(line)
            self._file.flush()

    def claim(self, place: str) -> tuple[str, str] | None:
        """Take the name of a result; what is known of one there, that may still be right.

        Raises:
            DataError: there is something that no run has written.
        """
        with self._lock:
            if place not in self._claimed:
                if os.path.lexists(self.path / place):
                    raise DataError(
                        f"{place!r} is there already, and no run has written it", need="another out=", fix="remove it"
                    )
                self._claimed.add(place)
                self._note({"claim": place})
            return self._done.get(place)

    def finish(self, place: str, read: str, written: str) -> None:
        """Note that a result is finished, by the digests of its image and its file."""
        with self._lock:
            self._note({"done": place, "read": read, "written": written})

    def close(self) -> None:
        """Let others have it."""
        if not self._file.closed:
            unlock(self._file)
            self._file.close()


def _differences(first: bytes, head: bytes) -> str:
    try:
        before, now = json.loads(first), json.loads(head)
        found = [
            f"{key} {str(before.get(key))[:60]}, now {str(now[key])[:60]}" for key in now if before.get(key) != now[key]
        ]
    except (ValueError, RecursionError, AttributeError):
        found = []
    return "; ".join(found) or "its first line is damaged"
