"""Specs to ONNX and back: the model computes what the reference computes, and reads back as the same layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from tests.program_oracle import run_program
from tests.strategies import Problem, chains, convs

from omniconv.errors import ShapeError
from omniconv.graph import export, to_program
from omniconv.kinds import kinds
from omniconv.program.steps import ConvStep
from omniconv.reference import random_weights, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Spec, Split
from omniconv.spec.activation import FORMULAS

SAMPLES = [
    (kind.name, kind.constructor(**sample.arguments), sample.shape)
    for kind in kinds().values()
    for sample in kind.samples
]


def extends_far(spec: Spec) -> bool:
    """Whether some output padding is not below its stride, which ONNX Runtime refuses."""
    convs = (spec,) if isinstance(spec, Conv) else spec.convs
    return any(a >= s for conv in convs for a, s in zip(conv.output_padding, conv.stride, strict=True) if a)


def round_trip(spec: Spec, shape: tuple[int, ...], *, integer: bool, peer: bool) -> None:
    rng = np.random.default_rng(0)
    weights = random_weights(spec, rng, integer=integer)
    x = (rng.integers(-4, 5, shape) if integer else rng.standard_normal(shape)).astype(np.float32)
    model = export(spec, shape, weights)
    want = reference(spec, x, weights)
    program = to_program(model)
    [got] = run_program(program, {"x": x}).values()
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6 * scale)
    if isinstance(spec, Conv):
        [step] = [step for step in program.steps if isinstance(step, ConvStep)]
        plain = spec.padding_mode == "zeros" or (spec.padding_mode != "circular" and any(map(any, step.spec.padding)))
        if not spec.flip and plain:
            assert step.spec == spec.resolve(shape)
    if peer and not extends_far(spec):
        ort = pytest.importorskip("onnxruntime")
        ort.set_default_logger_severity(4)
        [other] = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        np.testing.assert_allclose(other, want, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("name", "spec", "shape"), SAMPLES, ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_kinds(name: str, spec: Spec, shape: tuple[int, ...]) -> None:
    round_trip(spec, shape, integer=True, peer=True)


@settings(max_examples=30, deadline=None)
@given(convs())
def test_convolutions(problem: Problem) -> None:
    round_trip(problem.spec, problem.shape, integer=True, peer=False)


@settings(max_examples=40, deadline=None)
@given(chains())
def test_chains(problem: Problem) -> None:
    round_trip(problem.spec, problem.shape, integer=False, peer=False)


@pytest.mark.parametrize("name", FORMULAS)
def test_activations(name: str) -> None:
    first = (Activation("abs"),) if name == "sqrt" else ()
    chain = Chain((Conv.of(3, 4, 1), *first, Activation.of(name)))
    round_trip(chain, (1, 3, 5, 5), integer=False, peer=True)
    model = export(chain, (1, 3, 5, 5), random_weights(chain, np.random.default_rng(0)))
    [step] = to_program(model).steps
    assert isinstance(step, ConvStep)
    if name != "clip":  # without bounds it does nothing
        found = step.post[-1].activation
        assert found is not None
        assert found.name == name
        np.testing.assert_allclose([v for _, v in found.parameters], list(FORMULAS[name][1].values()), rtol=1e-7)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_other_step(dims: int) -> None:
    wide = Conv.of(4, 2 ** (dims + 1), 1, dims=dims)
    branches = (Conv.of(1, 2, 3, dims=dims, padding=1), Conv.of(1, 3, 1, dims=dims))
    chain = Chain(
        (Shuffle(2), wide, PixelShuffle(2), Split(branches), Resize(2), Resize(3, "linear"), Activation("relu6"))
    )
    round_trip(chain, (2, 4, *(5, 4, 3)[:dims]), integer=False, peer=dims < 3)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode: str) -> None:
    spec = Conv.of(3, 4, 3, padding=[(1, 2), (0, 3)], padding_mode=mode, stride=2)
    round_trip(spec, (2, 3, 6, 7), integer=True, peer=True)


def test_what_is_written() -> None:
    spec = Conv.of(3, 4, 3, stride=2, padding="same")
    model = export(spec, (1, 3, 9, 9), random_weights(spec, np.random.default_rng(0)))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 17
    assert [info.name for info in (*model.graph.input, *model.graph.output)] == ["x", "y"]
    assert model.graph.doc_string == spec.text((1, 3, 9, 9))
    with pytest.raises(ShapeError):
        export(spec, (1, 5, 9, 9), random_weights(spec, np.random.default_rng(0)))
