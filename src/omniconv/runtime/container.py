r"""The container: a header, a table of sections, and the sections, each in a place that follows from those before it.

::

    0    magic         8 bytes, b"\x89oconv\r\n"
    8    version       u32, little-endian like all numbers
    12   sections      u32
    16   size          u64, of the file [bytes]
    24   table digest  32 bytes, SHA-256 of the table
    56   seal          32 bytes, see :mod:`omniconv.compiler.code.key`; zeros where there is none
    88   zeros         40 bytes
    128  table         for each section: offset u64, size u64, SHA-256 of its bytes
    ...  sections      each at the next multiple of 64 that leaves at least 64 zeros behind what is before it

A file is read into memory as a whole, once its size has been compared with the limit: what was checked can then not be
changed by whoever may write to the file. A place that is not the one that follows, a byte between sections that is not
zero, and a digest that does not fit are errors, so that no two sections overlap and none ends outside.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.code.own import open_now
from omniconv.errors import ModelError, StorageError
from omniconv.integers import ceil_div
from omniconv.limits import check_memory
from omniconv.processors import count_cpus
from omniconv.records import dataclass
from omniconv.runtime.arena import Arena

Bytes: TypeAlias = npt.NDArray[np.uint8]

MAGIC: Final = b"\x89oconv\r\n"
VERSION: Final = 1
ALIGNMENT: Final = 64
_HEADER: Final = struct.Struct("<8sIIQ32s32s40s")
_ROW: Final = struct.Struct("<QQ32s")
_NO_SEAL: Final = bytes(32)
_NEED: Final = "a whole file that omniconv saved"
_NAME: Final = 40
"""Characters that the name of a file that is being written has of that of the file."""
_SECTION: Final = 640
"""Memory that knowing of a section takes [bytes]."""
_MUCH: Final = 2**22
"""Bytes that several threads hash."""
MOST_THREADS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """What a file holds.

    Attributes:
        sections: bytes of each section, read-only.
        table: all that is said of the sections, digests included.
        seal: of the table.
    """

    sections: tuple[Bytes, ...]
    table: bytes
    seal: bytes


def write_container(sections: Sequence[Any], sign: Callable[[bytes], bytes] | None, file: BinaryIO) -> None:
    """Write sections, which are bytes or arrays.

    Args:
        sections: in their order.
        sign: makes the seal of a table; ``None`` for none.
        file: where to.
    """
    views = [_as_bytes(section) for section in sections]
    places = _place([view.size for view in views])
    digests = _hash(views)
    rows = zip(places, views, digests, strict=True)
    table = b"".join(_ROW.pack(place, view.size, digest) for place, view, digest in rows)
    total = _end(places, views)
    mark = _NO_SEAL if sign is None else sign(table)
    file.write(_HEADER.pack(MAGIC, VERSION, len(views), total, hashlib.sha256(table).digest(), mark, b""))
    file.write(table)
    done = _HEADER.size + len(table)
    for place, view in zip(places, views, strict=True):
        file.write(bytes(place - done))
        file.write(view.data)
        done = place + view.size
    file.write(bytes(total - done))


def write_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Put a file in the place of one that may be there, at once and whole.

    Raises:
        StorageError: it cannot be written; what was there is still there.
    """
    goal = Path(path)
    # Names have at most 255 bytes, and a character at most 4.
    beside = goal.with_name(f".{goal.name[:_NAME]}.{secrets.token_hex(8)}") if goal.name else goal
    try:
        if goal.is_dir():
            raise IsADirectoryError("it is a folder")
        try:
            with beside.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(goal)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        raise StorageError(
            f"cannot save to {str(path)!r}: {error}", need="a path that can be written, and room on the disk"
        ) from error


def read_file(path: str | os.PathLike[str], limit: int | None) -> Bytes:
    """All bytes of a file.

    Raises:
        ModelError: it cannot be read, or is no file.
        LimitError: it is larger than the memory limit.
    """
    at = f"file {os.fspath(path)!r}"
    try:
        with open_now(path) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError("the path is not a regular file", need=_NEED, at=at)
            check_memory(status.st_size, "the file", limit=limit, at=at)
            data = Arena(status.st_size, limit=limit, at=at).bytes[: status.st_size]
            done = 0
            while done < data.size and (count := file.readinto(data[done:].data)):
                done += count
            return data[:done]
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the file cannot be read: {error}", need=_NEED, at=at) from None


def read_container(data: bytes | Bytes, at: str, limit: int | None = None) -> Container:
    """Check and take apart the bytes of a file. Nothing is copied.

    Raises:
        LimitError: so many sections that to know of them takes more memory than allowed.
        ModelError: bytes that no version of this package wrote, or that are not whole.
    """
    whole = _as_bytes(data)
    whole.flags.writeable = False
    if whole.size < _HEADER.size or bytes(whole[: len(MAGIC)]) != MAGIC:
        raise ModelError("it does not begin as a saved network does", need=_NEED, at=at)
    _, version, count, total, digest, mark, zeros = _HEADER.unpack(bytes(whole[: _HEADER.size]))
    if version != VERSION:
        raise ModelError(
            f"the file has version {version} of the format", need=f"version {VERSION}", fix="saving it again", at=at
        )
    end = _HEADER.size + _ROW.size * count
    if total != whole.size or end > total or any(zeros):
        raise ModelError(
            f"the header says {count} sections in {total} bytes, and there are {whole.size}", need=_NEED, at=at
        )
    check_memory(_SECTION * count + total, f"a file of {count} sections", limit=limit, at=at)
    table = bytes(whole[_HEADER.size : end])
    if hashlib.sha256(table).digest() != digest:
        raise ModelError("the table of sections is damaged", need=_NEED, at=at)
    rows = list(_ROW.iter_unpack(table))
    return Container(tuple(_read_sections(whole, rows, end, at)), table, mark)


def _read_sections(whole: Bytes, rows: Sequence[tuple[int, int, bytes]], end: int, at: str) -> list[Bytes]:
    sections, places = [], _place([size for _, size, _ in rows])
    for number, ((offset, size, _), place) in enumerate(zip(rows, places, strict=True)):
        if offset != place or offset + size > whole.size or whole[end:offset].any():
            raise ModelError(f"section {number} of {size} bytes is said to be at {offset}", need=_NEED, at=at)
        end = offset + size
        sections.append(whole[offset:end])
    if _end(places, sections) != whole.size or whole[end:].any():
        raise ModelError("there is something behind the last section", need=_NEED, at=at)
    found = _hash(sections)
    wrong = next((number for number, row in enumerate(rows) if row[2] != found[number]), None)
    if wrong is not None:
        raise ModelError(f"section {wrong} is damaged", need=_NEED, at=at)
    return sections


def _place(sizes: Sequence[int]) -> list[int]:
    """Where sections of these sizes are."""
    places, end = [], _HEADER.size + _ROW.size * len(sizes)
    for size in sizes:
        places.append(ceil_div(end + ALIGNMENT, ALIGNMENT) * ALIGNMENT)
        end = places[-1] + size
    return places


def _end(places: Sequence[int], sections: Sequence[Bytes]) -> int:
    """The size of a file."""
    return places[-1] + sections[-1].size + ALIGNMENT if places else _HEADER.size


def _as_bytes(section: Any) -> Bytes:
    if isinstance(section, np.ndarray):
        return np.ascontiguousarray(section).reshape(-1).view(np.uint8)
    return np.frombuffer(section, np.uint8) if len(section) else np.empty(0, np.uint8)


def _hash(sections: Sequence[Bytes]) -> list[bytes]:
    """The digest of each section, by several threads where there is much."""
    found = [b""] * len(sections)

    def hash_some(numbers: Sequence[int]) -> None:
        for number in numbers:
            found[number] = hashlib.sha256(sections[number].data).digest()

    threads = 1 if sum(section.size for section in sections) < _MUCH else min(count_cpus(), MOST_THREADS)
    order = sorted(range(len(sections)), key=lambda number: -sections[number].size)
    if threads == 1:
        hash_some(order)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(hash_some, [order[first::threads] for first in range(threads)]))
    return found
