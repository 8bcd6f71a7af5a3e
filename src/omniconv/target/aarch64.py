"""AArch64: its levels, best first."""

from __future__ import annotations

from typing import Final

from omniconv.target.model import Level

LEVELS: Final = (
    Level("neon", "aarch64", 4, 32, True, ("neon",), "generic", "+neon"),
    Level("generic", "aarch64", 4, 32, True, (), "generic"),
)
"""What a level needs is its definition."""
