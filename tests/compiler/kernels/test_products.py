"""The instructions that multiply integers and pairs of bfloat16, on machines that need not be here."""

from __future__ import annotations

import pytest
from tests.machines import (
    COOPER_LAKE,
    HASWELL,
    NEHALEM,
    NEON,
    NEOVERSE_N1,
    NEOVERSE_N2,
    SIERRA_FOREST,
    V4,
    ZEN_4,
    native,
)

from omniconv.bench.roofline import CHAINS, emit_fma, emit_integers
from omniconv.compiler.code.build import compile_assembly
from omniconv.target.model import Host

WORDS = {
    "x86-64-v2": (native(NEHALEM), ["\tpmaddwd\t", "\tpmaddubsw\t"]),
    "avx2": (native(HASWELL), ["\tvpmaddwd\t", "\tvpmaddubsw\t"]),
    "avx-vnni": (native(SIERRA_FOREST), ["\tvpdpwssd\t", "\tvpmaddubsw\t"]),
    "avx512": (V4, ["\tvpmaddwd\t", "\tvpmaddubsw\t"]),
    "avx512-vnni": (native(ZEN_4), ["\tvpdpwssd\t", "\tvpmaddubsw\t"]),
    "neon": (NEON, ["\tsmlal\t", ""]),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_and_bytes_are_multiplied_by_what_the_machine_has(name: str) -> None:
    target, (words, quads) = WORDS[name]
    assert words in compile_assembly(emit_integers("f", target, 8, 0), target)
    assert bool(target.traits.words.quads) == bool(quads)
    if quads:
        assert quads in compile_assembly(emit_integers("f", target, 8, 2), target)


@pytest.mark.parametrize(
    ("host", "word"),
    [
        (SIERRA_FOREST, "\t{vex}\tvpdpbusd\t"),
        (ZEN_4, "\tvpdpbusd\t"),
        (NEOVERSE_N2, "\tusdot\t"),
        (NEOVERSE_N1, "\tsdot\t"),
    ],
    ids=["avx-vnni", "avx512-vnni", "usdot", "sdot"],
)
def test_quads_of_bytes_are_one_instruction(host: Host, word: str) -> None:
    target = native(host)
    assert compile_assembly(emit_integers("f", target, 8, 1, exact=True), target).count(word) == CHAINS


@pytest.mark.parametrize(
    ("host", "word"), [(COOPER_LAKE, "\tvdpbf16ps\t"), (NEOVERSE_N2, "\tbfdot\t")], ids=["x86", "arm"]
)
def test_pairs_of_bfloat16_are_one_instruction(host: Host, word: str) -> None:
    target = native(host)
    assert word in compile_assembly(emit_fma("f", target, 8, pairs=True), target)
