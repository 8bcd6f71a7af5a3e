"""Which 3x3 layers are filtered, in what blocks, for machines at hand and not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.compiler.planning.test_plan import check_arena
from tests.machines import V3 as SHORT
from tests.machines import V4 as WIDE

import omniconv as oc
from omniconv.compiler.code.build import compile_assembly
from omniconv.compiler.kernels.winograd.slabs import FEWEST, list_slabs, plan_winograd, reject_winograd, share_slabs
from omniconv.compiler.kernels.winograd.transforms import WinogradInput, WinogradOutput
from omniconv.compiler.planning.choice import choose
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import plan
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import walks
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights
from omniconv.spec import Conv
from omniconv.target.model import Target


def problem(inputs: int, outputs: int, size: int, *, batch: int = 1, groups: int = 1, **options: object) -> Problem:
    spec = Conv.of(inputs, outputs, 3, padding=options.get("dilation", 1), groups=groups, **options)
    return Problem(batch, walks(spec, (size, size)), groups, inputs // groups, outputs // groups)


@pytest.mark.parametrize("target", [SHORT, WIDE], ids=str)
@pytest.mark.parametrize(
    ("layer", "m"),
    [
        (problem(64, 64, 56), 4),
        (problem(128, 128, 28), 4),
        (problem(256, 256, 16), 4),
        (problem(512, 512, 7), 2),
        (problem(512, 512, 7, batch=4), 4),
        (problem(256, 256, 28, dilation=2), 4),
        (problem(512, 256, 33, dilation=12), 3),
        (problem(512, 512, 9), 3),
        (problem(512, 512, 16, groups=16), 4),
        (problem(240, 240, 14, groups=10), 4),
        (problem(96, 96, 28, groups=8), 4),
        (problem(512, 512, 5), None),
        (problem(16, 16, 3), None),
    ],
)
def test_what_measures_fastest_is_chosen(layer: Problem, m: int | None, target: Target) -> None:
    blocks, why = plan_winograd(layer, target)
    assert (blocks.axes[2].m if blocks else None) == m
    expected = [f"winograd F({size}x{size}, 3x3)" for size in (2, 3, 4)]
    if m is not None:
        expected = ["direct sum", *(name for name in expected if f"F({m}x{m}," not in name)]
    assert [text.split(":")[0] for text in why] == expected
    assert all("time expected" in text for text in why)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (problem(64, 64, 56, stride=3), "the kernel is no longer than its stride"),
        (problem(64, 64, 56, stride=2, dilation=2), "the kernel has a stride and is dilated or long"),
        (problem(4, 64, 56), "fewer than 8 input channels"),
        (problem(56, 56, 28, groups=8), "fewer than 8 channels a group"),
        (Problem(1, walks(Conv.of(64, 64, 1), (28, 28)), 1, 64, 64), "the kernel is a single tap"),
        (
            Problem(1, walks(Conv.of(64, 64, 3, stride=2, dilation=2, transposed=True), (28, 28)), 1, 64, 64),
            "outputs have taps of different distances",
        ),
        (
            Problem(1, walks(Conv.of(64, 64, 3, stride=(2, 1, 1), dims=3), (9, 28, 28)), 1, 64, 64),
            "the stride along the depth is not 1",
        ),
    ],
)
def test_what_cannot_be_filtered_says_why(layer: Problem, reason: str) -> None:
    assert reject_winograd(layer, SHORT, Facts()).startswith(reason)
    choice = choose(layer, SHORT)
    assert choice.family.name != "winograd"
    assert any(why.startswith(f"winograd: {reason}") for why in choice.rejected)


def test_direct_sums_can_be_asked_for() -> None:
    choice = choose(problem(64, 64, 56), SHORT, Facts(exact=True))
    assert choice.family.name == "panel"
    assert "winograd: exact=True" in choice.rejected


def test_groups_at_a_time_fit_the_cache() -> None:
    layer = problem(512, 512, 28, groups=32)
    for size in (2**18, 2**19, 2**20):
        for slabs in list_slabs(layer, replace(SHORT, cache_bytes=size)):
            blocks = slabs.tile
            assert layer.groups % blocks.groups == 0
            held = 4 * blocks.points * blocks.slab * blocks.groups * (layer.inputs + layer.outputs)
            assert held <= size or blocks.groups == 1
    small, large = (plan_winograd(layer, replace(SHORT, cache_bytes=size))[0] for size in (2**18, 2**21))
    assert small is not None
    assert large is not None
    assert small.groups * small.slab < large.groups * large.slab


@pytest.mark.parametrize(
    ("layer", "short", "wide"),
    [
        (problem(64, 64, 28, groups=8), 4, None),
        (problem(128, 128, 56, groups=16), 4, None),
        (problem(232, 232, 14, groups=29), None, None),
        (problem(256, 256, 28, groups=16), 4, 4),
    ],
)
def test_groups_that_fill_a_vector_are_filtered_where_the_lane_kernel_is_slower(
    layer: Problem, short: int | None, wide: int | None
) -> None:
    for target, m in ((SHORT, short), (WIDE, wide)):
        choice = choose(layer, target)
        assert (choice.tile.axes[2].m if choice.family.name == "winograd" else None) == m
        if target is WIDE and m is None:
            assert choice.family.name == "lane"
            assert "winograd: 2 groups share a vector" in choice.rejected


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 6])
def test_strips_have_equally_many_slabs(threads: int) -> None:
    layers = [problem(64, 64, size) for size in (14, 28, 56, 112)] + [problem(512, 512, 14, groups=32)]
    shared = 0
    for layer in layers:
        for slabs in list_slabs(layer, SHORT):
            strips, blocks = share_slabs(slabs.tile, layer, threads)
            assert blocks == replace(slabs.tile, slab=blocks.slab)
            if strips == 1:
                assert blocks == slabs.tile
                continue
            shared += 1
            assert strips == threads
            count = layer.groups // blocks.groups * -(blocks.count // -blocks.slab)
            assert count % strips == 0
            assert blocks.slab == slabs.tile.slab or FEWEST <= blocks.slab < slabs.tile.slab
    assert bool(shared) == (threads > 1)


@pytest.mark.parametrize(("channels", "size", "groups"), [(24, 40, 1), (64, 40, 4)])
def test_threads_have_slabs_of_their_own(channels: int, size: int, groups: int) -> None:
    spec = Conv.of(channels, channels, 3, padding=1, groups=groups)
    rng = np.random.default_rng(0)
    weights, x = random_weights(spec, rng), rng.standard_normal((1, channels, size, size)).astype(np.float32)
    want = oc.compile(spec, x.shape, weights)(x)
    for threads in (2, 3, 4):
        for machine in (SHORT, WIDE):
            found = plan(program_of(spec, x.shape, weights), machine, Options(threads=threads))
            check_arena(found)
            assert any(len(group.counts) == threads for group in found.groups)
            assert any(call.how == f"in {threads} strips, one for each thread" for call in found.calls)
        f = oc.compile(spec, x.shape, weights, threads=threads)
        for _ in range(3):
            assert np.array_equal(f(x), want)
        assert {step.kind for step in f.profile(x)} >= {call.what for call in f.plan.calls if "winograd" in call.what}


@pytest.mark.parametrize(("target", "register"), [(SHORT, "ymm"), (WIDE, "zmm")], ids=["x86-64-v3", "x86-64-v4"])
def test_transforms_use_whole_vectors(target: Target, register: str) -> None:
    blocks, _ = plan_winograd(problem(64, 96, 20, groups=2), target)
    assert blocks is not None
    shared = {"blocks": blocks, "pitch": 48, "lanes": target.lanes}
    forward = WinogradInput(channels=32, x_strides=(0, 0, 1280, 64), readable=True, **shared)
    back = WinogradOutput(channels=48, y_strides=(0, 0, 1920, 96), tail=False, posts=(), **shared)
    for recipe in (forward, back):
        assert register in compile_assembly(recipe.emit("k", target), target)
