"""Networks in bfloat16: bit for bit those of an interpreter that rounds, whatever shape, layout or thread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.graph import small_models
from tests.machines import each_length
from tests.program_oracle import rounded, run_program
from tests.saved.nets import pooled
from tests.strategies import Problem, convs

import omniconv as oc
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.planning.options import Options
from omniconv.errors import SpecError, UnsupportedError
from omniconv.kinds import kinds
from omniconv.reference import error_bound, reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Chain, Conv

WORD = "bfloat16"
LENGTHS = [target.name for target in each_length()]


def between_layers(problem: Problem) -> Problem:
    """A layer or chain between two layers, so that it reads and writes bfloat16."""
    spec, shape = problem.spec, problem.shape
    dims, outputs = len(shape) - 2, spec.output_shape(shape)[1]
    first, last = (Conv.of(channels, channels, 1, dims=dims, groups=channels) for channels in (shape[1], outputs))
    return Problem(Chain((first, *((spec,) if isinstance(spec, Conv) else spec.steps), last)), shape)


def check(problem: Problem, seed: int, **options) -> None:
    """Sums of small integers have no error, so that every bit is known."""
    problem = between_layers(problem)
    x, weights = problem.draw(seed)
    net = oc.compile(problem.spec, problem.shape, weights, exact=True, precision=WORD, **options)
    (want,) = run_program(net.plan.program, {net.plan.program.inputs[0]: x}).values()
    np.testing.assert_array_equal(net(x), want.astype(np.float32), err_msg=str(problem))


USUAL = {"grouped", "transposed"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.wide) for name in kinds()]
)
def test_each_kind(name: str) -> None:
    kind = kinds()[name]
    for sample in kind.samples[: 1 if name in USUAL else None]:
        for target in LENGTHS if name not in USUAL else LENGTHS[:1]:
            check(Problem(kind.build(sample), sample.shape), 1, target=target, threads=1)


@pytest.mark.wide
@settings(max_examples=8, deadline=None)
@given(problem=convs())
def test_one_layer_is_within_the_bound(problem: Problem) -> None:
    """Of a single layer the weights are rounded: it is as close to the exact sum with these as any layer in float32."""
    x, ((w, b),) = problem.draw(3, integer=False)
    net = oc.compile(problem.spec, problem.shape, ((w, b),), exact=True, precision=WORD, threads=1)
    pairs = ((rounded(w).astype(np.float32), b),)
    error = np.abs(net(x) - reference(problem.spec, x, pairs))
    assert (error <= error_bound(problem.spec, x, pairs)).all()


@pytest.mark.wide
@settings(max_examples=5, deadline=None)
@given(problem=convs())
def test_drawn_layers(problem: Problem) -> None:
    check(problem, 2, threads=2)


@pytest.mark.wide
@pytest.mark.parametrize("build", [small_models.residual, small_models.activations], ids=lambda build: build.__name__)
def test_networks(build) -> None:
    """Steps with rounding errors of their own: far closer to the interpreter that rounds than what rounds nothing."""
    model = build()
    net, exact = oc.compile(model, precision=WORD, threads=1), oc.compile(model, threads=1)
    assert net.constant_bytes < exact.constant_bytes
    assert "\nbfloat16: " in net.explain()
    assert "bfloat16" not in exact.explain()
    rng = np.random.default_rng(3)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in net.inputs.items()}
    (want,) = run_program(net.plan.program, inputs).values()
    got, other = net(*inputs.values()), exact(*inputs.values())
    assert 4 * np.linalg.norm(got - want) < np.linalg.norm(other - want)


@pytest.mark.wide
def test_sizes_threads_layouts_and_files_change_no_bit(tmp_path) -> None:
    model, x = pooled(), np.random.default_rng(4).standard_normal((2, 3, 9, 14)).astype(np.float32)
    whole = oc.compile(model, shapes={"x": x.shape}, precision=WORD, threads=1)
    want = whole.run({"x": x})
    for net in (
        oc.compile(model, precision=WORD, threads=1),
        oc.compile(model, shapes={"x": x.shape}, precision=WORD, threads=2),
    ):
        net.save(tmp_path / "net.omniconv")
        for each in (net, oc.load(tmp_path / "net.omniconv")):
            np.testing.assert_equal(each.run({"x": x}), want)
    last = oc.compile(model, shapes={"x": x.shape}, precision=WORD, layout="NHWC")
    found = last.run({"x": np.ascontiguousarray(np.moveaxis(x, 1, -1))})
    np.testing.assert_array_equal(np.moveaxis(found["y"], -1, 1), want["y"])


def test_what_it_does_not_do_is_refused() -> None:
    spec = oc.causal(in_channels=4, out_channels=4, kernel_size=3, dims=1)
    weights = oc.random_weights(spec, np.random.default_rng(0))
    with pytest.raises(SpecError, match=r"precision='half'.*bfloat16"):
        oc.compile(spec, (1, 4, 9), weights, precision="half")
    with pytest.raises(SpecError, match=r"precision='bfloat16' with dtype='float64'"):
        oc.compile(spec, (1, 4, 9), weights, precision=WORD, dtype="float64")
    net = oc.compile(spec, (1, 4, 9), weights, precision=WORD)
    with pytest.raises(UnsupportedError, match=r"a stream of a network in bfloat16.*one in float32"):
        net.stream(axis=2, chunk=4)
    with pytest.raises(UnsupportedError, match=r"tiles of a network in bfloat16.*one in float32"):
        oc.plan_tiles(net, (1, 4, 9))


def test_threads_that_are_at_different_layers_share_no_memory() -> None:
    """Fused layers are run strip by strip, so that threads are at different ones, which widen different amounts."""
    problem = Problem(Chain((Conv.of(16, 32, 1), Conv.of(32, 48, 1), Conv.of(48, 8, 1))), (1, 16, 48, 48))
    x, weights = problem.draw(7, integer=False)
    whole = oc.compile(problem.spec, problem.shape, weights)
    alone, both = (
        Executable.of(whole.plan.program, whole.target, Options(threads=n, precision=WORD, cache=2**15), whole.at)
        for n in (1, 2)
    )
    [group] = both.plan.groups
    calls = both.plan.calls[group.first :]
    assert len({call.recipe.room for call in calls if isinstance(call.recipe, Panel) and call.recipe.widens}) > 1
    want = np.array(alone(x))
    for _ in range(50):
        np.testing.assert_array_equal(both(x), want)
