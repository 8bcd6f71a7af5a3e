"""Fused runs of layers: the same bits as the layers in turn, decided by size, told by explain() and profile()."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.planning.test_plan import MACHINE, check_arena, words
from tests.graph.small_models import MODELS, Graph, draw_inputs
from tests.registry.compiled import HELD, TARGETS, channels_from, channels_to, strictly
from tests.strategies import HALVES, Problem, chains

import omniconv as oc
from omniconv.compiler.fusion.frames import flat
from omniconv.compiler.kernels.lane.rows import Lane
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, plan
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.errors import ShapeError
from omniconv.graph import to_program
from omniconv.kinds import kinds
from omniconv.program.from_spec import program_of
from omniconv.program.gradients import forward_program
from omniconv.reference import random_weights
from omniconv.runtime.executable import Executable
from omniconv.spec import Activation, Axis, Chain, Conv, Shuffle
from omniconv.target.select import detect_host, resolve_target

RANDOM = int(os.environ.get("OMNICONV_RANDOM", "0"))
NEVER = 2**62
"""A cache that nothing overflows."""
RELU = Activation("relu")


def depthwise(channels: int, kernel=3, **geometry) -> Conv:
    return Conv.of(channels, channels, kernel, groups=channels, **{"padding": "same", **geometry})


AWKWARD = [
    (Chain((depthwise(20), RELU, Conv.of(20, 33, 1), RELU)), (1, 20, 13, 11)),
    (Chain((Conv.of(7, 40, 1), RELU, depthwise(40, stride=2, padding=1), RELU, Conv.of(40, 9, 1))), (3, 7, 15, 9)),
    (Chain((Conv.of(8, 24, 1), depthwise(24, 5, dilation=2), Conv.of(24, 8, 1))), (1, 8, 17, 6)),
    (Chain((depthwise(12, padding=((3, 0), (0, 2))), depthwise(12, (4, 1), padding=((0, 5), (0, 0))))), (2, 12, 10, 7)),
    (Chain((Conv.of(24, 12, 1, groups=3), RELU, Shuffle(3), depthwise(12), Conv.of(12, 24, 1, groups=3))),
     (2, 24, 9, 10)),
    (Chain((Conv.of(10, 18, (7, 1), padding=((3, 3), (0, 0))), RELU, Conv.of(18, 10, (1, 7),
     padding=((0, 0), (3, 3))))), (1, 10, 12, 8)),
    (Chain((depthwise(16, (3, 1)), depthwise(16, (1, 3)))), (1, 16, 9, 12)),
    (Chain((Conv.of(5, 12, 4, stride=2, padding=1, transposed=True), depthwise(12), Conv.of(12, 5, 1))), (2, 5, 6, 5)),
    (Chain((depthwise(9, 3, stride=3, padding=2, transposed=True), Conv.of(9, 9, 1), depthwise(9, 2, stride=2,
     padding=0))), (1, 9, 7, 4)),
    (Chain((depthwise(8, 7, dims=1), RELU, Conv.of(8, 12, 1, dims=1))), (2, 8, 37)),
    (Chain((Conv.of(4, 8, 1, dims=3), depthwise(8, 3, dims=3), Conv.of(8, 6, 1, dims=3))), (1, 4, 5, 6, 7)),
    (Chain((Conv.of(6, 8, 3, padding=1, stride=2), depthwise(8, 3, padding=4), Conv.of(8, 6, 3, padding=0))),
     (1, 6, 12, 10)),
    (Chain((Conv.of(6, 8, 1), Conv.of(8, 12, 1), Conv.of(12, 5, 1))), (2, 6, 4, 5)),
    (Chain((depthwise(8, 1, stride=3, padding=0), depthwise(8, 2, stride=2, padding=0))), (1, 8, 25, 7)),
]  # fmt: skip
"""Strides, dilations, kernels shorter than their stride, paddings that differ or reach past the input, phases, groups,
shuffles, batches and one to three dimensions."""


def build(problem: Problem, weights, cache: int, *, target="native", threads=1, layout="NCHW") -> Executable:
    chosen = resolve_target(target, detect_host())
    program = program_of(problem.spec, problem.shape, weights)
    planned = plan(program, chosen, Options(layout=layout, exact=True, threads=threads, cache=cache))
    check_arena(planned)
    f = Executable(planned, threads=threads, layout=layout)
    HELD.append(f)
    return f


def run(f: Executable, x, layout):
    (y,) = strictly(f, {"x": channels_to(layout, x)}).values()
    return channels_from(layout, y)


def check(problem: Problem, seed: int, ways=((0, 1), (0, 2)), **options) -> bool:
    """Fused equals unfused, bit by bit, for caches and threads; returns whether something was fused."""
    fused = False
    for integer in (True, False):
        x, weights = problem.draw(seed, integer=integer)
        layout = options.get("layout", "NCHW")
        want = run(build(problem, weights, NEVER, **options), x, layout)
        for cache, count in ways:
            f = build(problem, weights, cache, threads=count, **options)
            got = run(f, x, layout)
            assert np.array_equal(got, want), f"{problem} {options} cache={cache} threads={count}"
            fused |= any(call.how for call in f.plan.calls)
    return fused


def each_way(*caches: int) -> list[Any]:
    """Caches with 1, 2 and 3 threads: one of each; the others are wide."""
    few = tuple(zip(caches, (1, 2, 3), strict=True))
    others = tuple(way for way in itertools.product(caches, (1, 2, 3)) if way not in few)
    return [pytest.param(few, id="few"), pytest.param(others, id="others", marks=pytest.mark.wide)]


@pytest.mark.parametrize("ways", each_way(0, 1500, 6000))
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("index", "layout"),
    [
        pytest.param(index, layout, marks=[] if (index + turn) % 2 == 0 else [pytest.mark.wide])
        for index in range(len(AWKWARD))
        for turn, layout in enumerate(("NCHW", "NHWC"))
    ],
)
def test_awkward_chains(index: int, layout: str, target: str, ways, tally) -> None:
    problem = Problem(*AWKWARD[index])
    assert check(problem, index, ways, target=target, layout=layout)
    tally(f"awkward chains fused, {target}, {layout}")


BETWEEN_CHANGES = [
    (Conv.of(20, 33, 1, padding=1), (3, 20, 9, 7)),
    (Conv.of(24, 24, 3, padding=1, groups=6), (2, 24, 11, 9)),
    (Conv.of(18, 20, 3, padding=(2, 1), dilation=2), (2, 18, 12, 10)),
    (depthwise(20, 4, stride=2, padding=1, transposed=True), (3, 20, 7, 5)),
    (depthwise(17, 3, stride=3, padding=0), (2, 17, 14, 13)),
    (Conv.of(17, 16, 5, dims=1, padding=2), (2, 17, 90)),
    (Conv.of(16, 9, 2, dims=3), (2, 16, 4, 5, 6)),
    (Conv.of(16, 24, 1, stride=2, groups=2), (4, 16, 8, 9)),
]
"""Layers that no kernel computes between channels-first arrays."""


@pytest.mark.parametrize("ways", each_way(0, 3000, 20_000))
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("index", range(len(BETWEEN_CHANGES)))
def test_changes_of_layout_are_fused_with_their_layer(index: int, target: str, ways, tally) -> None:
    problem = Problem(*BETWEEN_CHANGES[index])
    assert check(problem, index, ways, target=target)
    tally(f"layers fused with changes of layout, {target}")


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_kinds(kind, target: str, part: int, tally) -> None:
    """Every second sample, each in the other layout than the one before."""
    for index, sample in list(enumerate(kind.samples))[part::2]:
        problem = Problem(kind.build(sample), sample.shape)
        if isinstance(problem.spec, Chain) and check(
            problem, index, target=target, layout=("NCHW", "NHWC")[index // 2 % 2]
        ):
            tally(f"samples of kinds fused, {target}")


@st.composite
def runs(draw) -> Problem:
    """Two to four convolutions of any geometry, so that most of them are linked."""
    dims = draw(st.sampled_from((1, 2, 2, 2, 3)))
    sizes = tuple(draw(st.integers(3, {1: 40, 2: 13, 3: 6}[dims])) for _ in range(dims))
    batch, channels = draw(st.sampled_from((1, 1, 2, 3))), draw(st.sampled_from((3, 8, 12, 17)))
    shape = (batch, channels, *sizes)
    steps: list[Conv | Activation] = []
    current = shape
    for _ in range(draw(st.integers(2, 4))):
        kernel = draw(st.integers(1, 4))
        transposed = draw(st.sampled_from((False, False, False, True)))
        dilation = draw(st.sampled_from((1, 1, 2)))
        most = dilation * (kernel - 1)
        padding = draw(st.integers(0, most)), draw(st.integers(0, most))
        groups = draw(st.sampled_from((1, current[1])))
        out = current[1] if groups > 1 else draw(st.sampled_from((5, 8, 16)))
        layer = Conv.of(
            current[1],
            out,
            kernel,
            dims=dims,
            stride=draw(st.sampled_from((1, 1, 2, 3))),
            dilation=dilation,
            padding=(padding,) * dims,
            groups=groups,
            transposed=transposed,
            flip=draw(st.booleans()),
        )
        try:
            following = layer.output_shape(current)
        except ShapeError:  # the kernel is larger than what is left
            continue
        if math.prod(following) > 20_000:
            continue
        steps += [layer, *([RELU] if draw(st.booleans()) else [])]
        current = following
    return Problem(Chain(tuple(steps) or (Conv.of(channels, 4, 1, dims=dims),)), shape)


@HALVES
@pytest.mark.parametrize("target", TARGETS)
def test_random_runs(target: str, half, tally) -> None:
    @settings(
        max_examples=RANDOM or 13,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
        print_blob=False,
    )
    @half
    @given(
        st.one_of(runs(), runs(), runs(), chains(names=("relu", "hard_swish"))),
        st.sampled_from((0, 600, 3000)),
        st.sampled_from((1, 2, 3)),
        st.sampled_from(("NCHW", "NHWC")),
        st.integers(0, 99),
    )
    def compare(problem: Problem, cache: int, threads: int, layout: str, seed: int) -> None:
        if check(problem, seed, ((cache, threads),), layout=layout, target=target):
            tally("random chains fused")

    compare()


@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str) -> None:
    model = MODELS[name]()
    inputs = draw_inputs(model)
    program = to_program(model, shapes={key: x.shape for key, x in inputs.items()})
    target = resolve_target("native", detect_host())
    results = [
        strictly(Executable(plan(program, target, Options(threads=threads, cache=cache)), threads=threads), inputs)
        for cache, threads in ((NEVER, 1), (0, 1), (0, 2))
    ]
    for other in results[1:]:
        for key, want in results[0].items():
            assert np.array_equal(other[key], want), key


# The geometry of bands


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_cuts_of_a_walk(transposed: bool, kernel: int, stride: int, dilation: int) -> None:
    """Every output of a cut has the taps and reads the inputs that it has in the whole."""

    def reads(walk: AxisWalk, output: int) -> list[tuple[int, int]]:
        q, phase = divmod(output, walk.out_step)
        taps = range(walk.taps[phase])
        pairs = [(q * walk.in_step + walk.first[phase] + t * walk.ostep, walk.k0[phase] + t * walk.kstep) for t in taps]
        return [(position, index) for position, index in pairs if 0 <= position < walk.size]

    for padding in ((0, 0), (1, 0), (kernel + 2, 4)):
        axis = Axis(kernel, stride=stride, dilation=dilation, padding=padding, transposed=transposed)
        if axis.infer_output(9) < 1:
            continue
        walk = AxisWalk.of(axis, 9)
        step = walk.phases
        for begin in range(0, walk.output, step):
            for end in range(begin + step, walk.output + 1):
                low, cut = walk.cut(begin, end)
                assert cut.output == end - begin == sum(cut.counts)
                assert low >= 0
                assert low + cut.size <= walk.size
                for output in range(end - begin):
                    got = [(low + position, index) for position, index in reads(cut, output)]
                    assert got == reads(walk, begin + output)


# The decision


def plan_chain(steps, shape, **options) -> Plan:
    spec = Chain(tuple(steps))
    weights = random_weights(spec, np.random.default_rng(0))
    return plan(program_of(spec, shape, weights), MACHINE, Options(layout="NHWC", exact=True, **options))


EXPANDED = (Conv.of(24, 144, 1), RELU, depthwise(144), RELU, Conv.of(144, 24, 1))


def test_values_that_overflow_the_cache_are_fused() -> None:
    found = plan_chain(EXPANDED, (1, 24, 56, 56))
    assert {call.step for call in found.calls} == {0, 1, 2}
    assert all("3 layers in turn" in call.how for call in found.calls)
    assert found.arena_bytes < 0.75 * MACHINE.cache_bytes + 4096
    assert found.groups == ()


def test_layers_that_wait_for_their_activation_are_not() -> None:
    silu = Activation.of("silu")
    found = plan_chain((EXPANDED[0], silu, EXPANDED[2], silu, EXPANDED[4]), (1, 24, 56, 56))
    assert words(found) == ["panel", "lane", "panel"]
    assert any("activation takes longer" in why for why in found.calls[0].why)


def test_values_that_fit_the_cache_are_not() -> None:
    found = plan_chain(EXPANDED, (1, 24, 28, 28))
    assert words(found) == ["panel", "lane", "panel"]
    assert any("fit the cache" in why for why in found.calls[0].why)
    assert not any("fusing" in why for why in found.calls[2].why)


def test_a_row_of_every_value_has_to_fit() -> None:
    found = plan_chain((Conv.of(8, 512, 1), depthwise(512), Conv.of(512, 8, 1)), (1, 8, 8, 1024))
    assert len(found.calls) == 3
    assert any("overflow the cache" in why for why in found.calls[0].why)


def test_equal_bands_share_their_kernels() -> None:
    found = plan_chain(EXPANDED, (1, 24, 112, 112))
    layers = [call for call in found.calls if isinstance(call.recipe, Lane | Panel)]
    assert len(layers) > 60
    assert len({repr(call.recipe) for call in layers}) <= 9, "first, inner and last bands of three layers"


def test_no_row_is_computed_twice_by_one_thread() -> None:
    found = plan_chain(EXPANDED, (2, 24, 56, 56))
    for step, rows in ((0, 56 * 56), (1, 56), (2, 56 * 56)):
        recipes = [c.recipe for c in found.calls if c.step == step and isinstance(c.recipe, Lane | Panel)]
        assert sum(recipe.axes[2 if flat(recipe) else 1].output for recipe in recipes) == 2 * rows


@pytest.mark.parametrize("index", range(len(AWKWARD)))
def test_rows_that_are_kept_move_without_overlap(index: int) -> None:
    """So that threads may share the copy, as they do in a profile."""
    spec, shape = AWKWARD[index]
    for cache in (0, 1500, 6000):
        for call in plan_chain(spec.steps, shape, cache=cache).calls:
            if call.what == "halo":
                x, y = call.args
                assert x.buffer == y.buffer
                assert x.offset - y.offset >= call.recipe.inner.size


def test_layers_as_quick_as_a_copy_copy_less() -> None:
    found = plan_chain((depthwise(64), depthwise(64)), (1, 64, 112, 112), cache=2**19)
    assert len(found.calls) == 2
    assert any("keep too many" in why for why in found.calls[0].why)
    without = plan_chain((depthwise(64, (3, 1)), depthwise(64, (1, 3))), (1, 64, 112, 112), cache=2**19)
    assert "halo" not in words(without)
    assert all(call.how for call in without.calls)


def test_threads_get_strips_of_their_own() -> None:
    found = plan_chain(EXPANDED, (1, 24, 56, 56), threads=2)
    (group,) = found.groups
    assert len(group.counts) >= 2
    assert sum(group.counts) == len(found.calls)
    strips, first = [], 0
    for count in group.counts:
        strips.append(found.calls[first : first + count])
        first += count
    arena = {i for i, buffer in enumerate(found.buffers) if buffer.kind == "arena"}
    places = [{ref for call in strip for ref in call.args if ref.buffer in arena} for strip in strips]
    assert not places[0] & places[1]
    check_arena(found)


def test_too_many_threads_for_the_rows() -> None:
    found = plan_chain(EXPANDED, (1, 24, 56, 56), threads=16)
    assert len(found.calls) == 3
    assert any("16 threads would" in why for why in found.calls[0].why)


def test_a_batch_is_divided_by_images() -> None:
    found = plan_chain(EXPANDED, (8, 24, 56, 56), threads=4)
    assert len(found.groups[0].counts) == 8
    assert all("strips" not in call.how for call in found.calls)


def test_the_largest_value_goes_inside() -> None:
    """Of overlapping candidates the one that saves most: the expansion stays with its depthwise layer."""
    steps = (
        Conv.of(3, 32, 3, stride=2, padding=1), depthwise(32), Conv.of(32, 16, 1),
        Conv.of(16, 96, 1), depthwise(96, stride=2, padding=1), Conv.of(96, 24, 1),
    )  # fmt: skip
    found = plan_chain(steps, (1, 3, 224, 224), cache=2**19)
    how = {call.step: call.how for call in found.calls}
    assert how[3] == how[4] == how[5] != ""


def test_values_that_others_read_stay_whole() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 16, 64, 64), 64, 16, 1)
    y = g.node("Relu", g.conv(x, 64, 64, 1))
    found = plan(
        to_program(g.model(g.node("Add", g.conv(y, 64, 64, 1), x))), MACHINE, Options(layout="NHWC", cache=2**18)
    )
    assert found.calls[0].how == ""
    assert any("used by 2 steps" in why for why in found.calls[0].why)
    assert {call.step for call in found.calls if call.how} == {1, 2}


def test_what_is_between() -> None:
    g = Graph()
    x = g.conv(g.input("x", 1, 16, 64, 64), 64, 16, 1)
    pooled = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    found = plan(to_program(g.model(g.conv(pooled, 64, 64, 1))), MACHINE, Options(layout="NHWC", cache=2**16))
    assert any("pool follows" in why for why in found.calls[0].why)


def plan_forward(spec: Conv, shape, **options) -> Plan:
    """A layer whose weights are packed at each call."""
    program = forward_program(spec, shape, bias=True)
    return plan(program, MACHINE, Options(row_major=frozenset({"w", "b"}), **options))


def test_changes_of_layout_are_made_band_by_band() -> None:
    found = plan_forward(Conv.of(128, 128, 1, groups=2), (2, 128, 56, 56))
    fused = [call for call in found.calls if call.what != "pack"]
    assert all("1 layer and 2 changes of layout in turn" in call.how for call in fused)
    assert words(found)[:2] == ["pack", "pack"], "weights are packed first"
    assert {call.what for call in fused} == {"copy", "panel"}
    assert found.arena_bytes < MACHINE.cache_bytes
    alone = plan_forward(Conv.of(128, 128, 1, groups=2), (2, 128, 56, 56), cache=NEVER)
    assert not any(call.how for call in alone.calls)
    assert alone.arena_bytes > 12 * found.arena_bytes


def test_whole_images_are_taken_where_bands_would_keep_too_much() -> None:
    grouped = Conv.of(128, 128, 3, padding=1, groups=32)
    found = plan_forward(grouped, (4, 128, 56, 56), cache=2**19)
    fused = [call for call in found.calls if call.what != "pack"]
    assert [call.what for call in fused] == ["copy", "lane", "copy"] * 4
    assert all("1 band of 56 rows" in call.how for call in fused)
    (group,) = plan_forward(grouped, (4, 128, 56, 56), cache=2**19, threads=2).groups
    assert group.counts == (3, 3, 3, 3)


def test_changes_of_layout_are_made_at_once_for_few_images_that_threads_do_not_share_evenly() -> None:
    layer = Conv.of(128, 128, 1, groups=2)
    for images, threads, fused in (
        (1, 1, True),
        (1, 2, True),
        (2, 2, True),
        (3, 2, False),
        (6, 4, False),
        (9, 2, True),
    ):
        found = plan_forward(layer, (images, 128, 56, 56), threads=threads)
        assert any(call.how for call in found.calls) == fused, (images, threads)


def test_layers_that_need_no_change_of_layout_say_nothing_of_it() -> None:
    assert not any(call.how for call in plan_forward(Conv.of(128, 128, 1), (2, 128, 56, 56), layout="NHWC").calls)
    assert words(plan_forward(depthwise(128), (2, 128, 56, 56)))[-1] == "series"
    assert words(plan_forward(Conv.of(128, 128, 1), (2, 128, 56, 56))) == ["planes"]


@pytest.mark.parametrize("threads", [1, 2])
def test_explain_and_profile_know_the_layers(threads: int) -> None:
    spec = Chain(EXPANDED)
    weights = random_weights(spec, np.random.default_rng(0))
    f = oc.compile(spec, (1, 24, 56, 56), weights, layout="NHWC", target="x86-64-v3", threads=threads)
    x = np.ones((1, 56, 56, 24), np.float32)
    profile = f.profile(x, 3)
    kinds_found = [step.kind for step in profile]
    assert kinds_found == ["pointwise", "depthwise", "pointwise", "halo"]
    assert sum(step.macs for step in profile) == 56 * 56 * 144 * (24 + 9 + 24)
    assert all(step.seconds > 0 for step in profile)
    assert sum(step.share for step in profile) == pytest.approx(1)
    text = f.explain()
    assert text.count("fused: 3 layers in turn") == 4
    assert text.count("pointwise n1") == 2
    assert np.array_equal(f(x), f(x))


def test_chains_of_one_layer_say_nothing() -> None:
    assert "fusing" not in plan_chain((Conv.of(8, 8, 3),), (1, 8, 300, 300)).calls[0].why
