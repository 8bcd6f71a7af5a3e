"""WebAssembly: its levels, best first. Nothing runs them here but an engine, in a browser or by itself.

An engine compiles a module for the machine that it is on, which has at least the vectors of 128 bits that WebAssembly
has. Figures are those of x86-64 with such vectors, except where a comment says why not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniconv.target.model import Level, Target
from omniconv.target.x86 import SHORT_VECTORS

SIMD: Final = replace(
    SHORT_VECTORS,
    vector_letter="",  # there are no registers to name
    pause=None,
)
"""Vectors of 128 bits; a multiply-add is a multiplication and an addition."""

RELAXED: Final = replace(
    SIMD,
    relaxed_madd="llvm.wasm.relaxed.madd",  # one instruction where the machine has one
)
"""With the relaxed instructions, whose rounding is the machine's."""

_FEATURES: Final = "+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext,+mutable-globals"
"""What every engine with vectors has; without +atomics, memory is that of one thread."""

_REGISTERS: Final = 12
"""The 16 of x86-64 without those that an engine keeps for itself; engines allocate them, so that this is a guess."""

LEVELS: Final = (
    Level(
        name="wasm-relaxed-simd", arch="wasm32", system="unknown-unknown", lanes=4, registers=_REGISTERS, fma=False,
        needs=("relaxed-simd",), cpu="generic", features=_FEATURES + ",+relaxed-simd", traits=RELAXED,
    ),
    Level(
        name="wasm-simd", arch="wasm32", aliases=("wasm",), system="unknown-unknown", lanes=4, registers=_REGISTERS,
        fma=False, needs=("simd128",), cpu="generic", features=_FEATURES, traits=SIMD,
    ),
    Level(
        name="generic", arch="wasm32", system="unknown-unknown", lanes=4, registers=_REGISTERS, fma=False, needs=(),
        cpu="generic", traits=SIMD,
    ),
)  # fmt: skip
"""What a level needs is its definition."""


def find_targets() -> tuple[Target, Target]:
    """What a module is compiled for: without and with the relaxed instructions."""
    relaxed, simd, _ = LEVELS
    return simd.target(simd.triple), relaxed.target(relaxed.triple)
