"""Which family gets a layer, with which tile, and why: pure functions, asked for machines that need not be here."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from tests.machines import MACHINES as NAMED
from tests.machines import NEON, V2, V3, V4

import omniconv as oc
from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.planning.choice import FAMILIES, choose, list_choices
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.spec import Conv

MACHINES = (V2, V3, V4)
ROWS = Facts(x_rows=True, y_rows=True)
PLANES = replace(ROWS, planes=True)


def layer(inputs, outputs, kernel, *size, batch=1, **options) -> Problem:
    return Problem.of(Conv.of(inputs, outputs, kernel, dims=len(size), **options), (batch, inputs, *size))


DEPTHWISE = layer(96, 96, 3, 112, 112, padding=1, groups=96)
DENSE = layer(128, 128, 3, 28, 28, padding=1)
POINTWISE = layer(96, 24, 1, 56, 56)


@pytest.mark.parametrize(
    ("problem", "facts", "families"),
    [
        (DEPTHWISE, Facts(), ("lane", "lane", "lane")),
        (DEPTHWISE, ROWS, ("series", "series", "series")),
        (DEPTHWISE, replace(ROWS, y_rows=False), ("lane", "lane", "lane")),
        (DENSE, Facts(), ("winograd", "winograd", "winograd")),
        (DENSE, Facts(exact=True), ("panel", "panel", "panel")),
        (DENSE, ROWS, ("winograd", "winograd", "winograd")),
        (POINTWISE, Facts(), ("panel", "panel", "panel")),
        (POINTWISE, PLANES, ("planes", "planes", "planes")),
        (layer(96, 24, 1, 1, 5), PLANES, ("panel", "panel", "panel")),  # the vectors would be half empty
        (layer(64, 64, 5, 14, 14, groups=8), Facts(), ("panel", "lane", "lane")),  # 8 channels a group
        (layer(64, 64, 5, 14, 14, groups=16), Facts(), ("lane", "lane", "lane")),
        (layer(24, 24, 1, 9, 9, groups=24), Facts(), ("lane", "lane", "lane")),
        (layer(3, 32, 3, 224, 224, stride=2, padding=1), ROWS, ("panel", "panel", "panel")),
    ],
)
def test_families_of_layers(problem, facts, families) -> None:
    assert tuple(choose(problem, target, facts).family.name for target in MACHINES) == families


@pytest.mark.parametrize("target", MACHINES, ids=str)
@pytest.mark.parametrize("facts", [Facts(), Facts(exact=True), ROWS, PLANES])
def test_every_other_family_is_accounted_for(target, facts) -> None:
    """The one that is chosen says nothing against itself, and each of the others is named or compared with."""
    compared = {"series": "changes of layout", "planes": "changes of layout", "winograd": "direct sum"}
    for problem in (DEPTHWISE, DENSE, POINTWISE, layer(64, 64, 5, 14, 14, groups=8)):
        choice = choose(problem, target, facts)
        named = {why.split(":")[0].split()[0] for why in choice.rejected}
        assert choice.family.name not in named - {"winograd"}
        missing = {family.name for family in FAMILIES} - named - {choice.family.name}
        assert not missing or any(why.startswith(compared[choice.family.name]) for why in choice.rejected)


def test_positions_in_one_row_are_chosen_for() -> None:
    row = Problem(1, (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(56 * 56)), 1, 96, 24)
    for target in MACHINES:
        merged = choose(POINTWISE, target, Facts(merged=row))
        assert merged.problem == merged.decision.problem == row
        assert merged.tile == choose(row, target).tile
        assert choose(POINTWISE, target).problem == POINTWISE
        few = layer(24, 24, 1, 9, 9, groups=24)
        lane = choose(few, target, Facts(merged=Problem(1, (*row.axes[:2], AxisWalk.flat(81)), 24, 1, 1)))
        assert lane.problem == few, "groups that share vectors keep their rows"


def test_a_layer_is_merged_before_it_is_chosen_for() -> None:
    """Where the layouts of input, result and operands allow it, whatever family looks at it."""
    spec = Conv.of(40, 80, 1, groups=2)
    program = program_of(spec, (2, 40, 6, 7), random_weights(spec, np.random.default_rng(0)))
    for layout, positions in (("NHWC", 84), ("NCHW", 84)):
        *_, call = (call for call in plan(program, V3, Options(layout=layout)).calls if call.decision is not None)
        assert call.decision.problem.axes[2].size == positions
        assert call.recipe.axes == call.decision.problem.axes


def test_costs_are_compared_within_a_list() -> None:
    """The tile of a family is the cheapest of one of its lists."""
    for target in MACHINES:
        for problem, facts in ((DEPTHWISE, Facts()), (DEPTHWISE, ROWS), (DENSE, Facts()), (POINTWISE, PLANES)):
            choice = choose(problem, target, facts)
            lists = list_choices(choice.problem, target)
            assert choice.tile.text() in [min(items, key=lambda item: item[1])[0] for items in lists]
            texts = [text for items in lists for text, _ in items]
            assert len(set(texts)) == len(texts)


def test_a_layer_between_planes_may_be_told_to_change_layouts() -> None:
    """Its positions are merged then, and listed is what can be told."""
    row = Problem(1, (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(2 * 56 * 56)), 1, 96, 24)
    problem, facts = replace(POINTWISE, batch=2), replace(PLANES, merged=row)
    for target in MACHINES:
        default = choose(problem, target, facts)
        assert default.family.name == "planes"
        texts = [text for items in list_choices(default.problem, target) for text, _ in items]
        panels = [text for text in texts if text.startswith("panel")]
        assert panels == [text for items in list_choices(row, target) for text, _ in items]
        for text in panels[:: len(panels) // 3]:
            told = choose(problem, target, facts, {default.problem: text}.get)
            assert (told.tile.text(), told.tuned, told.problem) == (text, True, row)


def test_choices_are_told_by_their_text_whatever_family_has_them() -> None:
    for problem, facts in (
        (DEPTHWISE, ROWS),
        (DENSE, Facts()),
        (layer(96, 96, 3, 14, 14, groups=12), Facts()),
    ):
        default = choose(problem, V3, facts)
        for items in list_choices(default.problem, V3):
            told = choose(problem, V3, facts, {default.problem: items[-1][0]}.get)
            assert (told.tile.text(), told.tuned, told.problem) == (items[-1][0], True, default.problem)
            assert told.tile == default.tile or f"{default.tile.text()}: measured slower" in told.rejected
        unknown = choose(problem, V3, facts, lambda _: "panel rows=99")
        assert (unknown.tile, unknown.tuned) == (default.tile, False)
        assert unknown.rejected == (*default.rejected, "tuned panel rows=99: not a choice here")


def test_options_have_the_defaults_of_compile() -> None:
    defaults = oc.compile.__kwdefaults__
    assert {
        item.name: item.default for item in fields(Options) if item.name in defaults and item.name != "threads"
    } == {
        "layout": defaults["layout"],
        "exact": defaults["exact"],
        "precision": defaults["precision"],
        "float32_layers": frozenset(defaults["float32_layers"]),
        "accuracy": defaults["accuracy"],
        "memory_limit": defaults["memory_limit"],
    }


AARCH64 = {
    "neon": ("lane", "series", "winograd", "panel"),
    "neoverse-n1": ("lane", "series", "winograd", "panel"),
    "neoverse-v1": ("lane", "series", "winograd", "panel"),
    "apple-m1": ("lane", "series", "winograd", "panel"),
}
"""Families for a depthwise layer, the same between channels-first values, a dense layer and a pointwise one."""


@pytest.mark.parametrize(("name", "families"), AARCH64.items(), ids=list(AARCH64))
def test_families_on_aarch64(name, families) -> None:
    target = NEON if name == "neon" else NAMED[name]
    cases = ((DEPTHWISE, Facts()), (DEPTHWISE, ROWS), (DENSE, Facts()), (POINTWISE, Facts()))
    assert tuple(choose(problem, target, facts).family.name for problem, facts in cases) == families


@pytest.mark.parametrize("name", ["neoverse-n1", "neoverse-v1", "apple-m1"])
def test_tiles_on_aarch64_leave_registers_for_inputs(name) -> None:
    target = NAMED[name]
    for problem in (DENSE, POINTWISE, layer(24, 40, 5, 30, 30)):
        tile = choose(problem, target, Facts(exact=True)).tile
        assert tile.rows * (tile.vectors + 1) + tile.vectors < target.registers
        assert tile.rows * tile.vectors >= target.traits.sums_in_flight


@pytest.mark.parametrize("name", NAMED)
def test_every_machine_has_a_choice_for_every_layer(name) -> None:
    target = NAMED[name]
    for problem in (DEPTHWISE, DENSE, POINTWISE, layer(64, 64, 5, 14, 14, groups=8), layer(12, 12, 3, 9, 9, groups=3)):
        for facts in (Facts(), Facts(exact=True), ROWS):
            choice = choose(problem, target, facts)
            assert choice.family.reject(choice.problem, target, facts) is None


def test_vectors_of_halves_are_a_matter_of_the_instruction_set() -> None:
    """Groups of four on AVX2 alone do not straddle the middle, and groups of three take two broadcasts."""
    three = layer(48, 48, 3, 14, 14, groups=16)
    slots = {name: Grouping.of(three, target).slots for name, target in {**NAMED, "v3": V3, "v4": V4}.items()}
    assert slots["zen3"] == slots["sierra-forest"] == slots["haswell"] == slots["v3"] == (0, 1, 2, 4, 5, 6)
    assert slots["zen4"] == slots["skylake-server"] == tuple(range(15))
    assert slots["neoverse-n1"] == slots["nehalem"] == (0, 1, 2)
