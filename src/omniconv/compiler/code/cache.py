"""`ObjectCache`: machine code on disk, shared by processes.

An entry is code that will be executed, so it is only believed if all of this holds; otherwise it counts as missing and
is built and written anew:

- it is a regular file that belongs to this user (or to root) and that nobody else may write to;
- its header names this format, and it was sealed (:mod:`omniconv.compiler.code.key`) with this user's key for the
  digest that it is asked for, which stands for the recipe, the processor and its features, and the compiler.

Entries are written to a temporary file in the same folder and renamed, so that a reader sees all of one or nothing,
whatever other processes do. The folder is created for this user alone. Where it cannot be written to, everything works
as without a cache, after one warning.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from omniconv.compiler.code.key import find_key, is_sealed, open_key, seal
from omniconv.compiler.code.own import TEMPORARY, read_own, remove, write_own
from omniconv.errors import warn

VARIABLE: Final = "OMNICONV_CACHE"
LIMIT: Final = 512 * 2**20
"""Size of all entries above which the oldest are deleted [bytes]."""

_MAGIC: Final = b"omniconv object code 2\n"
_HEADER: Final = len(_MAGIC) + 32
_SUFFIX: Final = ".oco"
_DAY: Final = 86400.0
_STAMP: Final = ".pruned"
"""Changed whenever a folder has been looked through."""
_written: Final[dict[str, int]] = {}
"""What this process has put into each folder since it last looked through it [bytes]."""
_warned: Final[set[str]] = set()


class CodeStore(Protocol):
    """Where machine code is looked for before it is made, and filed afterwards."""

    def get(self, digest: str) -> bytes | None:
        """The object code of a digest; None where there is none."""

    def put(self, digest: str, code: bytes) -> None:
        """File ``code`` under ``digest``."""


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

    def find_key(self) -> bytes | None:
        """The key of this user that is kept here; None where there is none."""
        return find_key(self.folder)

    def open_key(self) -> bytes | None:
        """The key of this user, made now where there is none; None, after one warning, where it cannot be."""
        try:
            return open_key(self.folder)
        except OSError as error:
            self._warn(error)
            return None

    def get(self, digest: str) -> bytes | None:
        """The object code filed under ``digest``; None where there is none that can be trusted."""
        path = self.path(digest)
        found = read_own(path)
        code = self._unpack(found.data, digest) if found is not None else None
        if found is not None and code is not None and time.time() - found.modified > _DAY:
            with contextlib.suppress(OSError):
                os.utime(path)  # pruning goes by age since the last use, to the day
        return code

    def put(self, digest: str, code: bytes) -> None:
        """File ``code`` under ``digest``, in place of what was there."""
        try:
            mark = seal(open_key(self.folder), _MAGIC, digest.encode(), code)
            write_own(self.path(digest), _MAGIC + mark + code)
        except OSError as error:
            self._warn(error)
            return
        if self._is_due(len(code)):
            self.prune()

    def _unpack(self, data: bytes, digest: str) -> bytes | None:
        """The payload of an entry, or None where any part of it is wrong."""
        key, code = find_key(self.folder), data[_HEADER:]
        if key is None or not code or not data.startswith(_MAGIC):
            return None
        return code if is_sealed(data[len(_MAGIC) : _HEADER], key, _MAGIC, digest.encode(), code) else None

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
                    if not item.name.endswith(_SUFFIX) and not item.name.startswith(TEMPORARY):
                        continue
                    try:
                        status = item.stat(follow_symlinks=False)
                    except OSError:  # another process was faster
                        continue
                    if item.name.endswith(_SUFFIX):
                        entries.append((status.st_mtime, status.st_size, item.path))
                    elif now - status.st_mtime > _DAY:
                        remove(item.path)
        except OSError:
            return
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            if total <= self.limit * 3 // 4:
                break
            remove(path)
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


class GivenCode:
    """Machine code that is at hand, by digest, before that on the disk.

    Args:
        code: what is at hand.
    """

    def __init__(self, code: Mapping[str, bytes]) -> None:
        self._code = code

    def get(self, digest: str) -> bytes | None:
        """See `CodeStore`."""
        found = self._code.get(digest)
        if found is not None:
            return found
        cache = open_cache()
        return None if cache is None else cache.get(digest)

    def put(self, digest: str, code: bytes) -> None:
        """See `CodeStore`."""
        cache = open_cache()
        if cache is not None:
            cache.put(digest, code)
