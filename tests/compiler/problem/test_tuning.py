"""Choices told to the schedule: all that it lists are used, nothing else is, and without any nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from omniconv.bench.sources import read_cases
from omniconv.bench.tuning import collect_sites, programs_of
from omniconv.compiler.memory.planner import Decision
from omniconv.compiler.planning.choice import list_choices
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, plan
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.errors import SpecError
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.spec import Conv
from omniconv.target.model import Host, Target
from omniconv.target.select import LEVELS, resolve_target

CORPUS = Path(__file__).resolve().parents[3] / "bench" / "corpus"
TARGETS = {
    level.name: resolve_target(
        level.name, Host("any", tuple((name, True) for name in level.needs), "x86_64-unknown-linux-gnu")
    )
    for level in LEVELS
    if level.arch == "x86-64"
}
"""No machine need have them: planning is pure."""
NHWC = Options(layout="NHWC")
V3, V4 = TARGETS["x86-64-v3"], TARGETS["x86-64-v4"]
DENSE = Conv.of(32, 48, 3, padding=1)
DEPTHWISE = Conv.of(40, 40, 3, padding=1, groups=40)


def plan_with(spec: Conv, size: int, target: Target, choice: str | None = None, **options) -> Plan:
    program = program_of(spec, (1, spec.in_channels, size, size), random_weights(spec, np.random.default_rng(0)))
    if choice is None:
        return plan(program, target, Options(layout="NHWC", **options))
    problem = decide(plan(program, target, Options(layout="NHWC", **options))).problem
    return plan(program, target, Options(layout="NHWC", tuning=Tuning(target, {problem.text(): choice}), **options))


def decide(found: Plan) -> Decision:
    return next(call.decision for call in found.calls if call.decision is not None)


def recipes(found: Plan) -> list[str]:
    return [repr(call.recipe) for call in found.calls]


def list_texts(problem: Problem, target: Target) -> list[str]:
    return [text for items in list_choices(problem, target) for text, _ in items]


def corpus_sites() -> Iterator[tuple[Target, object]]:
    programs = list(programs_of(read_cases(CORPUS)))
    for target in TARGETS.values():
        for site in collect_sites(programs, target, "NHWC"):
            yield target, site


def test_problems_and_choices_are_told_apart_by_their_text() -> None:
    for target in TARGETS.values():
        sites = collect_sites(programs_of(read_cases(CORPUS)), target, "NHWC")
        assert len(sites) > 80
        assert len({site.problem.text() for site in sites}) == len({site.problem for site in sites}) == len(sites)
        for site in sites:
            texts = list_texts(site.problem, target)
            assert len(set(texts)) == len(texts), site.layer


def test_every_number_of_a_problem_is_in_its_text() -> None:
    problem = decide(plan_with(Conv.of(12, 12, 4, stride=2, padding=1, groups=3, transposed=True), 9, V3)).problem
    axis = problem.axes[2]
    others = [
        replace(problem, **{name: getattr(problem, name) + 1}) for name in ("batch", "groups", "inputs", "outputs")
    ]
    for item in fields(axis):
        value = getattr(axis, item.name)
        changed = replace(axis, **{item.name: (value[0] + 1, *value[1:]) if isinstance(value, tuple) else value + 1})
        others += [
            replace(problem, axes=(*problem.axes[:2], changed)),
            replace(problem, axes=(changed, *problem.axes[1:])),
        ]
    texts = {problem.text(), *(other.text() for other in others)}
    assert len(texts) == len(others) + 1 == 27


def test_the_default_is_the_cheapest_of_some_list() -> None:
    for target, site in corpus_sites():
        lists = list_choices(site.problem, target)
        assert site.default in [min(items, key=lambda item: item[1])[0] for items in lists], site.layer


@pytest.mark.wide
def test_every_listed_choice_is_used_when_it_is_told() -> None:
    used = 0
    for target, site in corpus_sites():
        for items in list_choices(site.problem, target):
            for text in {items[0][0], items[len(items) // 2][0], items[-1][0]}:
                decided = [call.decision for call in site.plan(target, text).calls if call.decision is not None]
                mine = [item for item in decided if item.problem == site.problem]
                assert mine, site.layer
                assert all(item.choice == text and item.tuned for item in mine), (site.layer, text)
                used += 1
    assert used > 1000


def test_planning_is_pure() -> None:
    tuning = Tuning(V3, {})
    program = program_of(DENSE, (1, 32, 9, 9), random_weights(DENSE, np.random.default_rng(0)))
    plain = plan(program, V3, NHWC)
    assert not decide(plain).tuned
    assert recipes(plan(program, V3, replace(NHWC, tuning=tuning))) == recipes(plain)
    text = next(text for text in list_texts(decide(plain).problem, V3) if text.startswith("winograd m=2 "))
    told = Tuning(V3, {decide(plain).problem.text(): text})
    found = decide(plan(program, V3, replace(NHWC, tuning=told)))
    assert (found.problem, found.choice, found.tuned) == (decide(plain).problem, text, True)
    assert recipes(plan(program, V3, replace(NHWC, tuning=told))) == recipes(
        plan(program, V3, replace(NHWC, tuning=told))
    )
    assert recipes(plan(program, V3, NHWC)) == recipes(plain), "what was told once is not remembered"


def test_a_tuning_is_for_one_target() -> None:
    program = program_of(DENSE, (1, 32, 9, 9), random_weights(DENSE, np.random.default_rng(0)))
    with pytest.raises(SpecError, match=r"the tuning is for x86-64-v4 .*; need one for x86-64-v3"):
        plan(program, V3, Options(tuning=Tuning(V4)))
    with pytest.raises(SpecError, match="the tuning is for"):
        plan(program, V3, Options(tuning=Tuning(replace(V3, features="+sse3"))))


@pytest.mark.parametrize(
    "choice",
    [
        "panel rows=99 vectors=1 unroll=4 block=1",
        "panel rows=0 vectors=1 unroll=4 block=1",
        "panel rows=-1 vectors=1 unroll=4 block=1",
        "panel rows=True vectors=1 unroll=4 block=1",
        "panel",
        "lane columns=7 chunk=3 block=1 split=1",
        "winograd m=4",
        "winograd m=4 slab=1000000 groups=1",
        "winograd m=3 slab=12 groups=1",
        "\0",
        "",
    ],
)
@pytest.mark.parametrize("spec", [DENSE, Conv.of(33, 20, 5, stride=2)], ids=["filtered", "direct"])
def test_what_is_not_listed_is_not_used_and_said_to_be_so(choice: str, spec: Conv) -> None:
    found = plan_with(spec, 19, V3, choice)
    assert not decide(found).tuned
    assert recipes(found) == recipes(plan_with(spec, 19, V3))
    assert f"tuned {choice}: not a choice here" in [why for call in found.calls for why in call.why]


def test_filtering_can_be_chosen_and_refused() -> None:
    problem = decide(plan_with(DENSE, 28, V3)).problem
    texts = list_texts(problem, V3)
    filtered = [text for text in texts if text.startswith("winograd ")]
    assert {text.split()[1] for text in filtered} >= {"m=2", "m=4"}
    for text in filtered:
        found = plan_with(DENSE, 28, V3, text)
        assert [call.what for call in found.calls[:3]] == ["winograd_input", "panel", "winograd_output"]
        assert {call.recipe.blocks.text() for call in found.calls if call.what != "panel"} == {text}
    direct = next(text for text in texts if text.startswith("panel"))
    found = plan_with(DENSE, 28, V3, direct)
    assert [call.what for call in found.calls] == ["panel"]
    assert any(why.startswith("winograd ") and why.endswith(": measured slower") for why in found.calls[0].why)
    strided = Conv.of(32, 48, 3, padding=1, stride=3)
    assert not decide(plan_with(strided, 28, V3, filtered[0])).tuned


def test_exact_keeps_to_direct_sums_whatever_was_measured() -> None:
    text = next(text for text in list_texts(decide(plan_with(DENSE, 28, V3)).problem, V3) if "winograd" in text)
    found = plan_with(DENSE, 28, V3, text, exact=True)
    assert recipes(found) == recipes(plan_with(DENSE, 28, V3, exact=True))
    assert [call.what for call in found.calls] == ["panel"]
    assert f"tuned {text}: not a choice here" in found.calls[0].why


@pytest.mark.parametrize("target", [V3, V4, TARGETS["x86-64-v2"]], ids=str)
def test_a_layer_that_both_families_serve_can_be_given_to_either(target: Target) -> None:
    spec = Conv.of(6 * target.lanes, 6 * target.lanes, 3, padding=1, groups=6)
    problem = decide(plan_with(spec, 14, target)).problem
    families = {text.split()[0]: text for text in list_texts(problem, target)}
    assert families.keys() >= {"lane", "panel"}
    default = decide(plan_with(spec, 14, target, exact=True)).choice
    for family in ("lane", "panel"):
        found = plan_with(spec, 14, target, families[family])
        assert [call.what for call in found.calls] == [family]
        assert decide(found) == Decision(problem, families[family], tuned=True)
        assert families[family] == default or f"{default}: measured slower" in found.calls[0].why
    depthwise = decide(plan_with(DEPTHWISE, 14, target)).problem
    assert not any(text.startswith("panel") for text in list_texts(depthwise, target))
