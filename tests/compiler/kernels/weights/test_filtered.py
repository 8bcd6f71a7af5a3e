"""Weight gradients that are filtered: when, the written bound of every form, bits, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from tests.gradient_oracle import gradients
from tests.machines import HASWELL, NEHALEM, ZEN_4
from tests.registry.compiled import channels_to, strictly

from omniconv.compiler.kernels.weights import lower
from omniconv.compiler.kernels.weights.filtered import list_filtered_sums, plan_filtered_sums
from omniconv.compiler.kernels.weights.panel import PanelSums
from omniconv.compiler.kernels.weights.sums import Sums
from omniconv.gradients import compile_weight_gradient
from omniconv.reference.bounds import gamma
from omniconv.spec import Conv
from omniconv.target.select import resolve_target

MACHINES = [resolve_target("native", host) for host in (NEHALEM, HASWELL, ZEN_4)]
LAYERS = {
    "3x3": (Conv.of(9, 18, 3, padding=1), (3, 9, 19, 22)),
    "flipped, other padding": (Conv.of(11, 8, 3, padding=((2, 0), (0, 3)), flip=True), (2, 11, 17, 13)),
    "dilation": (Conv.of(8, 9, 3, padding=2, dilation=2), (1, 8, 15, 18)),
    "transposed": (Conv.of(17, 10, 3, padding=1, transposed=True), (2, 17, 14, 13)),
    "groups": (Conv.of(18, 34, (3, 2), groups=2), (2, 18, 12, 13)),
    "5x5": (Conv.of(8, 8, 5, padding=2), (2, 8, 11, 12)),
    "one axis": (Conv.of(8, 12, 3, padding=1, dims=1), (3, 8, 50)),
    "depth": (Conv.of(8, 9, 3, dims=3, padding=1, flip=True), (2, 8, 9, 7, 6)),
    "depth, dilation": (
        Conv.of(8, 8, (2, 3, 1), dims=3, padding=((1, 1), (2, 2), (0, 0)), dilation=(2, 2, 1)),
        (1, 8, 9, 7, 5),
    ),
    "smaller than a block": (Conv.of(8, 8, 3, padding=1), (1, 8, 1, 2)),
}


def sums_of(spec, shape):
    return Sums.of(spec, shape, spec.output_shape(shape))


def compiled(spec, shape, form, monkeypatch, **options):
    """The gradient in a form, whatever it is expected to cost."""
    monkeypatch.setattr(lower, "plan_filtered_sums", lambda *_, **__: form)
    f = compile_weight_gradient(spec, shape, bias=False, **options)
    assert {"winograd_input", "winograd_gradient", "panel", "winograd_weights"} <= {call.what for call in f.plan.calls}
    return f


def run(f, x, dy, layout="NCHW"):
    return strictly(f, {"x": channels_to(layout, x), "dy": channels_to(layout, dy)})["dw"]


def draw(spec, shape, seed=0, *, integer=False):
    rng = np.random.default_rng(seed)
    sizes = shape, spec.output_shape(shape)
    return [(rng.integers(-4, 5, s) if integer else rng.standard_normal(s)).astype(np.float32) for s in sizes]


def magnitudes(spec, form, x, dy):
    """``|G^T| [sum (|A| |e|) (|B^T| |d|)]``, from the blocks as they lie in padded arrays."""
    wide, narrow = (np.abs(each.astype(np.float64)) for each in ((dy, x) if spec.transposed else (x, dy)))
    axes = form.blocks.axes[3 - spec.dims :]
    for at, axis in enumerate(axes):
        if axis.direct:  # a block for each output, whose points are its taps
            starts, (r, m) = range(axis.output), (axis.r, 1)
            data, result = np.eye(r), np.ones((r, 1))
        else:
            starts, (r, m) = axis.starts, (axis.r, axis.m)
            data, result = (np.eye(1), np.eye(1))
            if axis.filtered:
                data, result = np.abs(axis.filtering.data), np.abs(axis.filtering.result).T
        reads = [[s - axis.before + i * axis.dilation for i in range(m + r - 1)] for s in starts]
        makes = [[s + j * axis.dilation for j in range(m)] for s in starts]
        wide, narrow = (
            np.moveaxis(_blocks(value, 2 + 2 * at, np.asarray(places)) @ matrix.T, (-2, -1), (2 + 2 * at, 3 + 2 * at))
            for value, places, matrix in ((wide, reads, data), (narrow, makes, result))
        )
    groups = spec.groups
    wide, narrow = (value.reshape(len(x), groups, -1, *value.shape[2:]) for value in (wide, narrow))
    letters = ["bp", "cq", "dr"][: len(axes)]
    every, points = "".join(letters), "".join(pair[1] for pair in letters)
    sums = np.einsum(f"ngi{every},ngo{every}->goi{points}", wide, narrow, optimize=True)
    for axis in axes:
        kernel = np.abs(axis.filtering.kernel) if axis.filtered else np.eye(axis.r)
        sums = np.moveaxis(sums, 3, -1) @ kernel
    return sums.reshape(spec.weight_shape)[(..., *[slice(None, None, -1 if spec.flip else 1)] * spec.dims)]


def _blocks(value, axis, places):
    """The blocks along an axis, behind all others; zeros outside."""
    size = value.shape[axis]
    kept = np.take(value, np.clip(places, 0, size - 1), axis=axis)
    kept = np.moveaxis(kept, (axis, axis + 1), (-2, -1))
    return np.where((places >= 0) & (places < size), kept, 0.0)


def bound_of(spec, form, recipe, x, dy):
    """Roundings: 5 in each transform of the data along each axis, 8 in the last one, one product; and the sums."""
    filtered = sum(axis.filtered for axis in form.blocks.axes)
    return gamma(recipe.terms + form.slabs + 18 * filtered + 1, 2.0**-24) * magnitudes(spec, form, x, dy)


def usual(form):
    """Whether it has six points along each axis, as what is chosen mostly has."""
    return {axis.reads for axis in form.blocks.axes if axis.filtered} == {6}


FORMS = [
    pytest.param(
        spec,
        shape,
        form,
        id=f"{name}, {form.blocks.name}",
        marks=[] if usual(form) or (name == "3x3" and index == 0) else [pytest.mark.wide],
    )
    for name, (spec, shape) in LAYERS.items()
    for index, form in enumerate(list_filtered_sums(sums_of(spec, shape), "wide"))
]


@pytest.mark.parametrize(("spec", "shape", "form"), FORMS)
def test_every_form_is_within_its_bound_and_exact_where_nothing_rounds(spec, shape, form, monkeypatch, tally):
    layout = "NHWC" if form.blocks.points % 2 else "NCHW"
    f = compiled(spec, shape, form, monkeypatch, layout=layout)
    recipe = next(call.recipe for call in f.plan.calls if isinstance(call.recipe, PanelSums))
    x, dy = draw(spec, shape)
    want = gradients(spec, x, np.zeros(spec.weight_shape), None, dy).dw
    assert (np.abs(run(f, x, dy, layout) - want) <= bound_of(spec, form, recipe, x, dy)).all()
    if all(axis.reads <= 5 for axis in form.blocks.axes if axis.filtered):
        x, dy = draw(spec, shape, integer=True)
        dy *= 36  # what the last transform divides by
        np.testing.assert_array_equal(
            run(f, x, dy, layout), gradients(spec, x, np.zeros(spec.weight_shape), None, dy).dw
        )
    tally("form of filtered weight gradients")


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("x", (0, 3, 0, 0), np.nan),
        ("x", (2, 3, 18, 5), -np.inf),
        ("dy", (0, 3, 5, 6), np.inf),
        ("x", (0, 3, 0, 0), 3e38),
    ],
)
def test_what_is_not_finite_reaches_the_weights_that_it_meets(name, place, value, monkeypatch):
    spec, shape = LAYERS["3x3"]
    form = next(filter(usual, list_filtered_sums(sums_of(spec, shape))))
    f = compiled(spec, shape, form, monkeypatch)
    x, dy = draw(spec, shape)
    weights = np.zeros(spec.weight_shape)
    clean = gradients(spec, x, weights, None, dy).dw
    spoilt = {"x": x.copy(), "dy": dy.copy()}
    spoilt[name][place] = value
    want = gradients(spec, spoilt["x"], weights, None, spoilt["dy"]).dw
    with np.errstate(over="ignore"):
        got, want = run(f, spoilt["x"], spoilt["dy"]), want.astype(np.float32)
    touched = want != clean.astype(np.float32)
    assert 0 < touched.sum() < touched.size
    assert name == "dy" or touched[:, 3].sum() < touched[:, 3].size, "some taps do not read a border"
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-2)


def test_layouts_and_threads_change_no_bit(monkeypatch):
    spec, shape = LAYERS["groups"]
    *_, form = list_filtered_sums(sums_of(spec, shape))
    x, dy = draw(spec, shape)
    x[0, 3, 5, 6] = np.nan
    found = [
        run(compiled(spec, shape, form, monkeypatch, layout=layout, threads=threads), x, dy, layout).view(np.uint32)
        for layout, threads in (("NCHW", 1), ("NHWC", 2))
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("target", [pytest.param(t, id=f"native-{t.cpu}") for t in MACHINES])
def test_the_form_is_a_function_of_layer_and_machine(target):
    def form(spec, shape, **options):
        found = plan_filtered_sums(sums_of(spec, shape), target, **options)
        return found and found.blocks.name

    usual, shape = Conv.of(64, 64, 3, padding=1), (16, 64, 56, 56)
    assert form(usual, shape) == "winograd F(4x4, 3x3)"
    assert form(usual, shape, accuracy="close") == "winograd F(2x2, 3x3)"
    assert form(usual, shape, accuracy="wide") in ("winograd F(4x4, 3x3)", "winograd F(6x6, 3x3)")
    assert form(usual, shape, exact=True) is None
    assert form(usual, shape, copied=10**10) is None
    assert form(Conv.of(64, 64, 3, padding=1, stride=2), shape) is None
    assert form(Conv.of(64, 64, 1), shape) is None
    assert form(Conv.of(2, 64, 3), (16, 2, 56, 56)) is None
    assert form(Conv.of(512, 512, 3, padding=1), (1, 512, 4, 4)) is None, "sums outweigh the products"


def test_what_is_asked_for_exactly_or_in_float64_is_summed_directly():
    def explain(**options):
        spec = Conv.of(16, 16, 3, padding=1)
        return compile_weight_gradient(spec, (2, 16, 28, 28), layout="NHWC", target="x86-64-v3", **options).explain()

    points = "6x6 points, 0, 1/2, -1/2, 2, -2 and infinity; multiplies 4.00 times less often"
    assert f"the gradient of winograd F(4x4, 3x3): {points}" in explain()
    assert all("winograd" not in explain(**options) for options in ({"exact": True}, {"dtype": "float64"}))


def test_slabs_divide_the_blocks_of_all_images():
    spec, shape = Conv.of(16, 16, 3, padding=1, groups=2), (16, 16, 56, 56)
    for form in list_filtered_sums(sums_of(spec, shape)):
        down, across = form.blocks.axes[1:]
        assert form.blocks.count == 16 * -(-56 // down.m) * -(-56 // across.m)
        assert (form.slabs - 1) * form.blocks.slab < form.blocks.count <= form.slabs * form.blocks.slab
        assert form.products.groups == 2 * form.blocks.points
        assert form.multiplications == form.blocks.count * form.products.groups * 64
