"""Code for AArch64, which need not be here: it is made for every kind, and its inner loops are what they should be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.machines import APPLE_M1, NEON, NEOVERSE_V1, native

from omniconv.bench.sources import find_corpora, read_corpus
from omniconv.compiler.code.build import compile_assembly, compile_object
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.kinds import kinds
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights

CORPUS = Path(__file__).resolve().parents[3] / "bench" / "corpus"
LABEL = re.compile(r"^([.\w$]+):")
BRANCH = re.compile(r"^\s+(?:b|b\.\w+|cbz|cbnz|tbz|tbnz)\s.*?([.\w$]+)$")
SPILL = re.compile(r"\t(ldr|str|ldp|stp|ldur|stur)\t[qds]\d+,.*\[sp")
"""A vector register, or a part of one, that goes to the stack or comes from there."""
ELF, AARCH64 = b"\x7fELF", 183
FMLA = re.compile(r"\tfmla(\.4s)?\tv\d+")


def list_calls(spec, shape, target, **options):
    weights = random_weights(spec, np.random.default_rng(0))
    return plan(program_of(spec, shape, weights), target, Options(**options)).calls


def inner_loops(text: str) -> list[str]:
    """The loops with multiply-adds that have no others inside: from a label to the branch back to it."""
    lines = text.splitlines()
    labels = {found[1]: number for number, line in enumerate(lines) if (found := LABEL.match(line))}
    jumps = ((labels.get(found[1], len(lines)), at) for at, line in enumerate(lines) if (found := BRANCH.match(line)))
    spans = {(a, b) for a, b in jumps if a <= b and any(FMLA.search(line) for line in lines[a:b])}
    inner = [(a, b) for a, b in spans if not any((a, b) != (c, d) and a <= c and d <= b for c, d in spans)]
    return ["\n".join(lines[begin : end + 1]) for begin, end in sorted(inner)]


@pytest.mark.parametrize(
    "part", [slice(3), pytest.param(slice(3, None), marks=pytest.mark.wide)], ids=["first", "others"]
)
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_every_sample_becomes_an_object(kind, part, tally) -> None:
    for index, sample in list(enumerate(kind.samples))[part]:
        for call in list_calls(kind.build(sample), sample.shape, NEON, layout=("NCHW", "NHWC")[index % 2]):
            code = compile_object(call.recipe.emit("f", NEON), NEON)
            assert code[:4] == ELF
            assert int.from_bytes(code[18:20], "little") == AARCH64
            tally("objects for AArch64")


def list_kernels() -> Iterator[tuple[str, object]]:
    """The lane and panel kernels of the corpus, each once."""
    seen = set()
    for path in find_corpora(CORPUS):
        for line, spec, shape, _ in read_corpus(path):
            for layout in ("NHWC", "NCHW"):
                for call in list_calls(spec, shape, NEON, layout=layout, exact=layout == "NHWC"):
                    if call.what in ("lane", "panel") and call.recipe not in seen:
                        seen.add(call.recipe)
                        yield line, call.recipe


@pytest.mark.wide
def test_inner_loops_multiply_and_add_and_nothing_of_them_is_spilled(tally) -> None:
    spilled = []
    for line, recipe in list_kernels():
        text = compile_assembly(recipe.emit("f", NEON), NEON)
        hot = inner_loops(text)
        assert hot, line
        spilled += [(line, recipe.tile) for loop in hot if SPILL.search(loop)]
        tally("lane and panel kernels of the corpus without spills on AArch64")
    assert spilled == []


@pytest.mark.parametrize("host", [NEOVERSE_V1, APPLE_M1], ids=lambda host: host.cpu)
def test_code_for_named_machines_is_made(host) -> None:
    kind = kinds()["depthwise_separable"]
    target = native(host)
    for call in list_calls(kind.build(kind.samples[0]), kind.samples[0].shape, target):
        assert FMLA.search(compile_assembly(call.recipe.emit("f", target), target)) or call.what == "copy"


def test_the_loops_of_a_text_are_found() -> None:
    text = "a:\n\tb.ne\td\nb:\n\tfmla\tv0\n\tb.lo\tb\nc:\n\tb.lo\tc\n\tb\ta\nd:\n\tret"
    assert inner_loops(text) == ["b:\n\tfmla\tv0\n\tb.lo\tb"]
