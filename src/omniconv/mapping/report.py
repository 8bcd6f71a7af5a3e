"""What became of each image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omniconv.analysis.record import Record
from omniconv.errors import OmniconvError
from omniconv.records import dataclass
from omniconv.spec import Shape

SHOWN = 20
"""Images that failed which a text lists."""


@dataclass(frozen=True, slots=True)
class MapRecord(Record):
    """What became of one image.

    Attributes:
        index: its place in the source.
        name: its path below the folder, or its number.
        shape: as the network took it, ``(C, *spatial)``; ``None`` where it could not be read.
        result: the path that was written, or without ``out`` the array, of several outputs a dict; ``None`` where it
            failed.
        error: why it failed.
        old: it was finished by an earlier run.
    """

    index: int
    name: str
    shape: Shape | None
    result: Any
    error: OmniconvError | None = None
    old: bool = False

    def to_dict(self) -> dict[str, Any]:
        """See `Record`; of an array only that it is there."""
        return {
            "index": self.index,
            "name": printable(self.name),
            "shape": None if self.shape is None else list(self.shape),
            "result": printable(str(self.result)) if isinstance(self.result, Path) else None,
            "error": None if self.error is None else printable(str(self.error)),
            "old": self.old,
        }


@dataclass(frozen=True, slots=True, eq=False)
class MapReport(Record):
    """What became of all images, in the order of the source; ``print(report)`` counts them and lists those that failed.

    Attributes:
        records: one for each image.
        seconds: time of the run [s].
    """

    records: tuple[MapRecord, ...]
    seconds: float

    def __iter__(self) -> Iterator[MapRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def results(self) -> list[Any]:
        """Paths or arrays, in the order of the source; ``None`` for images that failed."""
        return [record.result for record in self.records]

    @property
    def failed(self) -> list[MapRecord]:
        """Images that could not be read, computed or written."""
        return [record for record in self.records if record.error is not None]

    def to_dict(self) -> dict[str, Any]:
        """See `Record`."""
        return {"records": [record.to_dict() for record in self.records], "seconds": self.seconds}

    def __str__(self) -> str:
        failed, old = self.failed, sum(record.old for record in self.records)
        text = [f"{len(self) - len(failed)} of {len(self)} images, {old} of them from an earlier run"]
        text += [f"  {printable(record.name)}: {printable(str(record.error))}" for record in failed[:SHOWN]]
        if len(failed) > SHOWN:
            text.append(f"  and {len(failed) - SHOWN} more that failed")
        return "\n".join(text)


def printable(text: str) -> str:
    """A name of a file as a line of text: bytes that are no text, and controls, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
