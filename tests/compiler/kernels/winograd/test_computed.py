"""Winograd filtering with weights that come in: bits, bounds, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from tests.graph.small_models import Graph
from tests.registry.compiled import HELD, TARGETS, channels_from, channels_to, strictly
from tests.registry.filtered import filtered_bound

import omniconv as oc
from omniconv.compiler.kernels.winograd.slabs import list_slabs, reject_winograd
from omniconv.compiler.planning.options import Options
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.gradients import PARAMETERS, compile_forward
from omniconv.program.gradients import forward_program
from omniconv.reference import reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv
from omniconv.target.select import select_target

LAYERS = [
    (Conv.of(32, 24, 3, padding=1), (2, 32, 21, 18)),
    (Conv.of(32, 29, 3, padding=((2, 0), (0, 3)), flip=True), (1, 32, 25, 23)),
    (Conv.of(34, 52, 3, padding=1, groups=2, transposed=True), (2, 34, 23, 18)),
    (Conv.of(48, 33, 3, padding=2, dilation=2), (1, 48, 27, 25)),
    (Conv.of(32, 24, 5, padding=2), (1, 32, 19, 20)),
    (Conv.of(48, 33, 4, padding=((2, 1), (1, 2)), flip=True), (1, 48, 19, 20)),
    (Conv.of(64, 56, (1, 5), padding=((0, 0), (2, 2))), (1, 64, 16, 21)),
    (Conv.of(64, 72, 3, padding=2, dilation=2, dims=1, transposed=True), (1, 64, 150)),
    (Conv.of(16, 24, 3, padding=1, dims=3, flip=True), (1, 16, 7, 18, 21)),
]
SPOILT = [
    ("x", (0, 3, 5, 6), np.nan),
    ("x", (0, 3, 20, 2), -np.inf),
    ("x", (0, 3, 9, 17), 3e38),
    ("w", (11, 2, 1, 2), np.inf),
]
"""Values that the transforms would spread; one overflows in most of them, but not in its products."""


def compiled(spec, shape, *, m=None, layout="NCHW", threads=1, target="native"):
    """A forward pass in blocks of ``m`` outputs along the width, or ``None`` where it would not be filtered."""
    machine = select_target(target)
    problem = Problem.of(spec.resolve(shape), shape)
    if reject_winograd(problem, machine, Facts(computed=True)) is not None:
        return None
    tile = min(
        (each for each in list_slabs(problem, machine) if m in (None, each.tile.axes[2].m)), key=lambda each: each.cost
    ).tile
    tuning = Tuning(machine, {problem.text(): tile.text()})
    options = Options(layout=layout, row_major=PARAMETERS, threads=threads, tuning=tuning)
    f = Executable.of(forward_program(spec, shape, bias=True), machine, options)
    assert [call.what for call in f.plan.calls if "winograd" in call.what][:2] == ["winograd_weights", "winograd_input"]
    return f


def bound_of(spec, x, weights):
    return filtered_bound(spec, x, weights, computed=True)


def draw(spec, shape, *, integer):
    rng = np.random.default_rng(0)
    sizes = {"x": shape, "w": spec.weight_shape, "b": (spec.out_channels,)}
    if integer:
        return {name: rng.integers(-4, 5, size).astype(np.float32) for name, size in sizes.items()}
    given = {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}
    return given | {"w": given["w"] / 8}


def spoil(given, name, place, value):
    """A copy with one value in a place of it, counted from its end along axes that are shorter."""
    spoilt = given | {name: given[name].copy()}
    spoilt[name][tuple(i % size for i, size in zip(place, spoilt[name].shape, strict=False))] = value
    return spoilt


def run(f, given, layout):
    found = strictly(f, given | {"x": channels_to(layout, given["x"])})
    return channels_from(layout, found["y"])


@pytest.mark.parametrize("target", [TARGETS[0], *(pytest.param(each, marks=pytest.mark.wide) for each in TARGETS[1:])])
@pytest.mark.parametrize(
    ("index", "m"), [(0, 2), (1, 3), (2, 4), (3, 4), *((at, None) for at in range(4, len(LAYERS)))]
)
def test_results_are_right_and_what_is_not_finite_stays_in_its_windows(target, index, m, tally):
    spec, shape = LAYERS[index]
    f = compiled(spec, shape, m=m, target=target)
    if f is None:
        pytest.skip("not filtered on this target")
    given = draw(spec, shape, integer=False)
    weights = [(given["w"], given["b"])]
    clean, bound = reference(spec, given["x"], weights), bound_of(spec, given["x"], weights)
    assert (np.abs(run(f, given, "NCHW") - clean) <= bound).all()
    if m is not None:
        whole = draw(spec, shape, integer=True)
        whole["w"] *= 36  # what the transform of the weights divides by
        assert m == 4 or (run(f, whole, "NCHW") == reference(spec, whole["x"], [(whole["w"], whole["b"])])).all()
    for name, place, value in SPOILT if index < 4 else SPOILT[::3]:
        spoilt = spoil(given, name, place, value)
        weights = [(spoilt["w"], spoilt["b"])]
        with np.errstate(all="ignore"):
            want = reference(spec, spoilt["x"], weights)
        got, touched = run(f, spoilt, "NCHW"), want != clean
        assert 0 < touched.sum() < touched.size
        if np.isfinite(value):
            assert (np.abs(got - want) <= bound_of(spec, spoilt["x"], weights)).all()
            continue
        assert (np.isfinite(want) == ~touched).all()
        assert not np.isfinite(got[touched]).any()
        assert (np.abs(got - clean) <= bound)[~touched].all()
    tally(f"filtered with weights that come in, {target}")


def test_threads_and_layouts_change_no_bit():
    spec, shape = LAYERS[0]
    given = draw(spec, shape, integer=False)
    spoilt = given | {"x": given["x"].copy()}
    spoilt["x"][1, 3, 20, 2], spoilt["x"][0, 30, 0, 17], spoilt["x"][0, 9, 4, 4] = np.nan, -np.inf, 3e38
    first = None
    for layout, threads in (("NCHW", 1), ("NCHW", 3), ("NHWC", 1), ("NHWC", 2)):
        f = compiled(spec, shape, m=4, layout=layout, threads=threads)
        HELD.append(f)
        found = [run(f, each, layout) for each in (given, spoilt)]
        first = first or found
        for one, other in zip(first, found, strict=True):
            np.testing.assert_array_equal(other.view(np.uint32), one.view(np.uint32))


def test_outputs_summed_directly_pass_through_the_epilogue():
    """Operands that are added and multiplied before and behind an activation, in a network."""
    g = Graph()
    y = g.node("Conv", g.input("x", 2, 32, 19, 22), g.input("w", 29, 32, 3, 3), pads=[1] * 4)
    y = g.node("Relu", g.node("Add", y, g.input("r", 2, 29, 19, 22)))
    g.node("Mul", y, "r", name="y")
    model = g.model("y")
    given = {
        "x": g.rng.standard_normal((2, 32, 19, 22), np.float32),
        "r": g.rng.random((2, 29, 19, 22), np.float32) + 1,
    }
    given["w"] = g.rng.standard_normal((29, 32, 3, 3), np.float32)
    given["x"][0, 3, 5, 6], given["x"][1, 30, 18, 21] = np.nan, np.inf
    filtered, direct = (oc.compile(model, target="x86-64-v2", exact=exact) for exact in (False, True))
    assert "winograd_output" in {call.what for call in filtered.plan.calls}
    assert "rejected winograd: exact=True" in direct.explain()
    got, want = (strictly(f, given)["y"] for f in (filtered, direct))
    assert 0 < np.isnan(want).sum() < want.size / 10
    assert 0 < np.isinf(want).sum() < want.size / 10
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_a_layer_whose_weights_outweigh_its_positions_is_summed_directly():
    f = compile_forward(Conv.of(512, 512, 3, padding=1), (1, 512, 7, 7))
    assert "winograd: the weights are computed and transformed at every call: 1." in f.explain()
    assert not any("winograd" in call.what for call in f.plan.calls)


def test_a_form_that_was_measured_with_constant_weights_is_not_used_in_several_parts():
    spec, shape, machine = Conv.of(32, 32, (1, 6)), (1, 32, 8, 32), select_target("x86-64-v2")
    problem = Problem.of(spec, shape)
    tile = next(each.tile for each in list_slabs(problem, machine) if each.tile.parts == 2)
    tuning = Tuning(machine, {problem.text(): tile.text()})
    options = Options(row_major=PARAMETERS, tuning=tuning)
    f = Executable.of(forward_program(spec, shape, bias=True), machine, options)
    assert f"tuned {tile.text()}: not a choice here" in f.explain()
    assert "winograd F(3, 6)" in f.explain()
    given = draw(spec, shape, integer=False)
    weights = [(given["w"], given["b"])]
    assert (
        np.abs(run(f, given, "NCHW") - reference(spec, given["x"], weights)) <= bound_of(spec, given["x"], weights)
    ).all()
