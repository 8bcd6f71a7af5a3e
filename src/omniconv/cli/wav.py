"""Sound in files and pipes: WAV of 16-bit integers or 32-bit floats, and raw samples; read and written block by block.

A WAV file is chunks of (name, bytes, content). Its ``fmt`` says how many channels lie side by side, how many samples a
second, and of which type; ``data`` is the samples. Sizes are checked against the file before anything is read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from omniconv.cli.exits import UsageProblemError
from omniconv.errors import StorageError
from omniconv.records import dataclass
from omniconv.runtime.inputs import Array

FORMATS: Final[dict[str, np.dtype[Any]]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
"""Types of samples: 16-bit integers, of which 2^15 is 1, and 32-bit floats."""
MOST_CHANNELS: Final = 1024
MOST_BYTES: Final = 2**32 - 64
"""A WAV file holds so much [bytes]."""
UNKNOWN: Final = 2**32 - 1
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FULL: Final = 2.0**15


@dataclass(frozen=True, slots=True)
class Sound:
    """What is known of sound before its samples.

    Attributes:
        channels: side by side.
        rate: samples of each a second [Hz].
        form: one of :data:`FORMATS`.
    """

    channels: int
    rate: int
    form: str

    @property
    def frame(self) -> int:
        """One sample of each channel [bytes]."""
        return self.channels * FORMATS[self.form].itemsize


def read_header(file: IO[bytes], name: str) -> tuple[Sound, int | None]:
    """The form of a WAV file and the bytes of its samples, which come next; ``None`` for all up to the end.

    Programs that do not know how many there will be write 2^32 - 1, or 0 where nothing else follows.

    Raises:
        StorageError: no WAV file, or one of another form.
    """
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise StorageError(f"{name} is no WAV file", need="RIFF ... WAVE", fix="--format s16le for raw samples")
    found: Sound | None = None
    end, at = struct.unpack("<I", head[4:8])[0] + 8, 12
    while True:
        label = file.read(8)
        if len(label) < 8:
            raise StorageError(f"{name} ends before its samples", need="a chunk named data")
        kind, size = struct.unpack("<4sI", label)
        if kind == b"data":
            if found is None:
                raise StorageError(f"{name} has samples before it says of which form", need="fmt before data")
            at += 8
            return found, None if size == UNKNOWN or (size == 0 and (end <= at or end == 8 + UNKNOWN)) else size
        content = file.read(min(size, 64))
        if kind == b"fmt ":
            found = _read_format(content, name)
        _skip(file, size + size % 2 - len(content))
        at += 8 + size + size % 2


def _read_format(content: bytes, name: str) -> Sound:
    if len(content) < 16:
        raise StorageError(f"{name} has a fmt of {len(content)} bytes", need="16 at least")
    code, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", content[:16])
    if code == _EXTENSIBLE and len(content) >= 26:
        code = struct.unpack("<H", content[24:26])[0]
    form = {(_PCM, 16): "s16le", (_FLOAT, 32): "f32le"}.get((code, bits))
    if form is None:
        problem = f"{name} holds samples of {bits} bits, code {code}"
        raise StorageError(problem, need="16-bit integers or 32-bit floats", fix="ffmpeg -i IN -c:a pcm_s16le OUT.wav")
    if not 1 <= channels <= MOST_CHANNELS or not rate or frame != channels * bits // 8:
        raise StorageError(
            f"{name} says {channels} channels, {rate} samples a second, {frame} bytes a frame", need="numbers that fit"
        )
    return Sound(channels, rate, form)


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        part = file.read(min(count, 2**16))
        if not part:
            return
        count -= len(part)


def read_blocks(file: IO[bytes], sound: Sound, size: int | None, frames: int, name: str) -> Iterator[Array]:
    """Samples as float32 ``(channels, frames)``, as many at a time; the last fewer.

    Args:
        file: at the first sample.
        sound: their form.
        size: bytes that there are; ``None`` for all up to the end.
        frames: of a block.
        name: for messages.

    Raises:
        StorageError: it ends within a frame, or before it should.
    """
    left = size
    dtype = FORMATS[sound.form]
    while left is None or left:
        wanted = frames * sound.frame if left is None else min(frames * sound.frame, left)
        found = _read_full(file, wanted)
        if len(found) % sound.frame or (left is not None and len(found) < wanted):
            short = left is not None and len(found) < wanted
            missing = f"{(left or 0) - len(found)} bytes" if short else "part of a frame"
            raise StorageError(f"{name} ends too early: {missing} missing", need="whole samples of every channel")
        if not found:
            return
        left = None if left is None else left - len(found)
        samples = np.frombuffer(found, dtype).reshape(-1, sound.channels).T
        scale = np.float32(1 / _FULL if sound.form == "s16le" else 1)
        yield np.ascontiguousarray(samples, np.float32) * scale


def _read_full(file: IO[bytes], count: int) -> bytes:
    """So many bytes, or all that there are: a pipe gives what it has."""
    parts = []
    while count:
        part = file.read(count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class SoundWriter:
    """Writes samples to a file or a pipe. A file appears under its name when it is whole.

    Attributes:
        clipped: samples beyond what 16 bits hold, or NaN, of which they are the nearest, or 0.
    """

    def __init__(self, path: Path | None, pipe: IO[bytes] | None, sound: Sound, *, raw: bool) -> None:
        self.sound, self.clipped = sound, 0
        self._path, self._raw, self._written = path, raw, 0
        if pipe is not None:
            self._file: IO[Any] = pipe
        else:
            assert path is not None
            if not path.name or path.is_dir():
                raise StorageError(f"{str(path)!r} is a folder", need="the path of a file", fix="out.wav")
            self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
            self._file = self._part.open("wb")
        if not raw:
            self._file.write(self._header(0))

    def write(self, samples: Array) -> None:
        """Samples ``(channels, frames)``.

        Raises:
            StorageError: more than a WAV file holds.
        """
        if self.sound.form == "s16le":
            scaled = np.rint(samples.astype(np.float64) * _FULL)
            inside = (scaled >= -_FULL) & (scaled < _FULL)
            self.clipped += int(inside.size - inside.sum())
            samples = np.clip(np.nan_to_num(scaled, nan=0.0), -_FULL, _FULL - 1)
        content = samples.T.astype(FORMATS[self.sound.form]).tobytes()
        if not self._raw and self._written + len(content) > MOST_BYTES:
            raise StorageError("more samples than a WAV file holds", need="less than 4 GiB", fix="raw samples: OUT -")
        self._written += len(content)
        self._file.write(content)
        if self._path is None:
            self._file.flush()

    def finish(self) -> None:
        """Say in the header how much was written, and give the file its name."""
        if self._path is None:
            self._file.flush()
            return
        if not self._raw:
            self._file.write(b"\0" * (self._written % 2))
            self._file.seek(0)
            self._file.write(self._header(self._written))
        self._file.close()
        self._part.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing of a file that is not whole."""
        if self._path is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def _header(self, size: int) -> bytes:
        sound, code = self.sound, _PCM if self.sound.form == "s16le" else _FLOAT
        bits = 8 * FORMATS[sound.form].itemsize
        head = struct.pack("<4sI4s", b"RIFF", 36 + size + size % 2, b"WAVE")
        second, frame = sound.rate * sound.frame, sound.frame
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, code, sound.channels, sound.rate, second, frame, bits)
        return head + form + struct.pack("<4sI", b"data", size)


def check_format(form: str) -> str:
    """One of :data:`FORMATS`.

    Raises:
        UsageProblemError: another word.
    """
    if form not in FORMATS:
        raise UsageProblemError(f"--format {form}; need one of {', '.join(FORMATS)}")
    return form
