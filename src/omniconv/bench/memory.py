"""The most memory that this process has held: as Linux says of it alone.

What :func:`resource.getrusage` says begins with the memory of the process that started this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")


def begin_peak() -> int | None:
    """Look for the peak from now on.

    Returns:
        What is held now [bytes], or ``None`` where the system does not tell.
    """
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return None
    return _read_status("VmRSS")


def read_peak() -> int | None:
    """The most that was held since :func:`begin_peak`, or ever [bytes]; ``None`` where the system does not tell."""
    return _read_status("VmHWM")


def peak_beyond(before: int | None) -> int | None:
    """The peak less what :func:`begin_peak` returned [bytes]; ``None`` where the system does not tell."""
    peak = read_peak()
    return None if peak is None or before is None else peak - before


def _read_status(key: str) -> int | None:
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key + ":")), None)
