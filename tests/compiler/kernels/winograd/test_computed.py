"""Winograd filtering with weights that come in: bits, bounds, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from tests.registry.compiled import TARGETS, channels_from, channels_to, strictly
from tests.registry.filtered import OF_COMPUTED, filtered_bound

from omniconv.compiler.kernels.winograd.matrices import FILTERINGS
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
]


def compiled(spec, shape, *, m, layout="NCHW", threads=1, target="native"):
    """A forward pass in blocks of ``m``, or ``None`` where it would not be filtered."""
    machine = select_target(target)
    problem = Problem.of(spec.resolve(shape), shape)
    if reject_winograd(problem, machine, Facts(computed=True)) is not None:
        return None
    tile = min((each for each in list_slabs(problem, machine) if each.tile.m == m), key=lambda each: each.cost).tile
    tuning = Tuning(machine, {problem.text(): tile.text()})
    options = Options(layout=layout, row_major=PARAMETERS, threads=threads, tuning=tuning)
    f = Executable.of(forward_program(spec, shape, bias=True), machine, options)
    assert [call.what for call in f.plan.calls if "winograd" in call.what][:2] == ["winograd_weights", "winograd_input"]
    return f


def draw(spec, shape, *, integer):
    rng = np.random.default_rng(0)
    sizes = {"x": shape, "w": spec.weight_shape, "b": (spec.out_channels,)}
    if integer:
        return {name: rng.integers(-4, 5, size).astype(np.float32) for name, size in sizes.items()}
    return {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}


def run(f, given, layout):
    found = strictly(f, given | {"x": channels_to(layout, given["x"])})
    return channels_from(layout, found["y"])


@pytest.mark.parametrize("m", FILTERINGS)
@pytest.mark.parametrize("target", TARGETS)
def test_results_are_right(target, m, tally):
    seen = 0
    for spec, shape in LAYERS[m - 2 : m]:
        f = compiled(spec, shape, m=m, target=target)
        if f is None:
            continue
        seen += 1
        given = draw(spec, shape, integer=False)
        weights = [(given["w"], given["b"])]
        got = run(f, given, "NCHW")
        bound = filtered_bound(spec, given["x"], weights, roundings=OF_COMPUTED)
        assert (np.abs(got - reference(spec, given["x"], weights)) <= bound).all()
        whole = draw(spec, shape, integer=True)
        whole["w"] *= 576  # what the transform of the weights divides by
        assert (run(f, whole, "NCHW") == reference(spec, whole["x"], [(whole["w"], whole["b"])])).all()
        tally(f"filtered with weights that come in, {target}")
    assert seen >= 1


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_threads_and_layouts_change_no_bit(layout):
    spec, shape = LAYERS[0]
    given = draw(spec, shape, integer=False)
    one = run(compiled(spec, shape, m=4, target="x86-64-v2"), given, "NCHW")
    for threads in (1, 3):
        again = compiled(spec, shape, m=4, layout=layout, threads=threads, target="x86-64-v2")
        assert np.array_equal(run(again, given, layout), one)


@pytest.mark.parametrize("m", FILTERINGS)
def test_what_is_not_finite_reaches_its_windows_alone(m):
    spec, shape = LAYERS[m - 1]
    f = compiled(spec, shape, m=m, target="x86-64-v2")
    given = draw(spec, shape, integer=False)
    weights = [(given["w"], given["b"])]
    clean = reference(spec, given["x"], weights)
    bound = filtered_bound(spec, given["x"], weights, roundings=OF_COMPUTED)
    for name, place, value in (
        ("x", (0, 3, 5, 6), np.nan),
        ("x", (0, 3, 20, 2), -np.inf),
        ("w", (11, 2, 1, 2), np.inf),
    ):
        spoilt = {key: array.copy() for key, array in given.items()}
        spoilt[name][place] = value
        with np.errstate(all="ignore"):
            want = reference(spec, spoilt["x"], [(spoilt["w"], spoilt["b"])])
        got = run(f, spoilt, "NCHW")
        touched = ~np.isfinite(want)
        assert 0 < touched.sum() < touched.size
        assert not np.isfinite(got[touched]).any()
        assert (np.abs(got - clean) <= bound)[~touched].all()


def test_a_layer_whose_weights_outweigh_its_positions_is_summed_directly():
    f = compile_forward(Conv.of(512, 512, 3, padding=1), (1, 512, 7, 7))
    assert "winograd: the weights are computed and transformed at every call: 1." in f.explain()
    assert not any("winograd" in call.what for call in f.plan.calls)
