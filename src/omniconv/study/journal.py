"""A journal of what a study has found so far, so that one that was stopped goes on where it was.

The first line says what is studied. Each further line is one finding, under the name of the job that made it, with a
digest; a line that was cut off or damaged is none, and its job is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from omniconv.errors import DataError
from omniconv.outside import storing
from omniconv.tiles.journal import open_locked, unlock

NAME = "journal.jsonl"


class StudyJournal:
    """The journal of one study. To be closed.

    Args:
        path: of its file; none for a study that is not kept.
        content: what decides the findings.
        resume: go on with what is there; otherwise begin anew.

    Attributes:
        found: what each job found.

    Raises:
        DataError: a journal of another study.
        StorageError: another run holds it, or it cannot be written.
    """

    def __init__(self, path: Path | None, content: dict[str, Any], *, resume: bool) -> None:
        self.found: dict[str, Any] = {}
        self._path, self._file = path, None
        if path is None:
            return
        with storing(f"opening the journal {str(path)!r}", fix="a folder that you may write to"):
            self._file = open_locked(path)
        try:
            head = json.dumps(content, sort_keys=True).encode() + b"\n"
            whole = self._read(head, content) if resume else b""
            self._file.truncate(len(whole))
            if not whole:
                self._write(head)
        except BaseException:
            self.close()
            raise

    def _read(self, head: bytes, content: dict[str, Any]) -> bytes:
        """The whole lines of the journal that is there, if it has any."""
        assert self._file is not None
        self._file.seek(0)
        text = self._file.read()
        whole: bytes = text[: text.rfind(b"\n") + 1]
        if not whole:
            return b""
        first, *rest = whole.splitlines()
        if first + b"\n" != head:
            raise DataError(
                f"journal {str(self._path)!r} is of another study: {_compare(first, content)}",
                need="the same images, settings and versions",
                fix="--restart (resume=False), which begins anew, or another folder",
            )
        for line in rest:
            check, _, text = line.partition(b" ")
            if check.decode(errors="replace") == _digest(text):
                key, value = json.loads(text)
                self.found[key] = value
        return whole

    def add(self, key: str, value: Any) -> None:
        """Keep what a job found."""
        self.found[key] = value
        if self._file is not None:
            text = json.dumps([key, value]).encode()
            self._write(_digest(text).encode() + b" " + text + b"\n")

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        with storing(f"writing the journal {str(self._path)!r}", fix="space on the disk"):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Keep it for another run."""
        if self._file is not None and not self._file.closed:
            unlock(self._file)
            self._file.close()


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _compare(first: bytes, content: dict[str, Any]) -> str:
    """What another study was about."""
    before: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        before = json.loads(first)
    if not isinstance(before, dict):
        return "its first line is damaged"
    now = json.loads(json.dumps(content))
    other = [key for key, value in now.items() if before.get(key) != value]
    found = [f"{key} {str(before.get(key))[:60]}, now {str(now[key])[:60]}" for key in other]
    return "; ".join(found) or "it has more to say"
