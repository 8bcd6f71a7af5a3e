"""Architectures of which nothing is known but what LLVM knows: vectors of 128 bits, and nothing is quick."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniconv.target.model import Level
from omniconv.target.x86 import SHORT_VECTORS

PLAIN: Final = replace(SHORT_VECTORS, vector_letter="", pause=None)
"""Costs are those of the plainest instruction set that was measured."""


def describe(arch: str) -> Level:
    """The one level of an architecture."""
    return Level(name="generic", arch=arch, lanes=4, registers=16, fma=False, needs=(), cpu="generic", traits=PLAIN)
