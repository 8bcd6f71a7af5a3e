"""Layers of bytes where products of four are added in 32 bits: VNNI and AArch64's dot products, none of them here."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from tests.compiler.kernels.test_quantised import layer_program
from tests.emulation import emulate_quads
from tests.machines import NEOVERSE_N1, NEOVERSE_N2, SIERRA_FOREST, ZEN_4, native
from tests.program_oracle import run_program

from omniconv.compiler.code.build import compile_assembly
from omniconv.compiler.kernels.quantised.quads import QuantisedQuads
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.program.levels import Levels
from omniconv.program.program import Program
from omniconv.program.steps import QuantisedConvStep
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv

MACHINES = {
    "avx-vnni": (native(SIERRA_FOREST), "vpdpbusd"),
    "avx512-vnni": (native(ZEN_4), "vpdpbusd"),
    "usdot": (native(NEOVERSE_N2), "usdot"),
    "sdot": (native(NEOVERSE_N1), "sdot"),
}
OTHER_PRODUCTS = re.compile(r"\t(vpmadd\w+|vpdpwssd|vpmull\w|vpmovsx\w+|s?mlal2?|smull2?|mul|sshll2?|sdot|usdot)\t")


def extreme_program(shape: tuple[int, ...], outputs: int, low: int, seed: int) -> Program:
    """A pointwise layer some of whose weights are all -128, all 127, or take turns, of inputs with some zero point."""
    program = layer_program(shape, Conv.of(shape[1], outputs, 1, dims=len(shape) - 2), seed=seed)
    program.steps[:] = [
        replace(step, levels=Levels(0.03125, low, low + 255)) if step.y == "q" else step for step in program.steps
    ]
    (place,) = [n for n, step in enumerate(program.steps) if isinstance(step, QuantisedConvStep)]
    step = program.steps[place]
    assert isinstance(step, QuantisedConvStep)
    w = step.w.copy()
    w[0], w[-1], w[outputs // 2, ::2] = -128, 127, -128
    program.steps[place] = replace(step, w=w, x_levels=Levels(0.03125, low, low + 255))
    return program


@pytest.mark.parametrize("name", MACHINES)
def test_the_instruction_is_all_that_multiplies(name: str) -> None:
    target, word = MACHINES[name]
    (call,) = [
        call for call in plan(layer_program((1, 64, 6, 8), Conv.of(64, 64, 1)), target).calls if call.what == "panel"
    ]
    assert isinstance(call.recipe, QuantisedQuads)
    assert call.how == "bytes: sums of 4 products in 32 bits"
    text = compile_assembly(call.recipe.emit("f", target), target)
    assert len(re.findall(rf"\t{word}\t", text)) >= 4 * 12
    assert set(OTHER_PRODUCTS.findall(text)) <= {word}


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "low", "layout"),
    [
        ("sdot", (2, 19, 3, 5), 9, -100, "NCHW"),
        ("usdot", (1, 5, 33), 9, -255, "NHWC"),
        *(
            pytest.param(name, *case, marks=pytest.mark.wide)
            for name in MACHINES
            for case in (
                ((2, 67, 3, 7), 41, -100, "NCHW"),
                ((1, 5, 33), 9, -255, "NHWC"),
                ((3, 24, 4, 4), 64, 0, "NHWC"),
            )
        ),
    ],
)
def test_all_weights_of_8_bits_are_exact(
    name: str, shape: tuple[int, ...], outputs: int, low: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = emulate_quads(MACHINES[name][0], monkeypatch)
    program = extreme_program(shape, outputs, low, outputs)
    run = Executable.of(program, target, Options(threads=2, layout=layout))
    assert any(isinstance(call.recipe, QuantisedQuads) and call.recipe.exact for call in run.plan.calls)
    x = np.random.default_rng(0).uniform(low / 32 - 1, low / 32 + 9, shape).astype(np.float32)
    x.reshape(-1)[:2] = low / 32 - 9, low / 32 + 99
    last = layout == "NHWC"
    y = run.run({"x": np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x})["y"]
    want = run_program(program, {"x": x})["y"].astype(np.float32)
    np.testing.assert_array_equal(np.moveaxis(y, -1, 1) if last else y, want)
    assert len(np.unique(want)) > 16


def test_weights_that_are_no_bytes_stay_words() -> None:
    program = layer_program((1, 64, 4, 4), Conv.of(64, 32, 1))
    next(step for step in program.steps if isinstance(step, QuantisedConvStep)).w[5, 37] = 128
    for target, _ in MACHINES.values():
        (call,) = [call for call in plan(program, target).calls if call.what == "panel"]
        assert call.how == "words: integers that are no bytes"
