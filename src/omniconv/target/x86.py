"""x86-64: its levels, best first, as the psABI defines them.

Costs of kernels were fitted to times of the layers in ``bench/corpus`` on one thread: those of 256-bit vectors on
Zen 3, those of 512-bit vectors on Zen 4. Instruction tables say the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from omniconv.target.model import Level
from omniconv.target.traits import PanelCosts, QuadUnit, Traits, WordUnits

_V2: Final = ("cx16", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")


_V3: Final = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")


_V4: Final = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


WIDE: Final = "-prefer-256-bit"  # some processor models ask LLVM to avoid 512-bit vectors; kernels are written in them

SHORT_VECTORS: Final = Traits(
    fma_per_cycle=2,  # Haswell to Golden Cove, Zen 2 to Zen 4
    fma_latency=4,  # Skylake and Zen 3; 5 on Haswell and Zen 1
    loads_per_cycle=2,  # Haswell and Zen 3
    masked_store_cheap=False,  # a dozen cycles on Zen 1 to Zen 3
    permutes_cross_halves=True,  # vectors of 128 bits have no halves that anything stops at
    keeps_weights=False,  # 16 registers: sums and the weights of one input fill them
    second_level_keeps_up=False,  # half of what the multipliers ask for: rows in parts are faster (corpus)
    stencil_sums=8,  # beside the weights of a row of taps; more overflow the registers
    row_sums=8,  # two multiply-adds a cycle, each of which takes four
    series_sums=8,
    gathers_loads=False,  # each is read where it is used
    half_vector=1.0,  # the same number of instructions in a cycle
    transform=1.0,
    panel=PanelCosts(
        broadcast=1.0,  # a load like any other
        counts_loads=False,  # no layer of the corpus got slower by them than by the multiply-adds
        load=0.35, row=0.0, step=0.0, easy=8, crowd=1.0, far=0.5, border=1.0, store=2.0, start=20.0,  # fitted
    ),
    line_bytes=64,
    vector_letter="x",
    pause=("llvm.x86.sse2.pause", None),
    words=WordUnits(
        "llvm.x86.sse2.pmadd.wd", "llvm.x86.sse2.packssdw.128", "llvm.x86.sse2.cvtps2dq", "llvm.x86.ssse3.pshuf.b.128",
        "llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.ssse3.pmul.hr.sw.128", "llvm.x86.sse2.packuswb.128",
    ),
)  # fmt: skip
"""Vectors of 128 bits: SSE."""

FIRST_VECTORS: Final = replace(SHORT_VECTORS, words=replace(SHORT_VECTORS.words, lookup="", quads="", scaled=""))
"""The same before SSSE3."""

HALVES: Final = replace(
    SHORT_VECTORS,
    permutes_cross_halves=False,  # 3 cycles against 1 (Skylake), two halves (Zen 1)
    words=WordUnits(
        "llvm.x86.avx2.pmadd.wd",
        "llvm.x86.avx2.packssdw",
        "llvm.x86.avx.cvt.ps2dq.256",
        "llvm.x86.avx2.pshuf.b",
        "llvm.x86.avx2.pmadd.ub.sw",
        "llvm.x86.avx2.pmul.hr.sw",
        "llvm.x86.avx2.packuswb",
    ),
)
"""Vectors of 256 bits, made of halves: AVX2."""

WIDE_VECTORS: Final = replace(
    SHORT_VECTORS,
    fma_per_cycle=1,  # Zen 4 and processors with one unit of 512 bits
    loads_per_cycle=1,  # Zen 4
    masked_store_cheap=True,  # one instruction for every length of vectors
    keeps_weights=True,  # 32 registers
    second_level_keeps_up=True,  # a vector is a line, and takes as long to multiply as to read from there
    stencil_sums=14,  # likewise
    row_sums=1,  # fitted: tiles of fewer than four sums lose by their number alone
    half_vector=0.65,  # between half (Zen 4) and whole (Skylake)
    words=WordUnits(
        "llvm.x86.avx512.pmaddw.d.512", "llvm.x86.avx512.packssdw.512", lookup="llvm.x86.avx512.pshuf.b.512",
        quads="llvm.x86.avx512.pmaddubs.w.512", scaled="llvm.x86.avx512.pmul.hr.sw.512",
        narrow="llvm.x86.avx512.packuswb.512",
    ),
    transform=1.2,  # moves take twice as long as those of shorter vectors, but find more registers
    panel=PanelCosts(
        broadcast=0.5,  # two a cycle, folded into the multiply-add
        counts_loads=True,
        load=0.35, row=0.1, step=1.0, easy=32, crowd=0.0, far=0.0, border=0.0, store=0.0, start=0.0,  # fitted
    ),
)  # fmt: skip
"""Vectors of 512 bits: AVX-512."""

LEVELS: Final = (
    Level(
        name="x86-64-v4", arch="x86-64", lanes=16, registers=32, fma=True, needs=_V4, cpu="x86-64-v4", features=WIDE,
        cache_bytes=2**20, traits=WIDE_VECTORS, native=(WIDE,),
        pair_sums=("avx512bf16", "llvm.x86.avx512bf16.dpbf16ps.{}"),
        quad_sums=(("avx512vnni", QuadUnit("llvm.x86.avx512.vpdpbusd.512", packed=True)),),
    ),
    Level(
        name="x86-64-v3", arch="x86-64", lanes=8, registers=16, fma=True, needs=_V3, cpu="x86-64-v3", traits=HALVES,
        quad_sums=(("avxvnni", QuadUnit("llvm.x86.avx512.vpdpbusd.256", packed=True)),),  # of LLVM both have one name
    ),
    Level(
        name="x86-64-v2", arch="x86-64", lanes=4, registers=16, fma=False, needs=_V2, cpu="x86-64-v2",
        traits=SHORT_VECTORS,
    ),
    Level(
        name="generic", arch="x86-64", lanes=4, registers=16, fma=False, needs=(), cpu="x86-64", traits=FIRST_VECTORS
    ),
)  # fmt: skip
"""What a level needs is its definition; its cache is the smallest that is common where it is the best level."""
