"""Machine code against the reference: random specs, both layouts, any number of threads, Winograd filtering."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.machines import MACHINES, V2, V3, V4
from tests.registry.compiled import TARGETS, run_compiled
from tests.registry.filtered import filtered_bound, filtered_magnitude, forms_of, whole_of
from tests.registry.properties import DOUBLE, PROPERTIES, SINGLE, Case, Engine
from tests.strategies import HALVES, Problem, problems

from omniconv.compiler.planning.plan import plan
from omniconv.kinds import kinds
from omniconv.program.from_spec import program_of
from omniconv.reference import error_bound, random_weights, reference
from omniconv.reference.bounds import gamma
from omniconv.spec import Activation, Chain, Conv, Shuffle, parse
from omniconv.target.select import select_target

RANDOM = int(os.environ.get("OMNICONV_RANDOM", "0"))
"""Specs of each random test; 0 for the few of a default run."""

COMPILED = Engine("compiled", run_compiled, SINGLE)
SAMPLES = [(kind, index) for kind in kinds().values() for index in range(len(kind.samples))]


def check(problem, seed, *, integer, **options):
    """One spec on one set of numbers: equal where sums are exact, within the bound elsewhere."""
    x, weights = problem.draw(seed, integer=integer)
    case = Case(problem.spec, problem.shape, COMPILED)
    tolerance = case.tolerance(problem.spec, x, weights) if integer else error_bound(problem.spec, x, weights)
    expected = reference(problem.spec, x, weights)
    got = run_compiled(problem.spec, x, weights, **options)
    agree(got.astype(np.float64), expected, tolerance, f"{problem} {options} integer={integer} seed={seed}")


def agree(got, expected, tolerance, what):
    assert got.shape == expected.shape, f"produced shape {got.shape} for {expected.shape} | {what}"
    off = np.abs(got - expected)
    bad = ~(off <= tolerance)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        limit = np.broadcast_to(tolerance, off.shape)[at]
        raise AssertionError(
            f"{bad.sum()} of {bad.size} outputs differ, first at {at}: {got[at]!r} for {expected[at]!r}, "
            f"tolerance {limit:.3g} | {what}"
        )


FOUND = [
    # A strided transposed axis with one output has one phase, with some of the kernel's taps.
    "depthwise_transposed n1 ic4 oc4 ih3 iw1 kh6 kw7 sh2 sw2 dh1 dw1 pt1 pb5 pl6 pr0 g4",
]
"""Problems that were once wrong."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("line", FOUND)
def test_found(line, target):
    spec, shape = parse(line)
    for integer, layout in ((True, "NCHW"), (False, "NHWC")):
        check(Problem(spec, shape), 1, integer=integer, target=target, layout=layout)


@HALVES
@pytest.mark.parametrize(("target", "usual"), [(t, 80 if t == "native" else 40) for t in TARGETS])
def test_random_specs(target, usual, half, tally):
    """Any spec; OMNICONV_RANDOM=5000 runs five thousand of them for the native target, a tenth for each other."""
    count = usual // 2 if not RANDOM else RANDOM if target == "native" else max(RANDOM // 10, 1)

    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
        print_blob=False,
    )
    @half
    @given(problems(), st.booleans(), st.sampled_from(("NCHW", "NHWC")), st.sampled_from((1, 2, 3)), st.integers(0, 99))
    def run(problem, integer, layout, threads, seed):
        check(problem, seed, integer=integer, target=target, layout=layout, threads=threads)

    run()
    tally(f"random specs, {target}", count)


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_channels_last(kind, target, part, tally):
    for sample in kind.samples[part::2]:
        problem = Problem(kind.build(sample), sample.shape)
        check(problem, 3, integer=True, layout="NHWC", target=target)
        tally(f"sample in NHWC, {target}")


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_results_do_not_depend_on_threads(kind, part, tally):
    """The same bits, on numbers whose sums round; every second sample."""
    for sample in kind.samples[part::2]:
        problem = Problem(kind.build(sample), sample.shape)
        x, weights = problem.draw(5, integer=False)
        one, *others = (run_compiled(problem.spec, x, weights, threads=t, exact=False) for t in (1, 2, 3, 4))
        for other in others:
            assert np.array_equal(one.view(np.uint32), other.view(np.uint32)), problem
        assert (np.abs(one - reference(problem.spec, x, weights)) <= error_bound(problem.spec, x, weights)).all(), (
            problem
        )
        tally("sample, same bits on 1 to 4 threads")


# Winograd filtering


WINOGRAD = [
    Engine(
        f"winograd-{target}",
        lambda spec, x, weights, target=target: run_compiled(spec, x, weights, target=target, exact=False),
        SINGLE,
        direct=False,
        bound=filtered_bound,
    )
    for target in TARGETS
]

FILTERED = [
    (Conv.of(16, 16, 3, padding=1), (1, 16, 20, 20)),
    (Conv.of(17, 33, 3, padding=1), (2, 17, 9, 14)),
    (Conv.of(32, 24, 3), (1, 32, 12, 7)),
    (Conv.of(40, 24, 3, padding=2, dilation=2), (1, 40, 17, 15)),
    (Conv.of(16, 31, 3, padding=((2, 0), (0, 3)), flip=True), (1, 16, 15, 13)),
    (Conv.of(24, 16, 3, padding=1, padding_mode="reflect"), (3, 24, 8, 9)),
    (Conv.of(18, 20, 3, padding=1, transposed=True), (1, 18, 12, 9)),
    (Conv.of(24, 24, 3, padding=((4, 0), (1, 3)), dilation=2, transposed=True, flip=True), (1, 24, 21, 19)),
    (Conv.of(96, 64, 3, padding=1, groups=2), (1, 96, 14, 14)),
    (Conv.of(60, 51, 3, padding=1, groups=3), (2, 60, 9, 11)),
    (Conv.of(34, 50, 3, padding=1, groups=2, transposed=True), (1, 34, 13, 8)),
    (Conv.of(60, 55, 3, padding=1, groups=5), (1, 60, 20, 20)),
]


def is_filtered(spec, shape, machine):
    """Whether a layer is filtered on a machine, which need not be this one."""
    found = plan(program_of(spec, shape, random_weights(spec, np.random.default_rng(0))), machine)
    return any(call.what == "winograd_input" for call in found.calls)


def runs_filtered(spec, shape, target):
    """Whether it is on this machine: no expectation, a count."""
    return is_filtered(spec, shape, select_target(target))


@pytest.mark.parametrize("engine", WINOGRAD, ids=[engine.name for engine in WINOGRAD])
@pytest.mark.parametrize("prop", [p for p in PROPERTIES.values() if p.computes], ids=lambda p: p.name)
@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.wide)])
def test_filtered(prop, engine, part, tally):
    for spec, shape in FILTERED[part::2]:
        case = Case(spec, shape, engine)
        if prop.applies(case):
            prop(case)
            tally(f"sample x property, {engine.name}")


@pytest.mark.parametrize("machine", [V2, V3, V4, MACHINES["zen3"], MACHINES["zen4"]], ids=str)
def test_filtered_layers_are_filtered(machine):
    assert [spec.text(shape) for spec, shape in FILTERED if not is_filtered(spec, shape, machine)] == []


OTHERWISE = [
    *(Conv.of(channels, 32, 3, padding=1) for channels in (8, 11, 15)),
    *(
        Chain((Conv.of(32, 48, 1, groups=4), Shuffle(4), Conv.of(48, 48, 3, padding=1, groups=groups)))
        for groups in (1, 2, 3, 4)
    ),
]
"""Layers whose input is stored otherwise: channels first and few, or a shuffle that is a view."""


def shape_of(spec):
    first = spec if isinstance(spec, Conv) else spec.steps[0]
    return (2, first.in_channels, 24, 23)


@pytest.mark.parametrize(
    ("machine", "filtered"),
    [(V2, 7), (V3, 7), (V4, 4), (MACHINES["zen3"], 7), (MACHINES["zen4"], 4), (MACHINES["skylake-server"], 4)],
    ids=str,
)
def test_layers_with_an_input_stored_otherwise_are_filtered(machine, filtered):
    assert sum(is_filtered(spec, shape_of(spec), machine) for spec in OTHERWISE) == filtered


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["NCHW", pytest.param("NHWC", marks=pytest.mark.wide)])
def test_filtered_layers_read_neighbours_in_order(layout, target):
    for spec in OTHERWISE:
        shape = shape_of(spec)
        rng = np.random.default_rng(0)
        x, weights = rng.standard_normal(shape).astype(np.float32), random_weights(spec, rng)
        got, direct = (
            run_compiled(spec, x, weights, target=target, layout=layout, exact=exact) for exact in (False, True)
        )
        assert np.allclose(got, direct, atol=1e-4), spec.text(shape)


@st.composite
def filtered_problems(draw):
    """3x3 layers of stride 1 with enough channels."""
    sizes = draw(st.tuples(st.integers(3, 26), st.integers(3, 26)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = [draw(st.tuples(st.integers(0, 4), st.integers(0, 4))) for _ in sizes]
    padding = [
        (before, max(after, 2 * d + 1 - size - before))
        for (before, after), d, size in zip(padding, dilation, sizes, strict=True)
    ]
    channels = st.sampled_from((8, 10, 13, 15, 16, 17, 20, 31, 32, 48))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    transposed = draw(st.booleans())
    if transposed:  # padding crops the output, but not all of it
        padding = [(min(b, 2 * d), min(a, 2 * d)) for (b, a), d in zip(padding, dilation, strict=True)]
        sizes = tuple(size + 2 * d for size, d in zip(sizes, dilation, strict=True))
    spec = Conv.of(
        groups * draw(channels),
        groups * draw(channels),
        3,
        groups=groups,
        dilation=dilation,
        padding=padding,
        flip=draw(st.booleans()),
        transposed=transposed,
    )
    return Problem(spec, (draw(st.integers(1, 2)), spec.in_channels, *sizes))


@HALVES
@pytest.mark.parametrize("target", TARGETS)
def test_random_filtered(target, half, tally):
    """Within the written bound, and exact where every intermediate value has at most 24 bits."""
    seen = {"filtered": 0, "exact": 0, "bias": 0, "all": 0}

    @settings(
        max_examples=max(RANDOM // 20, 6),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
    )
    @half
    @given(filtered_problems(), st.integers(0, 99), st.sampled_from((1, 2)), st.sampled_from(("NCHW", "NHWC")))
    def run(problem, seed, threads, layout):
        spec, options = problem.spec, {"target": target, "threads": threads, "layout": layout, "exact": False}
        x, weights = problem.draw(seed, integer=False)
        got = run_compiled(spec, x, weights, **options)
        agree(got, reference(spec, x, weights), filtered_bound(spec, x, weights), f"{problem} {options}")
        if not runs_filtered(spec, problem.shape, target):
            return
        seen["filtered"] += 1
        # 900 = 30^2 makes G g G^T whole but for powers of two; few and small numbers keep sums small.
        rng = np.random.default_rng(seed)
        x = (rng.integers(-1, 2, problem.shape) * (rng.random(problem.shape) < 0.08)).astype(np.float32)
        w = (900 * rng.integers(-1, 2, spec.weight_shape) * (rng.random(spec.weight_shape) < 0.1)).astype(np.float32)
        b = rng.integers(-4, 5, spec.out_channels).astype(np.float32)
        forms = forms_of(spec, x.shape)
        magnitudes = [filtered_magnitude(spec, x, w, b, form) for form in forms]
        magnitude = np.max(magnitudes, axis=0)
        small = np.all([each <= whole_of(form) for form, each in zip(forms, magnitudes, strict=True)], axis=0)
        got = run_compiled(spec, x, (w, b), **options)
        # The weights are transformed in float64, where 1/6 is not exact: what should be 0 may be 1e-15.
        tolerance = np.where(small, gamma(8, DOUBLE) * magnitude, filtered_bound(spec, x, (w, b)))
        agree(got, reference(spec, x, (w, b)), tolerance, f"{problem} {options} exact")
        seen["exact"] += int(small.sum())
        seen["bias"] += int((small & (got == b[:, None, None])).sum())
        seen["all"] += small.size

    run()
    assert seen["filtered"]
    assert seen["exact"] > 0.5 * seen["all"], seen
    assert seen["exact"] > seen["bias"], seen
    tally(f"random Winograd layers, {target}", seen["filtered"])


@st.composite
def filtered_chains(draw):
    """Layers, some of them 3x3 with enough channels, between shuffles and activations."""
    channels = first = draw(st.sampled_from((8, 12, 16, 24, 40)))
    steps = []
    for _ in range(draw(st.integers(2, 4))):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 5) if channels % g == 0]))
        outputs = groups * draw(st.sampled_from((8, 9, 12, 16)))
        step = draw(
            st.sampled_from(
                [
                    Conv.of(channels, outputs, 3, padding=1, groups=groups),
                    Conv.of(channels, outputs, 3, padding=1, groups=groups, transposed=True),
                    Conv.of(channels, outputs, 1, groups=groups),
                    Conv.of(channels, channels, 3, padding=2, dilation=2, groups=channels),
                    Shuffle(groups),
                    Activation("relu"),
                ]
            )
        )
        channels = step.out_channels if isinstance(step, Conv) else channels
        steps.append(step)
    steps.append(Conv.of(channels, 16, 3, padding=1))
    return Problem(Chain(tuple(steps)), (draw(st.integers(1, 2)), first, *draw(st.tuples(*[st.integers(4, 28)] * 2))))


@HALVES
@pytest.mark.parametrize("target", TARGETS)
def test_random_chains_with_filtered_layers(target, half, tally):
    """What is stored in whatever order between layers, filtering makes no difference beyond rounding."""
    filtered = 0

    @settings(
        max_examples=max(RANDOM // 20, 6),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not RANDOM,
    )
    @half
    @given(filtered_chains(), st.integers(0, 99), st.sampled_from((1, 2, 3)), st.sampled_from(("NCHW", "NHWC")))
    def run(problem, seed, threads, layout):
        nonlocal filtered
        x, weights = problem.draw(seed, integer=False)
        options = {"target": target, "threads": threads, "layout": layout}
        got, direct = (run_compiled(problem.spec, x, weights, exact=exact, **options) for exact in (False, True))
        assert np.abs(got - direct).max() <= 1e-4 * max(np.abs(direct).max(), 1e-3), f"{problem} {options}"
        filtered += runs_filtered(problem.spec, problem.shape, target)

    run()
    assert filtered
    tally(f"random chains with filtered layers, {target}", filtered)
