"""x86-64: its levels, best first, as the psABI defines them."""

from __future__ import annotations

from typing import Final

from omniconv.target.model import Level

_V2: Final = ("cx16", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")


_V3: Final = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")


_V4: Final = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


WIDE: Final = "-prefer-256-bit"  # some processor models ask LLVM to avoid 512-bit vectors; kernels are written in them

LEVELS: Final = (
    Level("x86-64-v4", "x86-64", 16, 32, True, _V4, "x86-64-v4", WIDE, 2**20),
    Level("x86-64-v3", "x86-64", 8, 16, True, _V3, "x86-64-v3"),
    Level("x86-64-v2", "x86-64", 4, 16, False, _V2, "x86-64-v2"),
    Level("generic", "x86-64", 4, 16, False, (), "x86-64"),
)
"""What a level needs is its definition; its cache is the smallest that is common where it is the best level."""
