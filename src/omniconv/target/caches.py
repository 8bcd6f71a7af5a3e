"""`Cache` and :func:`find_caches`: the data caches of this machine, as the system reports them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class Cache:
    """One level of the data caches: its size [bytes], and whether each core has its own."""

    name: str
    size: int
    private: bool


ASSUMED_CACHES: Final = (
    Cache("L1", 32 * 2**10, private=True),
    Cache("L2", 2**20, private=True),
    Cache("L3", 16 * 2**20, private=False),
)
"""Where the system does not tell."""


def find_caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> tuple[Cache, ...]:
    """Data caches of the first core from the smallest, as the system reports them; else :data:`ASSUMED_CACHES`."""
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, size, level = ((index / name).read_text().strip() for name in ("type", "size", "level"))
            shared = (index / "shared_cpu_list").read_text().strip()
        except OSError:
            continue
        if kind in ("Data", "Unified") and size.endswith("K"):
            found[int(level)] = Cache(f"L{level}", int(size[:-1]) * 1024, shared.isdigit() and int(level) < 3)
    return tuple(cache for _, cache in sorted(found.items())) or ASSUMED_CACHES
