"""Files that only this user can have written: read with care, replaced as a whole."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

TEMPORARY: Final = ".new-"
"""How the names of files begin that are being written."""


class OwnFile(NamedTuple):
    """What a file holds, and when it was last modified [s since 1970]."""

    data: bytes
    modified: float


def read_own(path: Path, limit: int = -1, *, private: bool = False) -> OwnFile | None:
    """The first ``limit`` bytes of a regular file that only this user (or root) can have written; None of others.

    With ``private`` it has to be this user's own, and nobody else may read it either.
    """
    try:
        with open_now(path, follow=False) as file:
            status = os.fstat(file.fileno())
            trusted = _is_private(status) if private else _is_ours(status)
            return OwnFile(file.read(limit), status.st_mtime) if trusted else None
    except OSError:
        return None


def open_now(path: str | os.PathLike[str], *, follow: bool = True) -> io.BufferedReader:
    """Open a file to read it, without waiting for the other end where it is a pipe.

    Args:
        path: of the file.
        follow: whether it may be a link.

    Raises:
        OSError: it cannot be opened, or is a folder.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    # What an opener has opened is closed again where it is a folder; what is given to `fdopen` is not.
    return open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))


def write_own(path: Path, data: bytes) -> None:
    """Replace a file, for its readers at once and whole. Folders are made for this user alone.

    Raises:
        OSError: it cannot be written. Nothing is left behind then.
    """
    temporary = write_beside(path, data)
    try:
        Path(temporary).replace(path)
    except BaseException:
        remove(temporary)
        raise


def write_beside(path: Path, data: bytes) -> str:
    """Write a file for this user alone into the folder of another one; returns its name.

    Raises:
        OSError: it cannot be written. Nothing is left behind then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except BaseException:
        remove(temporary)
        raise
    return temporary


def remove(path: str) -> None:
    """Delete a file, where it is there."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def _is_ours(status: os.stat_result) -> bool:
    """Whether an open file is a regular one that only this user (or root) can have written."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows: the user's cache folder is private by its access list
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def _is_private(status: os.stat_result) -> bool:
    """Whether an open file is a regular one of this user that nobody else may read or write."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077
