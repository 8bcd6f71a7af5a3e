"""AArch64: its levels, best first.

Nothing here was measured: counts of units and latencies are those of Arm's optimisation guides for Neoverse N1 and V1
and of published measurements of Apple's M1; what a kernel adds to its multiply-adds is what it adds on x86-64 with
vectors of 128 bits, except where a comment says why it is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniconv.target.model import Level
from omniconv.target.traits import PanelCosts, QuadUnit, Traits

TWO_UNITS: Final = Traits(
    fma_per_cycle=2,  # Neoverse N1, Cortex-A76
    fma_latency=4,  # likewise
    loads_per_cycle=2,  # likewise
    masked_store_cheap=False,  # there is no such instruction
    permutes_cross_halves=True,  # vectors of 128 bits have no halves that anything stops at
    keeps_weights=True,  # 32 registers
    second_level_keeps_up=False,  # 32 bytes a cycle at best, as much as two units take
    stencil_sums=14,  # 32 registers hold them beside the weights of a row of taps
    row_sums=8,  # two units, four cycles
    series_sums=8,  # likewise
    gathers_loads=True,  # larger tiles of the corpus are spilled in their inner loops (LLVM 22)
    half_vector=1.0,  # as many instructions in a cycle
    transform=1.0,
    panel=PanelCosts(
        broadcast=1.0,  # a load like any other; LD1R is one on N1
        counts_loads=True,  # no load is part of a multiply-add
        load=0.35, row=0.0, step=0.0,
        easy=14, crowd=1.0,  # 31 registers for addresses
        far=0.5, border=1.0, store=2.0, start=20.0,
    ),
    line_bytes=64,
    vector_letter="w",
    pause=("llvm.aarch64.hint", 1),  # YIELD
)  # fmt: skip
"""Vectors of 128 bits, and two units for them."""

FOUR_UNITS: Final = replace(
    TWO_UNITS,
    fma_per_cycle=4,  # Neoverse V1, V2 and Apple M1
    loads_per_cycle=3,  # likewise
    row_sums=14,  # sixteen do not fit beside the weights
    series_sums=16,
)
"""Vectors of 128 bits, and four units for them."""

APPLE: Final = replace(FOUR_UNITS, line_bytes=128)
"""Lines of the second-level cache are twice as long."""

LEVELS: Final = (
    Level(
        name="neon", arch="aarch64", aliases=("aarch64",), lanes=4, registers=32, fma=True, needs=("neon",),
        cpu="generic", features="+neon", l1_bytes=2**16, traits=TWO_UNITS,
        models=(("neoverse-v", FOUR_UNITS), ("apple-", APPLE)),
        pair_sums=("bf16", "llvm.aarch64.neon.bfdot.v4f32.v8bf16"),
        quad_sums=(
            ("i8mm", QuadUnit("llvm.aarch64.neon.usdot.v4i32.v16i8")),
            ("dotprod", QuadUnit("llvm.aarch64.neon.sdot.v4i32.v16i8", signed=True)),
        ),
    ),
    Level(
        name="generic", arch="aarch64", lanes=4, registers=32, fma=True, needs=(), cpu="generic", traits=TWO_UNITS
    ),
)  # fmt: skip
"""What a level needs is its definition; its caches are those of Neoverse N1 at the least."""
