"""How much memory one request may take, and the refusal of larger ones before anything is allocated."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Final

from omniconv.errors import LimitError, SpecError
from omniconv.integers import as_integer, ceil_div

VARIABLE: Final = "OMNICONV_MEMORY_LIMIT"

_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE: Final = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:I?B)?", re.IGNORECASE | re.ASCII)
_CONTROL_GROUPS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_FALLBACK: Final = 8 * 2**30


def memory_limit(override: int | None = None) -> int:
    """Memory one request may take [bytes].

    The first that is given of: ``override``, the environment variable ``OMNICONV_MEMORY_LIMIT``, half of the memory
    of this machine (or of the container it runs in, where that is less).

    Example:
        >>> memory_limit(4096)
        4096

    Raises:
        SpecError: the value is not a positive number of bytes.
    """
    if override is not None:
        return as_integer("memory_limit", override, 1, None, fix="2**30")
    text = os.environ.get(VARIABLE, "").strip()
    return parse_size(text, VARIABLE) if text else physical_memory() // 2


def parse_size(text: str, name: str = "size") -> int:
    """Read a size [bytes] such as ``4096``, ``512M`` or ``2GiB``; K, M, G and T are powers of 1024.

    Example:
        >>> parse_size("512M") == 512 * 2**20
        True
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if size < 1:
        raise SpecError(f"{name}={text!r} is not a size", need="a positive number of bytes, K, M, G or T", fix="512M")
    return size


@lru_cache(maxsize=1)
def physical_memory() -> int:
    """Memory of this machine, or of the container it runs in where that is less [bytes]."""
    total = _FALLBACK
    if sys.platform == "win32":
        total = _windows_memory() or total
    else:
        with contextlib.suppress(ValueError, OSError):
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CONTROL_GROUPS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdigit() and int(text) > 0:
            total = min(total, int(text))
    return max(total, 1)


def _windows_memory() -> int:
    """Installed memory [bytes] by ``GlobalMemoryStatusEx``; 0 where it cannot be asked."""
    import ctypes

    status = (ctypes.c_uint64 * 8)()  # length and load share the first word, the total is the second
    status[0] = ctypes.sizeof(status)
    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    return int(status[1]) if kernel is not None and kernel.GlobalMemoryStatusEx(status) else 0


def check_memory(needed: int, what: str, *, limit: int | None = None, at: str = "") -> None:
    """Refuse a request for more memory than allowed. To be called before the allocation.

    Args:
        needed: size of the request [bytes].
        what: what needs it, for the message, such as ``"the arena of this network"``.
        limit: the limit [bytes]; None for :func:`memory_limit`.
        at: the problem line, node or file, for the message.

    Raises:
        LimitError: ``needed`` is above the limit.
    """
    allowed = memory_limit(limit)
    if needed > allowed:
        raise LimitError(
            f"{what} needs {format_size(needed)}, which is above the limit of {format_size(allowed)}",
            need=f"at most {VARIABLE} (by default half of the memory)",
            fix=f"{VARIABLE}={ceil_div(needed, 2**20)}M",
            at=at,
        )


def format_size(size: int) -> str:
    """A size [bytes] for a message: exact below 1 KiB, one decimal above.

    Example:
        >>> format_size(3 * 2**29)
        '1.5 GiB'
    """
    if size < 1024:
        return f"{size} bytes"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1023.95 or unit == "PiB":
            break
    return f"{value:.1f} {unit}"
