"""AArch64: its levels, best first."""

from __future__ import annotations

from typing import Final

from omniconv.target.model import Level
from omniconv.target.other import PLAIN

LEVELS: Final = (
    Level(
        name="neon", arch="aarch64", lanes=4, registers=32, fma=True, needs=("neon",), cpu="generic",
        features="+neon", traits=PLAIN,
    ),
    Level(name="generic", arch="aarch64", lanes=4, registers=32, fma=True, needs=(), cpu="generic", traits=PLAIN),
)  # fmt: skip
"""What a level needs is its definition."""
