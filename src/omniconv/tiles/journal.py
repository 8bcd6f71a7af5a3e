"""A journal of the tiles that are finished, so that a run that was killed goes on where it was.

The first line says what is computed: the network with its weights, the shapes, the tiles, how it is compiled. A
further line is the number of a tile, a digest of what it read and one of what it wrote; or of a tile of a sweep the
plane, the sweep, its number, a digest of what it read, what it found and a digest of that. A tile is finished where
both are still so: of another image, or of an output that was made anew or did not reach the disk, nothing is taken
over. A line that was cut off is none.

Whoever holds the journal holds the result: its file is locked.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

import omniconv
from omniconv.errors import DataError, StorageError
from omniconv.program.describe import describe_program
from omniconv.tiles.compiled import Array
from omniconv.tiles.sums import Partial

if TYPE_CHECKING:
    from omniconv.tiles.plan import TilePlan

DIGEST: Final = 32
"""Digits of a digest."""
_SUM: Final = re.compile(rb"(\d{1,18}) (\d{1,6}) (\d{1,18}) ([0-9a-f]{32}) (\{[^ ]*\}) ([0-9a-f]{32})")
_LINE: Final = re.compile(rb"(\d{1,18}) ([0-9a-f]{32}) ([0-9a-f]{32})")


def describe(plan: TilePlan, dtypes: Mapping[str, str]) -> dict[str, Any]:
    """What decides the bytes of the results, beside the images themselves.

    Args:
        plan: the tiles.
        dtypes: of the images.
    """
    options, target = plan.subject.options, plan.subject.target
    return {
        "omniconv": omniconv.__version__,
        "network": hashlib.sha256(describe_program(plan.whole.program)).hexdigest(),
        "outputs": {name: list(output.shape) for name, output in plan.outputs.items()},
        "inputs": {name: [image.axes.names, list(image.shape), dtypes[name]] for name, image in plan.inputs.items()},
        "sweeps": [list(sweep.plan.tile) for sweep in plan.sweeps],
        "tile": list(plan.tile),
        "exact": options.exact,
        "accuracy": options.accuracy,
        "target": str(target),
    }


def digest(parts: Iterable[Array], more: str = "") -> str:
    """What tells parts of arrays from others: their bytes in row-major order; and what else they go with.

    Every byte that is read and written goes through it. Processors have instructions for SHA-256, which make it twice
    as fast as BLAKE2.
    """
    state = hashlib.sha256(more.encode())
    for part in parts:
        state.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return state.hexdigest()[:DIGEST]


class Journal:
    """The journal of one result. To be closed.

    Args:
        path: of its file.
        content: what is computed, see :func:`describe`.
        resume: go on with what is there; otherwise begin anew.

    Attributes:
        done: for the number of a tile, the digests of what it read and wrote.
        sums: for the plane, the sweep and the number of a tile, a digest of what it read and what it found.

    Raises:
        DataError: a journal of something else.
        StorageError: another run holds it.
    """

    def __init__(self, path: Path, content: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.done: dict[int, tuple[str, str]] = {}
        self.sums: dict[tuple[int, int, int], tuple[str, Partial]] = {}
        self._file = open_locked(path)
        try:
            head = json.dumps(content, sort_keys=True).encode() + b"\n"
            whole = self._read(head, content) if resume else b""
            self._file.truncate(len(whole))
            if not whole:
                self._file.write(head)
            self._sync()
        except BaseException:
            self.close()
            raise

    def _read(self, head: bytes, content: dict[str, Any]) -> bytes:
        """The whole lines of the journal that is there, if it has any."""
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            return b""
        first, *rest = whole.splitlines()
        if first + b"\n" != head:
            raise DataError(
                f"journal {str(self.path)!r} is of another run: {_differences(first, content)}",
                need="the same network, image and tiles",
                fix="resume=False, which begins anew",
            )
        for line in rest:
            if match := _LINE.fullmatch(line):
                self.done[int(match[1])] = match[2].decode(), match[3].decode()
            elif (match := _SUM.fullmatch(line)) and _check(match[5].decode()) == match[6].decode():
                with contextlib.suppress(ValueError, LookupError, TypeError, OverflowError, RecursionError):
                    place = int(match[1]), int(match[2]), int(match[3])
                    self.sums[place] = match[4].decode(), Partial.of_text(match[5].decode())
        return whole

    def add(self, number: int, read: str, written: str) -> None:
        """Note that a tile is finished, by the digests of what it read and wrote."""
        self._file.write(f"{number} {read} {written}\n".encode())
        self._sync()

    def add_sum(self, place: tuple[int, int, int], read: str, found: Partial) -> None:
        """Note what a tile of a sweep found: the plane, the sweep and its number, and a digest of what it read."""
        text = found.to_text()
        self._file.write(f"{place[0]} {place[1]} {place[2]} {read} {text} {_check(text)}\n".encode())
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Keep it for another run."""
        if not self._file.closed:
            unlock(self._file)
            self._file.close()

    def finish(self) -> None:
        """Remove it: the result is whole."""
        if sys.platform == "win32":
            self.close()
        self.path.unlink(missing_ok=True)
        self.close()


def _check(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def open_locked(path: Path) -> IO[bytes]:
    """A file that is there, or a new one, which no other run holds; what is written goes to its end."""
    while True:
        file = path.open("a+b")
        try:
            _lock(file)
            # Who held it may have finished, and removed it, while it was opened here.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException as error:
            file.close()
            if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise StorageError(
                    f"another run holds {str(path)!r}, the journal of this result",
                    need="one run at a time",
                    fix="another out=, or wait until it is done",
                ) from None
            raise
        file.close()


def _lock(file: IO[bytes]) -> None:
    """Lock a file, or raise an `OSError` at once; it is unlocked at the latest when the process ends."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some disks of a network have no locks. Digests keep the result right there too.
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise


def unlock(file: IO[bytes]) -> None:
    """Unlock it, in processes too that were forked meanwhile."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def _differences(first: bytes, content: dict[str, Any]) -> str:
    """What another run was about."""
    before: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        before = json.loads(first)
    if not isinstance(before, dict):
        return "its first line is damaged"
    found = [
        f"{key} {str(before.get(key))[:60]}, now {str(value)[:60]}"
        for key, value in content.items()
        if before.get(key) != value
    ]
    return "; ".join(found) or "it has more to say"
