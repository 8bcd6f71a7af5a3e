"""Every form of filtering: its matrices in exact arithmetic, its results beside its bound, and what it says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.machines import V3
from tests.registry.filtered import filtered_magnitude, form_bound, forms_of, scale_of, whole_of

import omniconv as oc
from omniconv.compiler.kernels.winograd.forms import list_forms, reject_forms
from omniconv.compiler.kernels.winograd.matrices import POINTS, construct_filtering, find_filtering
from omniconv.compiler.kernels.winograd.slabs import list_slabs
from omniconv.compiler.planning.choice import choose
from omniconv.compiler.planning.options import Options
from omniconv.compiler.problem.problem import ACCURACIES, Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.errors import OmniconvError, SpecError
from omniconv.gradients import compile_forward
from omniconv.program.from_spec import program_of
from omniconv.reference import random_weights, reference
from omniconv.reference.bounds import gamma
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv
from omniconv.target.select import select_target

# Matrices

points = st.fractions(min_value=-4, max_value=4, max_denominator=4)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_filtering_is_a_plain_sum_for_any_points(data, m, r):
    taken = tuple(data.draw(st.lists(points, min_size=m + r - 2, max_size=m + r - 2, unique=True)))
    x, w = (data.draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n)) for n in (m + r - 1, r))
    matrix, factors, powers, result = construct_filtering(m, r, taken)
    spread = [sum(c * v for c, v in zip(row, x, strict=True)) for row in matrix]
    kernel = [f * sum(c * v for c, v in zip(row, w, strict=True)) for f, row in zip(factors, powers, strict=True)]
    products = [a * b for a, b in zip(spread, kernel, strict=True)]
    got = [sum(c * v for c, v in zip(row, products, strict=True)) for row in result]
    assert got == [Fraction(sum(x[i + j] * w[j] for j in range(r))) for i in range(m)]


def test_growth_is_what_random_numbers_show():
    rng = np.random.default_rng(0)
    for n in POINTS:
        for r in range(2, n):
            found = find_filtering(n - r + 1, r)
            x, w = rng.standard_normal((20000, n)), rng.standard_normal((20000, r))
            terms = np.asarray(found.data)[:, :, None] * x.T, found.kernel[:, :, None] * w.T
            # The terms of a sum of independent numbers, as if each were one: roundings grow as their root mean square.
            sizes = [np.abs(each.sum(axis=1)) for each in terms]
            drawn = (
                np.square(np.asarray(found.result)[:, :, None] * (sizes[0] * sizes[1])).sum(axis=1).mean(axis=1).max()
            )
            assert np.isclose(np.sqrt(drawn / r), found.growth, rtol=0.1), (n, r)


# Forms

LAYERS = [
    (Conv.of(9, 12, 5, padding=2), (1, 9, 11, 10)),
    (Conv.of(8, 17, 4, padding=((1, 2), (0, 3)), flip=True), (2, 8, 9, 10)),
    (Conv.of(16, 16, 2, dilation=2), (1, 16, 13, 9)),
    (Conv.of(16, 24, (3, 5), padding=((1, 1), (2, 2)), groups=2), (1, 16, 9, 11)),
    (Conv.of(12, 9, (1, 3), padding=((0, 1), (1, 1))), (1, 12, 3, 29)),
    (Conv.of(9, 16, (7, 1), padding=((3, 3), (0, 0))), (2, 9, 17, 3)),
    (Conv.of(16, 16, 5, padding=4, dilation=2, dims=1, transposed=True), (1, 16, 43)),
    (Conv.of(17, 8, 2, padding=((8, 0),), dilation=8, dims=1), (1, 17, 61)),
    (Conv.of(9, 10, 3, padding=1, dims=3), (1, 9, 5, 9, 8)),
    (
        Conv.of(16, 16, (3, 3, 1), padding=((2, 2), (1, 1), (0, 0)), dilation=(2, 1, 1), groups=2, dims=3),
        (2, 16, 5, 7, 4),
    ),
    (Conv.of(8, 8, (1, 3, 3), padding=((0, 0), (1, 1), (1, 1)), dims=3), (1, 8, 3, 7, 9)),
    (Conv.of(8, 9, (3, 1, 1), padding=((1, 1), (0, 0), (0, 0)), dims=3), (1, 8, 13, 3, 4)),
    (Conv.of(9, 16, 3, padding=1, stride=2), (1, 9, 15, 18)),
    (Conv.of(16, 18, (4, 5), padding=2, stride=2, groups=2), (1, 16, 17, 16)),
    (Conv.of(8, 8, 7, padding=3), (1, 8, 13, 12)),
    (Conv.of(12, 8, 9, padding=4, stride=3, dims=1, flip=True), (1, 12, 61)),
    (Conv.of(9, 3, 4, padding=1, stride=2, transposed=True), (1, 9, 9, 8)),
    (Conv.of(16, 16, (3, 4), padding=1, stride=2, groups=2, transposed=True), (2, 16, 7, 11)),
    (Conv.of(9, 8, 5, padding=2, stride=2, output_padding=1, transposed=True, flip=True), (1, 9, 7, 8)),
    (Conv.of(8, 16, 7, padding=2, stride=3, dims=1, transposed=True), (1, 8, 37)),
    (Conv.of(9, 12, 4, padding=1, stride=2, transposed=True), (1, 9, 7, 6)),
    (Conv.of(8, 1, 3, padding=1), (2, 8, 7, 9)),
]
NAMES = [spec.text(shape) for spec, shape in LAYERS]


def compile_forms(spec, shape, weights, *, only=None, threads=1, target="native"):
    """Every form of a layer, or the one with a name, in the slabs that are expected to be fastest."""
    machine = select_target(target)
    problem = Problem.of(spec.resolve(shape), shape)
    best = {}
    for each in list_slabs(problem, machine):
        best[each.tile.name] = min(best.get(each.tile.name, each), each, key=lambda item: item.cost)
    for name, each in best.items():
        if only not in (None, name):
            continue
        seen = problem, replace(problem, columns=True)  # as the layers of few outputs among them are seen
        tuning = Tuning(machine, {item.text(): each.tile.text() for item in seen})
        f = Executable.of(program_of(spec, shape, [weights]), machine, Options(threads=threads, tuning=tuning))
        yield each.tile, f


def is_spread(f):
    return any(call.what == "winograd_input" for call in f.plan.calls)


def some(first, step):
    """Layers of which every so many is tested each time, the others in a wide run."""
    return [
        pytest.param(*layer, id=name, marks=[] if at % step == first else pytest.mark.wide)
        for at, (layer, name) in enumerate(zip(LAYERS, NAMES, strict=True))
    ]


@pytest.mark.parametrize(("spec", "shape"), some(0, 8))
def test_every_form_keeps_its_bound(spec, shape, tally):
    rng = np.random.default_rng(0)
    x, (w, b) = rng.standard_normal(shape, np.float32), random_weights(spec, rng)[0]
    want, seen = reference(spec, x, (w, b)), 0
    for form, f in compile_forms(spec, shape, (w, b)):
        if not is_spread(f):  # with so few channels a machine of wide vectors may not filter at all
            continue
        seen += 1
        assert (np.abs(f(x) - want) <= form_bound(spec, x, [(w, b)], form)).all(), form.text()
        tally("form of filtering")
    assert seen in (0, len({form.name for form in forms_of(spec, shape)}))


@pytest.mark.parametrize(("spec", "shape"), some(12, 20))
def test_every_form_is_exact_where_numbers_are_whole(spec, shape):
    rng = np.random.default_rng(1)
    x = rng.integers(-1, 2, shape).astype(np.float32)
    signs = rng.integers(-1, 2, spec.weight_shape) * (rng.random(spec.weight_shape) < 0.1)
    for form in {form.name: form for form in forms_of(spec, shape)}.values():
        weights = (scale_of(form) * signs).astype(np.float32), np.zeros(spec.out_channels, np.float32)
        magnitude = filtered_magnitude(spec, x, *weights, form)
        small = magnitude <= whole_of(form)
        for _, f in compile_forms(spec, shape, weights, only=form.name):
            if is_spread(f):
                # Weights are transformed in float64, where 1/6 is not exact: what should be 0 may be 1e-15.
                off = np.abs(f(x) - reference(spec, x, weights))
                assert (off <= gamma(8, 2.0**-53) * magnitude)[small].all(), form.name


@pytest.mark.wide
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "native"])
@pytest.mark.parametrize(("spec", "shape"), LAYERS, ids=NAMES)
def test_threads_change_no_bit_of_any_form(spec, shape, target):
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal(shape, np.float32), random_weights(spec, rng)[0]
    several = {t: [f(x) for _, f in compile_forms(spec, shape, weights, threads=t, target=target)] for t in (1, 2, 3)}
    for t in (2, 3):
        for one, other in zip(several[1], several[t], strict=True):
            np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


def draw_layer(rng):
    """A layer that can be filtered, and the shape of its input: small, at odds with its blocks, at times one pixel."""
    while True:
        dims = int(rng.choice([1, 2, 2, 3]))
        kernel = rng.integers(1, 8 if dims < 3 else 4, dims).tolist()
        stride = int(rng.choice([1, 1, 1, 2, 3]))
        groups = int(rng.integers(1, 3))
        channels = [groups * int(rng.integers(8, 20)) for _ in range(2)]
        options = {"transposed": bool(rng.random() < 0.35), "flip": bool(rng.random() < 0.4)}
        options["dilation"] = int(rng.integers(1, 4)) if stride == 1 else 1
        padding = tuple((int(rng.integers(0, k + 1)), int(rng.integers(0, k + 1))) for k in kernel)
        strides = tuple([1] * (dims - 2) + [stride] * min(dims, 2))
        shape = (int(rng.integers(1, 4)), channels[0], *rng.integers(1, 26 if dims < 3 else 11, dims).tolist())
        try:
            spec = Conv.of(
                *channels, tuple(kernel), padding=padding, stride=strides, groups=groups, dims=dims, **options
            )
            spec = spec.resolve(shape)
            spec.output_shape(shape)
            found = reject_forms(Problem.of(spec, shape)) is None
        except OmniconvError:
            continue
        if found and forms_of(spec, shape):
            return spec, shape


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(8))
def test_random_layers_keep_their_bound(seed):
    rng = np.random.default_rng(seed)
    for _ in range(12):
        spec, shape = draw_layer(rng)
        x, weights = rng.standard_normal(shape, np.float32), random_weights(spec, rng)[0]
        want, name = reference(spec, x, weights), rng.choice(sorted({form.name for form in forms_of(spec, shape)}))
        several = [
            (form, f(x))
            for threads in (1, 3)
            for form, f in compile_forms(spec, shape, weights, only=name, threads=threads, target="x86-64-v2")
            if is_spread(f)
        ]
        for form, got in several:
            assert (np.abs(got - want) <= form_bound(spec, x, [weights], form)).all(), (spec, shape, form.text())
            np.testing.assert_array_equal(got.view(np.uint32), several[0][1].view(np.uint32))


# What is said, and what is not filtered


@pytest.mark.parametrize("value", [np.float32(3.2e38), np.float32(np.inf), np.float32(np.nan)])
def test_weights_that_would_overflow_are_summed_directly(value):
    """By the points 0, 1, -1, 2 and infinity three taps are added up to 3/2 of the largest along each axis."""
    spec, shape = Conv.of(32, 16, 3, padding=1), (1, 32, 9, 9)
    rng = np.random.default_rng(0)
    x = (2.0**-20 * rng.standard_normal(shape)).astype(np.float32)
    w, b = random_weights(spec, rng)[0]
    usual = oc.compile(spec, shape, [(w, b)], target="x86-64-v3")
    assert "winograd m=3 slab=" in usual.explain()
    said = "winograd F(3x3, 3x3): 5x5 points, 0, 1, -1, 2 and infinity; multiplies 3.24 times less often"
    assert said in usual.explain()
    w = w.copy()
    w[3, 5, 1, 1] = value
    f = oc.compile(spec, shape, [(w, b)], target="x86-64-v3")
    assert "rejected winograd: the weights are so large that transformed ones may exceed float32" in f.explain()
    with np.errstate(all="ignore"):
        got, want = f(x), reference(spec, x, [(w, b)])
    others = np.arange(16) != 3
    np.testing.assert_allclose(got[:, others], want[:, others], rtol=1e-4, atol=1e-5)
    assert np.array_equal(np.isfinite(got[:, 3]), np.isfinite(want[:, 3].astype(np.float32)))


@pytest.mark.parametrize(
    ("spec", "shape", "name"),
    [
        (Conv.of(64, 64, 5, padding=2), (1, 64, 28, 28), "winograd m=2 slab="),
        (Conv.of(64, 64, 4, padding=1), (1, 64, 28, 28), "winograd m=3 slab="),
        (Conv.of(64, 64, (3, 1), padding=((1, 1), (0, 0))), (1, 64, 64, 64), "winograd m=6x1 slab="),
        (Conv.of(192, 192, (1, 7), padding=((0, 0), (3, 3))), (1, 192, 17, 17), "winograd m=1x5 taps=4 slab="),
        (Conv.of(96, 96, 3, padding=8, dilation=8, dims=1), (1, 96, 6000), "winograd m=1x6 slab="),
        (Conv.of(48, 64, 3, padding=1, dims=3), (1, 48, 12, 24, 24), "winograd m=4 planes="),
        (Conv.of(64, 128, 4, padding=1, stride=2), (1, 64, 64, 64), "winograd m=4 slab="),
        (Conv.of(128, 64, 4, padding=1, stride=2, transposed=True), (1, 128, 32, 32), "winograd m=4 taps=3x3 slab="),
        (Conv.of(64, 3, 4, padding=1, stride=2, transposed=True), (1, 64, 32, 32), "winograd m=5 taps=2x2 slab="),
        (Conv.of(64, 5, 3, padding=1), (1, 64, 64, 64), "winograd m=4 slab="),
        (Conv.of(64, 1, 3, padding=1), (1, 64, 128, 128), None),
        (Conv.of(12, 1, 5, padding=2), (1, 12, 64, 64), None),
        (Conv.of(64, 64, 3, padding=1, stride=3), (1, 64, 57, 57), None),
        (Conv.of(128, 256, 3, padding=1, stride=2), (1, 128, 14, 14), None),
    ],
)
def test_forms_that_measure_fastest_are_chosen(spec, shape, name):
    choice = choose(Problem.of(spec.resolve(shape), shape), V3)
    assert (choice.family.name == "winograd") == (name is not None)
    assert name is None or choice.tile.text().startswith(name)


@pytest.mark.parametrize(
    ("layer", "accuracy", "names"),
    [
        (Conv.of(64, 64, 3, padding=1), "close", {"F(2x2, 3x3)"}),
        (Conv.of(64, 64, 3, padding=1), "usual", {"F(2x2, 3x3)", "F(3x3, 3x3)", "F(4x4, 3x3)"}),
        (Conv.of(64, 64, 3, padding=1), "wide", {"F(2x2, 3x3)", "F(3x3, 3x3)", "F(4x4, 3x3)", "F(6x6, 3x3)"}),
        (Conv.of(64, 64, 5, padding=2), "close", set()),
        (Conv.of(64, 64, 5, padding=2), "usual", {"F(2x2, 5x5)"}),
        (Conv.of(64, 64, 5, padding=2), "wide", {"F(2x2, 5x5)", "F(4x4, 5x5)"}),
        (Conv.of(64, 64, (1, 5), padding=((0, 0), (2, 2))), "usual", {"F(2, 5)", "F(4, 5)"}),
    ],
)
def test_accuracy_decides_which_forms_there_are(layer, accuracy, names):
    problem = replace(Problem.of(layer, (1, 64, 48, 48)), accuracy=accuracy)
    assert {form.name.removeprefix("winograd ") for form in list_forms(problem)} == names


@pytest.mark.parametrize(("kernel", "accuracy"), [(3, "close"), (5, "close"), (5, "wide")])
def test_a_layer_has_the_accuracy_that_is_asked_for_and_says_so(kernel, accuracy):
    layer, shape = Conv.of(64, 64, kernel, padding=kernel // 2), (1, 64, 24, 24)
    choice = choose(replace(Problem.of(layer, shape), accuracy=accuracy), V3)
    weights = random_weights(layer, np.random.default_rng(0))
    told = oc.compile(layer, shape, weights, accuracy=accuracy, target="x86-64-v3").explain()
    if choice.family.name == "winograd":
        assert choice.tile.text() in told
    else:
        assert "rejected winograd: no form of the kernel has the accuracy 'close'" in told


def test_an_unknown_accuracy_is_refused():
    spec = Conv.of(8, 8, 3)
    with pytest.raises(SpecError, match="accuracy='exact' is unknown; need one of close, usual, wide"):
        oc.compile(spec, (1, 8, 9, 9), random_weights(spec, np.random.default_rng(0)), accuracy="exact")


def test_wide_forms_keep_their_bound_and_close_ones_that_of_few_roundings():
    spec, shape = Conv.of(16, 16, 3, padding=1), (1, 16, 14, 15)
    rng = np.random.default_rng(0)
    x, (w, b) = rng.standard_normal(shape, np.float32), random_weights(spec, rng)[0]
    want, machine = reference(spec, x, (w, b)), select_target("native")
    for accuracy in ACCURACIES:
        problem = replace(Problem.of(spec, shape), accuracy=accuracy)
        forms = list(list_forms(problem))
        assert all((form.growth <= 2) == (accuracy == "close" or form.axes[2].m == 2) for form in forms)
        form = max(forms, key=lambda each: each.growth)
        tile = next(each.tile for each in list_slabs(problem, machine) if each.tile.name == form.name)
        tuning = Tuning(machine, {problem.text(): tile.text()})
        options = Options(accuracy=accuracy, tuning=tuning)
        f = Executable.of(program_of(spec, shape, [(w, b)]), machine, options)
        assert is_spread(f)
        assert (np.abs(f(x) - want) <= form_bound(spec, x, [(w, b)], form)).all(), form.name


def test_a_layer_that_reads_nothing_but_padding_is_not_filtered():
    """Its direct sum costs nothing."""
    spec, shape = Conv.of(16, 16, 2, padding=1, dilation=2, dims=1), (1, 16, 1)
    (w, b) = random_weights(spec, np.random.default_rng(0))[0]
    f = oc.compile(spec, shape, [(w, b)], target="x86-64-v2")
    assert "rejected winograd: no tap of the kernel lands in the input" in f.explain()
    np.testing.assert_array_equal(f(np.ones(shape, np.float32)), b.reshape(1, 16, 1))
    assert "winograd: no tap of the kernel" in compile_forward(spec, shape).explain()


SPREAD = [
    Conv.of(8, 8, 7, padding=3, dims=1),
    Conv.of(8, 8, 8, padding=((3, 4),), dims=1),
    Conv.of(8, 8, 3, padding=1, stride=2, dims=1),
    Conv.of(8, 8, 5, padding=2, stride=2, dims=1, transposed=True),
    Conv.of(8, 8, 3, padding=2, dilation=2, dims=1),
]


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, marks=[pytest.mark.wide] if at else []) for at, spec in enumerate(SPREAD)]
)
def test_what_is_not_finite_goes_no_further_than_it_is_said_to(spec):
    shape = (1, 8, 48)
    rng, seen = np.random.default_rng(0), 0
    weights = random_weights(spec, rng)[0]
    x = rng.standard_normal(shape, np.float32)
    for form, f in compile_forms(spec, shape, weights, target="x86-64-v2"):
        if not is_spread(f):
            continue
        seen += 1
        axis = form.axes[2]
        lacking = axis.parts * axis.r - axis.kernel if axis.phases == 1 else 0
        most = (axis.m - 1) * axis.apart + lacking
        for at in range(8, 40):
            spoilt = x.copy()
            spoilt[0, 3, at] = np.nan
            got, want = (np.isnan(y[0]).any(0) for y in (f(spoilt), reference(spec, spoilt, weights)))
            assert got[want].all()
            reached, windows = np.flatnonzero(got), np.flatnonzero(want)
            assert reached.min() >= windows.min() - most
            assert reached.max() <= windows.max() + most
    assert seen
