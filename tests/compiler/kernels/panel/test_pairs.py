"""Panels of bfloat16: what their inner loops are made of, on machines that need not be here."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.machines import COOPER_LAKE, NEOVERSE_N2, V3, V4, native

from omniconv.compiler.code.build import compile_assembly
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.memory.planner import Call
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.spec import Chain, Conv
from omniconv.target.model import Target

SPEC = Chain((Conv.of(64, 63, 1), Conv.of(63, 96, 1)))
"""The first layer reads float32, the second one bfloat16, of which one input has no neighbour."""
SPILL = re.compile(r"\t(vmov\w+\t[^\n]*\(%rsp\)|(ldr|str|ldp|stp)\tq[^\n]*\[sp)")


def panels(target: Target) -> list[Call]:
    weights = random_weights(SPEC, np.random.default_rng(0))
    found = plan(program_of(SPEC, (1, 64, 28, 28), weights), target, Options(precision="bfloat16", exact=True))
    return [call for call in found.calls if isinstance(call.recipe, Panel)]


@pytest.mark.parametrize(
    ("host", "adds", "multiplies"),
    [(COOPER_LAKE, "\tvdpbf16ps\t", "\tvfmadd"), (NEOVERSE_N2, "\tbfdot\t", "\tfmla\t")],
    ids=["cooperlake", "neoverse-n2"],
)
def test_inner_loops_add_pairs_and_spill_nothing(host, adds: str, multiplies: str) -> None:
    target = native(host)
    first, second = panels(target)
    assert (first.narrow, second.narrow) == ((1, 3), (0, 1))
    recipe = second.recipe
    assert (first.recipe.adds_pairs, recipe.adds_pairs) == (False, True)
    text = compile_assembly(recipe.emit("f", target.keeping(second.narrow)), target)
    assert multiplies not in text
    # A round of the innermost loop.
    wanted = recipe.tile.rows * recipe.tile.vectors * recipe.tile.unroll // 2
    loops = [loop for loop in re.findall(r"\.L\w+:[^:]*?\n\t(?:j\w+|b\.\w+)\t", text) if loop.count(adds) == wanted]
    assert loops
    assert not any(SPILL.search(loop) for loop in loops)


@pytest.mark.parametrize("target", [V3, V4], ids=str)
def test_other_machines_widen(target: Target) -> None:
    """The weights lie in the same pairs; inputs that are bfloat16 are widened ahead."""
    calls = panels(target)
    assert all(call.recipe.pairs and not call.recipe.adds_pairs for call in calls)
    assert [call.recipe.widens for call in calls] == [False, True]
