"""`ObjectCache`: machine code on disk, shared by processes.

An entry is code that will be executed, so it is only believed if all of this holds; otherwise it counts as missing and
is built and written anew:

- it is a regular file that belongs to this user (or to root) and that nobody else may write to;
- its header names this format and the digest it is asked for, and the hash of its payload is right.

Entries are written to a temporary file in the same folder and renamed, so that a reader sees all of one or nothing,
whatever other processes do. The folder is created for this user alone. Where it cannot be written to, everything works
as without a cache, after one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from omniconv.errors import warn

VARIABLE: Final = "OMNICONV_CACHE"
LIMIT: Final = 512 * 2**20
"""Size of all entries above which the oldest are deleted [bytes]."""

_MAGIC: Final = b"omniconv object code 1\n"
_HEADER: Final = len(_MAGIC) + 64
_SUFFIX: Final = ".oco"
_TEMPORARY: Final = ".new-"
_DAY: Final = 86400.0
_STAMP: Final = ".pruned"
"""Changed whenever a folder has been looked through."""
_written: Final[dict[str, int]] = {}
"""What this process has put into each folder since it last looked through it [bytes]."""
_warned: Final[set[str]] = set()


class ObjectCache:
    """Entries by digest (64 hexadecimal digits) in one folder. Every method is safe in any number of processes.

    Args:
        folder: where entries are kept; created when the first one is written.
        limit: size of all entries above which the oldest are deleted [bytes].
    """

    def __init__(self, folder: str | os.PathLike[str], *, limit: int = LIMIT) -> None:
        self.folder = Path(folder)
        self.limit = limit

    def path(self, digest: str) -> Path:
        """The file of an entry."""
        return self.folder / (digest + _SUFFIX)

    def get(self, digest: str) -> bytes | None:
        """The object code filed under ``digest``; None where there is none that can be trusted."""
        path = self.path(digest)
        found = read_own(path)
        code = _unpack(found.data, digest) if found is not None else None
        if found is not None and code is not None and time.time() - found.modified > _DAY:
            with contextlib.suppress(OSError):
                os.utime(path)  # pruning goes by age since the last use, to the day
        return code

    def put(self, digest: str, code: bytes) -> None:
        """File ``code`` under ``digest``, in place of what was there."""
        try:
            write_own(self.path(digest), _pack(code, digest))
        except OSError as error:
            self._warn(error)
            return
        if self._is_due(len(code)):
            self.prune()

    def _is_due(self, size: int) -> bool:
        """Whether to look through the folder, which takes a second where there are many entries: once a day, whatever
        the number of processes, and where this one alone has written much.
        """
        key = str(self.folder)
        first = key not in _written
        _written[key] = _written.get(key, 0) + size
        if _written[key] > self.limit // 8:
            return True
        if not first:
            return False
        try:
            return time.time() - (self.folder / _STAMP).stat().st_mtime > _DAY
        except OSError:
            return True

    def prune(self) -> None:
        """Delete lost temporary files and, above the limit, the least recently used entries down to 3/4 of it."""
        entries: list[tuple[float, int, str]] = []
        now = time.time()
        _written[str(self.folder)] = 0
        with contextlib.suppress(OSError):
            (self.folder / _STAMP).touch(mode=0o600)
        try:
            with os.scandir(self.folder) as found:
                for item in found:
                    if not item.name.endswith(_SUFFIX) and not item.name.startswith(_TEMPORARY):
                        continue
                    try:
                        status = item.stat(follow_symlinks=False)
                    except OSError:  # another process was faster
                        continue
                    if item.name.endswith(_SUFFIX):
                        entries.append((status.st_mtime, status.st_size, item.path))
                    elif now - status.st_mtime > _DAY:
                        _remove(item.path)
        except OSError:
            return
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            if total <= self.limit * 3 // 4:
                break
            _remove(path)
            total -= size

    def _warn(self, error: OSError) -> None:
        key = str(self.folder)
        if key not in _warned:
            _warned.add(key)
            warn(
                f"omniconv cannot keep compiled code in {key} ({error.strerror or error}): every process compiles. "
                f"Set {VARIABLE} to a folder that can be written to, or to 'off'",
                RuntimeWarning,
            )


def open_cache(folder: str | os.PathLike[str] | None = None) -> ObjectCache | None:
    """The cache in ``folder``, else where ``OMNICONV_CACHE`` says, else in the user's cache folder.

    Returns:
        None where ``OMNICONV_CACHE`` is ``off``, ``0`` or empty.
    """
    if folder is not None:
        return ObjectCache(folder)
    text = os.environ.get(VARIABLE)
    if text is not None:
        return ObjectCache(Path(text).expanduser()) if text.strip().lower() not in ("", "0", "off") else None
    import platformdirs

    return ObjectCache(platformdirs.user_cache_path("omniconv", appauthor=False) / "objects")


class OwnFile(NamedTuple):
    """What a file holds, and when it was last modified [s since 1970]."""

    data: bytes
    modified: float


def read_own(path: Path, limit: int = -1) -> OwnFile | None:
    """The first ``limit`` bytes of a regular file that only this user (or root) can have written; None of others."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            return OwnFile(file.read(limit), status.st_mtime) if _is_ours(status) else None
    except OSError:
        return None


def write_own(path: Path, data: bytes) -> None:
    """Replace a file, for its readers at once and whole. Folders are made for this user alone.

    Raises:
        OSError: it cannot be written. Nothing is left behind then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        _remove(temporary)
        raise


def _pack(code: bytes, digest: str) -> bytes:
    """Magic, digest of the entry, hash of the payload, payload."""
    return _MAGIC + bytes.fromhex(digest) + hashlib.sha256(code).digest() + code


def _unpack(data: bytes, digest: str) -> bytes | None:
    """The payload of an entry, or None where any part of it is wrong."""
    code = data[_HEADER:]
    return code if code and data == _pack(code, digest) else None


def _is_ours(status: os.stat_result) -> bool:
    """Whether an open file is a regular one that only this user (or root) can have written."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):  # Windows: the user's cache folder is private by its access list
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()
