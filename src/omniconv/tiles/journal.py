"""A journal of the tiles that are finished, so that a run that was killed goes on where it was.

The first line says what is computed: the network with its weights, the shapes, the tiles, how it is compiled. Each
further line is the number of a tile, a digest of what it read and one of what it wrote. A tile is finished where both
are still so: of another image, or of an output that was made anew or did not reach the disk, nothing is taken over. A
line that was cut off is none.

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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

import omniconv
from omniconv.errors import DataError, StorageError
from omniconv.program.describe import describe_program
from omniconv.tiles.compiled import Array

if TYPE_CHECKING:
    from omniconv.tiles.plan import TilePlan

_LINE: Final = re.compile(rb"(\d{1,18}) ([0-9a-f]{32}) ([0-9a-f]{32})")


def describe(plan: TilePlan, dtype: str) -> dict[str, Any]:
    """What decides the bytes of a result, beside the image itself."""
    options, target = plan.subject.options, plan.subject.target
    return {
        "omniconv": omniconv.__version__,
        "network": hashlib.sha256(describe_program(plan.whole.program)).hexdigest(),
        "output": plan.whole.tensor,
        "shape": list(plan.shape),
        "input_dtype": dtype,
        "axes": plan.axes.names,
        "result": list(plan.output_shape),
        "tile": list(plan.tile),
        "exact": options.exact,
        "accuracy": options.accuracy,
        "target": str(target),
    }


def digest(part: Array, more: str = "") -> str:
    """What tells a part of an array from others: its bytes in row-major order; and what else it goes with."""
    data = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
    return hashlib.blake2b(data, digest_size=16, key=more.encode()).hexdigest()


class Journal:
    """The journal of one result. To be closed.

    Args:
        path: of its file.
        content: what is computed, see :func:`describe`.
        resume: go on with what is there; otherwise begin anew.

    Attributes:
        done: for the number of a tile, the digests of what it read and wrote.

    Raises:
        DataError: a journal of something else.
        StorageError: another run holds it.
    """

    def __init__(self, path: Path, content: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.done: dict[int, tuple[str, str]] = {}
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
        found = (_LINE.fullmatch(line) for line in rest)
        self.done = {int(line[1]): (line[2].decode(), line[3].decode()) for line in found if line}
        return whole

    def add(self, number: int, read: str, written: str) -> None:
        """Note that a tile is finished, by the digests of what it read and wrote."""
        self._file.write(f"{number} {read} {written}\n".encode())
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
