"""The key of this user, and seals made with it: which machine code has been made here, by Omniconv.

A plain digest says that a file is whole; whoever edits the file makes a new one. A seal is a digest that only the owner
of a secret can make::

    seal = HMAC-SHA256(key, parts, each behind its length)

The key is 32 random bytes in a file of the cache folder that nobody else may read. It is made where there is none.
One that others may read or write, that is another user's or of another length is no secret: a new one takes its place,
and what was sealed before is made anew.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from omniconv.compiler.code.own import read_own, remove, write_beside
from omniconv.errors import warn

NAME: Final = ".key"
BYTES: Final = 32
_ATTEMPTS: Final = 8
_warned: Final[set[Path]] = set()


def find_key(folder: Path) -> bytes | None:
    """The key in a folder; ``None`` where there is none that is a secret of this user."""
    found = read_own(folder / NAME, BYTES + 1, private=True)
    return found.data if found is not None and len(found.data) == BYTES else None


def open_key(folder: Path) -> bytes:
    """The key in a folder, made now where there is none. Processes that come at the same time get the same one.

    Raises:
        OSError: it cannot be written.
    """
    for _ in range(_ATTEMPTS):
        key = find_key(folder)
        if key is not None:
            return key
        _make_key(folder / NAME)
    raise OSError(f"{folder / NAME} cannot be kept from others")


def seal(key: bytes, *parts: bytes) -> bytes:
    """What only the owner of the key can make of these parts."""
    state = hmac.new(key, digestmod="sha256")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def is_sealed(found: bytes, key: bytes, *parts: bytes) -> bool:
    """Whether a seal was made with the key of exactly these parts."""
    return hmac.compare_digest(found, seal(key, *parts))


def _make_key(path: Path) -> None:
    """Make a key where there is none that is a secret."""
    temporary = write_beside(path, secrets.token_bytes(BYTES))
    try:
        try:
            os.link(temporary, path)  # unlike a renaming, it fails where another process was faster
        except FileExistsError:
            if find_key(path.parent) is None:
                _warn(path)
                Path(temporary).replace(path)
        except (OSError, NotImplementedError):  # a file system without links
            Path(temporary).replace(path)
    finally:
        remove(temporary)


def _warn(path: Path) -> None:
    if path not in _warned:
        _warned.add(path)
        warn(
            f"{path} is no secret of this user: a new key takes its place, and machine code is made anew",
            RuntimeWarning,
        )
