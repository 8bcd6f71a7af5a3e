"""A journal of the tiles that are finished, so that a run that was killed goes on where it was.

The first line says what is computed: the network with its weights, the shapes, the tiles, how it is compiled. Each
further line is the number of a tile whose outputs have reached the disk. A line that was cut off is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import omniconv
from omniconv.errors import DataError
from omniconv.tiles.lines import describe_program

if TYPE_CHECKING:
    from omniconv.tiles.plan import TilePlan


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
        "target": str(target),
    }


class Journal:
    """The journal of one result. To be closed.

    Args:
        path: of its file.
        content: what is computed, see :func:`describe`.
        resume: go on with what is there; otherwise begin anew.

    Attributes:
        done: numbers of tiles that need not be computed.

    Raises:
        DataError: a journal of something else.
    """

    def __init__(self, path: Path, content: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.done: set[int] = set()
        self._file: IO[bytes] | None = None
        head = json.dumps(content, sort_keys=True).encode() + b"\n"
        whole = self._read(head, content) if resume and path.exists() else b""
        self._file = path.open("wb" if not whole else "r+b")
        if whole:
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        else:
            self._file.write(head)
        self._sync()

    def _read(self, head: bytes, content: dict[str, Any]) -> bytes:
        """The whole lines of the journal that is there, if it has any."""
        text = self.path.read_bytes()
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
        self.done = {int(line) for line in rest if line.isdigit()}
        return whole

    def add(self, number: int) -> None:
        """Note that a tile has reached the disk."""
        assert self._file is not None
        self._file.write(f"{number}\n".encode())
        self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Keep it for another run."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> None:
        """Remove it: the result is whole."""
        self.close()
        self.path.unlink(missing_ok=True)


def _differences(first: bytes, content: dict[str, Any]) -> str:
    """What another run was about."""
    before: Any = None
    with contextlib.suppress(ValueError):
        before = json.loads(first)
    if not isinstance(before, dict):
        return "its first line is damaged"
    found = [
        f"{key} {str(before.get(key))[:60]}, now {str(value)[:60]}"
        for key, value in content.items() if before.get(key) != value
    ]  # fmt: skip
    return "; ".join(found) or "it has more to say"
