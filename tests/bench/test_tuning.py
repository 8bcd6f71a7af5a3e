"""The search: layers taken out of their program compute the same, choices are verified, and a bad default is found."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.bench.told_times import compare_by_tile, spoil
from tests.compiler.planning.test_plan import check_arena
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.bench import tuning as module
from omniconv.bench.isolate import Site, count_repeats, find_sites, isolate, repeat_step
from omniconv.bench.tuning import search, select_choices, tune_sites
from omniconv.compiler.planning.choice import list_choices
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.problem.tuning import Tuning
from omniconv.graph import to_program
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights, reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Chain, Conv, Shuffle
from omniconv.target.select import available_targets, detect_host, select_target

NHWC = Options(layout="NHWC")
TARGETS = [name for name in available_targets(detect_host()) if name != "generic"]
SHORT: tuple[dict[str, Any], ...] = ({"rounds": 2, "seconds": 0.0},) * 3
PROBLEMS = {
    "dense": (Conv.of(12, 20, 3, padding=1), (1, 12, 7, 9)),
    "pointwise": (Conv.of(19, 37, 1), (2, 19, 5, 3)),
    "strided": (Conv.of(5, 33, (3, 5), stride=2, padding=(1, 2)), (1, 5, 11, 12)),
    "grouped": (Conv.of(24, 32, 3, padding=1, groups=4), (1, 24, 6, 9)),
    "lane groups": (Conv.of(16, 32, 3, padding=1, groups=8), (1, 16, 6, 9)),
    "depthwise": (Conv.of(21, 21, 3, padding=1, groups=21), (1, 21, 9, 8)),
    "long depthwise": (Conv.of(21, 21, 5, padding=2, groups=21, dilation=2), (1, 21, 9, 8)),
    "transposed": (Conv.of(9, 9, 4, stride=2, padding=1, groups=9, transposed=True), (1, 9, 5, 6)),
    "1-D": (Conv.of(8, 24, 4, dims=1, dilation=3), (1, 8, 40)),
}


def make_integers(spec: Conv, shape: tuple[int, ...]) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x = generator.integers(-4, 5, shape).astype(np.float32)
    return x, [
        tuple(None if part is None else generator.integers(-4, 5, part.shape).astype(np.float32) for part in pair)
        for pair in random_weights(spec, generator)
    ]


@pytest.mark.wide
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_choice_computes_the_same(name: str, target: str, tally: Any) -> None:
    spec, shape = PROBLEMS[name]
    machine = select_target(target)
    x, weights = make_integers(spec, shape)
    program = program_of(spec, shape, weights)
    expected = reference(spec, x, weights).astype(np.float32)
    sites = find_sites(program, machine, "NHWC")
    assert len(sites) == 1
    given = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    choices = [text for items in list_choices(sites[0].problem, machine) for text, _ in items]
    assert sites[0].default in choices
    for choice in choices:
        told = Tuning(machine, {sites[0].problem.text(): choice})
        planned = plan(program, machine, Options(layout="NHWC", exact=True, tuning=told))
        for threads in (1, 2):
            y = np.moveaxis(Executable(planned, threads=threads, layout="NHWC")(given), -1, 1)
            assert np.array_equal(y, expected), (choice, threads)
    tally("choices of tiles that compute the same, bit for bit", 2 * len(choices))


def test_a_step_done_several_times_computes_the_same() -> None:
    chain = Chain(
        (Conv.of(6, 16, 3, padding=1), Activation("relu"), Shuffle(4), Conv.of(16, 16, 3, groups=16), Conv.of(16, 9, 1))
    )
    shape = (1, 6, 12, 10)
    weights = random_weights(chain, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    for exact in (False, True):
        whole = plan(program_of(chain, shape, weights), select_target(None), Options(exact=exact))
        expected = Executable(whole)(x)
        for step in range(len(whole.program.steps)):
            if not any(call.step == step for call in whole.calls):
                continue
            again = repeat_step(whole, step, 3)
            assert len(again.calls) > len(whole.calls)
            check_arena(again)
            for number, call in enumerate(again.calls):
                assert all(
                    again.buffers[ref.buffer].first <= number <= again.buffers[ref.buffer].last for ref in call.args
                )
            assert np.array_equal(Executable(again)(x), expected)


def test_layers_taken_out_of_a_network_compute_the_same() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 4, 8, 8), 16, 4)
    y = g.node("Relu", g.node("Add", g.conv(x, 16, 16), x))
    program = to_program(g.model(g.conv(y, 8, 16, 1)))
    target = select_target(None)
    values = {"x": np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)}
    names = tuple(step.y for step in program.steps)
    values |= Executable(plan(replace(program, outputs=names), target)).run(values)
    for index, step in enumerate(program.steps):
        alone, at = isolate(program, index)
        assert alone.steps[at] is step
        given = {name: values[name.removesuffix(".given")] for name in alone.inputs}
        result = Executable(plan(alone, target)).run(given)
        assert list(result) == [step.y if step.y in program.outputs else f"{step.y}.taken"]
        np.testing.assert_allclose(next(iter(result.values())), values[step.y], rtol=1e-5, atol=1e-5)


def test_sites_are_the_problems_that_the_plan_has() -> None:
    """Flattened, with shuffled inputs and inside a network; each problem once."""
    unit = oc.shuffled_grouped(in_channels=48, out_channels=48, groups=3, padding=1)
    program = program_of(unit, (1, 48, 14, 14), random_weights(unit, np.random.default_rng(0)))
    target = select_target("x86-64-v3")
    wanted = {call.decision.problem for call in plan(program, target, NHWC).calls if call.decision is not None}
    sites = find_sites(program, target, "NHWC")
    assert {site.problem for site in sites} == wanted
    assert len(sites) == 3
    twice = Chain((Conv.of(16, 16, 3, padding=1),) * 3)
    program = program_of(twice, (1, 16, 9, 9), random_weights(twice, np.random.default_rng(0)))
    assert len(find_sites(program, target, "NHWC")) == 1


def test_layers_taken_out_keep_their_layouts() -> None:
    """Channels that are shuffled in front, and pixels a whole number of vectors apart."""
    chain = Chain((Conv.of(20, 48, 1), Shuffle(4), Conv.of(48, 36, 1, groups=3), Conv.of(36, 12, 3, groups=12)))
    program = program_of(chain, (1, 20, 9, 8), random_weights(chain, np.random.default_rng(0)))
    target = select_target("x86-64-v3")
    sites = find_sites(program, target, "NHWC")
    whole = {repr(call.recipe) for call in plan(program, target, NHWC).calls if call.decision is not None}
    alone = {
        repr(call.recipe)
        for site in sites
        for call in site.plan(target, site.default).calls
        if call.decision is not None and call.step == site.step
    }
    assert len(sites) == 3
    assert alone == whole
    assert any("mapped=True" in recipe for recipe in alone)


def test_repeats_cover_the_time_of_a_call() -> None:
    assert count_repeats(1e-3, 3e-4, surrounded=False) == 1
    assert count_repeats(1e-3, 3e-4, surrounded=True) == 4
    assert count_repeats(1e-4, 3e-4, surrounded=False) == 3
    assert count_repeats(0.0, 3e-4, surrounded=False) == 256


def find_site(spec: Conv, *shape: int) -> Site:
    program = program_of(spec, shape, random_weights(spec, np.random.default_rng(0)))
    return find_sites(program, select_target(None), "NHWC")[0]


def test_a_bad_default_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    monkeypatch.setattr(module, "compare", compare_by_tile)
    site = find_site(Conv.of(64, 64, 1), 1, 64, 14, 14)
    assert site.default.startswith("panel rows=1 vectors=1 ")
    found = search(site, select_target(None))
    assert found.kept
    assert found.gain > 1.5
    assert found.best != site.default
    assert not found.wrong
    assert found.tried == len(select_choices(site, select_target(None)))
    assert 0 < found.seconds < 0.1


def test_wrong_choices_are_named_and_do_not_win(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    site = find_site(Conv.of(64, 64, 1), 1, 64, 14, 14)
    real = Site.plan

    def damage(self: Site, target: Any, choice: str, times: int = 1) -> Any:
        """Every other tile computes another layer."""
        if choice != self.default:
            step = self.program.steps[self.step]
            steps = [replace(step, w=step.w * np.float32(1.01))]
            self = replace(self, program=replace(self.program, steps=steps))
        return real(self, target, choice, times)

    monkeypatch.setattr(Site, "plan", damage)
    found = search(site, select_target(None), stages=SHORT)
    assert set(found.wrong) == set(select_choices(site, select_target(None))) - {site.default}
    assert not found.kept
    assert (found.best, found.gain) == (site.default, 1.0)


def test_what_is_not_beyond_the_noise_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    monkeypatch.setattr(module, "LEAST_GAIN", 1e9)
    found = search(find_site(Conv.of(64, 64, 1), 1, 64, 14, 14), select_target(None), stages=SHORT)
    assert not found.kept
    assert found.gain == 1.0


def test_no_problem_is_begun_after_the_time_is_up() -> None:
    sites = [find_site(Conv.of(8, 8, 1), 1, 8, 3, size) for size in (3, 4, 5)]
    shares = []
    found = list(
        tune_sites(sites, select_target(None), seconds=0.0, stages=SHORT, on_site=lambda _, share: shares.append(share))
    )
    assert [item.site for item in found] == sites[:1], "one is always done"
    assert shares == [0.0]
    start = time.perf_counter()
    assert len(list(tune_sites(sites, select_target(None), threads=2, stages=SHORT))) == 3
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    ("batch", "channels", "default", "refused"),
    [(1, 32, "planes", 0), (2, 32, "planes", 0), (2, 3, "planes", 0), (1, 1, "series", 1)],
)
def test_what_is_tried_is_what_the_plan_has(batch: int, channels: int, default: str, refused: bool) -> None:
    """Between channels-first values, where the panel kernel sees all positions in one row, or not. The planes of one
    channel are no planes.
    """
    g, target = Graph(), select_target(None)
    x, other = g.input("x", batch, channels, 14, 14), g.input("other", batch, 48, 14, 14)
    program = to_program(g.model(g.node("Add", g.conv(x, 48, channels, 1), other)))
    (site,) = find_sites(program, target, "NCHW")
    texts = select_choices(site, target)
    assert {text.split()[0] for text in texts} == {default, "panel"}
    listed = {text for items in list_choices(site.problem, target) for text, _ in items}
    assert any(not site.takes(target, text) for text in listed) == refused
    for text in texts:
        assert text in [call.decision.choice for call in site.plan(target, text).calls if call.decision is not None]


def test_unlikely_choices_are_not_tried() -> None:
    site = find_site(Conv.of(64, 64, 1), 1, 64, 14, 14)
    target = select_target(None)
    chosen = select_choices(site, target)
    (costs,) = (dict(items) for items in list_choices(site.problem, target))
    assert chosen[0] == site.default
    assert 3 < len(chosen) <= module.MOST < len(costs)
    assert max(costs[text] for text in chosen) <= 2 * min(costs.values())
