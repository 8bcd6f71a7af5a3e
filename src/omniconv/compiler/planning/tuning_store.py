"""`TuningStore`: measured choices on disk, beside the object cache, as JSON that a person can read.

There is a folder for each pair of a machine and a version of this compiler, named after a hash of the target with all
its features, the processor, LLVM and the source files that generate code; so what was measured with other kernels or
elsewhere is not found. In it there is a file for each problem, replaced as a whole; processes that write at the same
time lose nothing. A file is believed if it belongs to this user (as in :mod:`omniconv.compiler.code.own`), has the
fields of this format with values of their types and nothing else, and lies under the name that its problem has. What it
says is then only compared with choices that the compiler lists itself (:mod:`omniconv.compiler.problem.tuning`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from omniconv.compiler.code.build import Source, digest_of
from omniconv.compiler.code.cache import open_cache
from omniconv.compiler.code.own import read_own, write_own
from omniconv.compiler.problem.tuning import Tuning
from omniconv.records import dataclass
from omniconv.target.model import Target
from omniconv.target.select import detect_host

FORMAT: Final = 1
LIMIT: Final = 2**16
"""Most bytes in a file."""
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured choice.

    Attributes:
        problem: text of the problem.
        choice: text of what won.
        default: text of what the model of costs chooses.
        gain: time of the default over that of the choice.
        layer: the layer it was measured on, for readers.
        threads: how many shared the work.
        format: of the file.
        target: the target, for readers.
        processor: the machine, for readers.
    """

    problem: str
    choice: str
    default: str
    gain: float
    layer: str
    threads: int
    format: int
    target: str
    processor: str


class TuningStore:
    """The choices for one target on this machine, in a folder of their own under ``folder``."""

    def __init__(self, folder: str | os.PathLike[str], target: Target) -> None:
        self.target = target
        self.processor = detect_host().cpu
        self.folder = Path(folder) / f"tuning-{identify(target, self.processor)[:16]}"

    def path(self, problem: str) -> Path:
        """The file of a problem."""
        return self.folder / (hashlib.sha256(problem.encode("utf-8", "surrogatepass")).hexdigest()[:32] + _SUFFIX)

    def entries(self) -> Iterator[Entry]:
        """Everything that can be believed, in the order of the file names."""
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == _SUFFIX)
        except OSError:
            return
        for path in paths:
            found = read_own(path, LIMIT + 1)
            entry = parse_entry(found.data) if found is not None else None
            if entry is not None and self.path(entry.problem) == path:
                yield entry

    def load(self) -> Tuning:
        """The choices, to plan with."""
        return Tuning(self.target, {entry.problem: entry.choice for entry in self.entries()})

    def put(self, problem: str, choice: str, default: str, *, gain: float, layer: str, threads: int) -> None:
        """File a choice, in place of what was there.

        Raises:
            OSError: the folder cannot be written to.
        """
        entry = Entry(problem, choice, default, gain, layer, threads, FORMAT, str(self.target), self.processor)
        write_own(self.path(problem), (json.dumps(asdict(entry), indent=2) + "\n").encode())

    def remove(self, problem: str) -> None:
        """Forget what is filed for a problem."""
        with contextlib.suppress(OSError):
            self.path(problem).unlink()


def open_tuning(target: Target) -> TuningStore | None:
    """The store beside the object cache; None where that is switched off."""
    cache = open_cache()
    return None if cache is None else TuningStore(cache.folder, target)


def identify(target: Target, processor: str) -> str:
    """Identity of a target on a processor with this version of the code generators, as 64 hexadecimal digits."""
    return digest_of(Source(f"tuning {FORMAT} {processor}", str, "tuning"), target)


def parse_entry(data: bytes) -> Entry | None:
    """The entry in a file, or None where any part of it is not as :meth:`TuningStore.put` writes it."""
    if len(data) > LIMIT:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    types = {"gain": float, "threads": int, "format": int}
    wanted = {item.name: types.get(item.name, str) for item in fields(Entry)}
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        return None
    if any(type(value) is not wanted[name] for name, value in found.items()):
        return None
    entry = Entry(**found)
    return entry if entry.format == FORMAT and 0 < entry.gain < float("inf") else None
