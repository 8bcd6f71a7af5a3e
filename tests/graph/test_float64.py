"""Networks in float64: models of float32 and of float64 against the float64 oracle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.graph.small_models import MODELS, draw_inputs
from tests.graph.test_models import LIGHT, with_random_weights
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, strictly

import omniconv as oc
from omniconv.errors import UnsupportedError
from omniconv.graph import to_program
from omniconv.program.element import FLOAT64

CLOSE = 1e-12
"""Of the largest value: a few thousand roundings, in some fifty layers of sums that are no longer than 10,000."""


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
    return wide


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_models(path: Path) -> None:
    """The program of the model in float32, whose constants are exact, computed by the oracle and by machine code."""
    large = path.stem.endswith(("alexnet", "vgg19", "zfnet512"))  # hundreds of megabytes of weights
    model = onnx.load(path) if large else with_random_weights(path)
    program = to_program(model, element=FLOAT64)
    f = oc.compile(model, dtype="float64", threads=2)
    x = np.random.default_rng(1).uniform(-2, 2, program.shapes[program.inputs[0]])
    [want] = run_program(program, {program.inputs[0]: x}).values()
    got = f(x)
    assert got.dtype == np.float64
    assert np.abs(got - want).max() <= CLOSE * np.abs(want).max()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str, layout: str, target: str) -> None:
    """Programs with every sort of step, on vectors of 2, 4 and 8 numbers as far as this machine has them."""
    model = MODELS[name]()
    inputs = {key: x.astype(np.float64) for key, x in draw_inputs(model).items()}
    shapes = {key: x.shape for key, x in inputs.items()}
    want = run_program(to_program(model, shapes=shapes, element=FLOAT64), inputs)

    def turn(x: np.ndarray, source: int, to: int) -> np.ndarray:
        return np.moveaxis(x, source, to) if layout == "NHWC" and 3 <= x.ndim <= 5 else x

    f = oc.compile(model, shapes=shapes, layout=layout, target=target, threads=2, dtype="float64")
    got = strictly(f, {key: np.ascontiguousarray(turn(x, 1, -1)) for key, x in inputs.items()})
    for key, expected in want.items():
        assert np.abs(turn(got[key], -1, 1) - expected).max() <= 1e-13 * np.abs(expected).max(), key


def test_a_model_in_float64_is_the_widened_one() -> None:
    path = next(path for path in LIGHT if path.stem.endswith("squeezenet"))
    model = with_random_weights(path)
    f, g = oc.compile(model, dtype="float64"), oc.compile(widen(model), dtype="float64")
    x = np.random.default_rng(2).uniform(-2, 2, next(iter(f.inputs.values())))
    assert np.array_equal(f(x), g(x))
    assert oc.cost(widen(model), dtype="float64").bytes == 2 * oc.cost(model).bytes


def test_a_model_in_float64_is_refused_in_float32() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, (1, 2, 3))
    y = helper.make_tensor_value_info("y", TensorProto.DOUBLE, (1, 2, 3))
    model = helper.make_model(helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "g", [x], [y]))
    with pytest.raises(UnsupportedError, match=r"input 'x' is DOUBLE; need float32 inputs, e\.g\. dtype='float64'"):
        oc.compile(model)
    value = np.linspace(-1, 1, 6).reshape(1, 2, 3)
    assert np.abs(oc.compile(model, dtype="float64")(value) - np.tanh(value)).max() <= 4 * 2.0**-53


def test_folded_constants_are_not_rounded_to_float32() -> None:
    """Batch norm folded into weights, small constants, and weights that several layers share."""
    rng = np.random.default_rng(3)
    constants = {
        "w": rng.standard_normal((4, 4, 3)), "scale": rng.uniform(0.5, 1.5, 4), "bias": rng.standard_normal(4),
        "mean": rng.standard_normal(4), "var": rng.uniform(0.5, 1.5, 4), "c": np.array(1.1),
    }  # fmt: skip
    constants = {name: value.astype(np.float32) for name, value in constants.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["d"], pads=[1, 1]),
        helper.make_node("Mul", ["d", "c"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, 9)) for name in "xy"]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    x = rng.standard_normal((1, 4, 9))
    w, scale, bias, mean, var, c = (value.astype(np.float64) for value in constants.values())

    def conv(v: np.ndarray) -> np.ndarray:
        return oc.reference(oc.cross_correlation(4, 4, kernel_size=3, dims=1, padding=1), v, (w, None))

    b = (conv(x) - mean[:, None]) / np.sqrt(var + 1e-5)[:, None] * scale[:, None] + bias[:, None]
    want = conv(b) * c
    assert np.abs(oc.compile(model, dtype="float64")(x) - want).max() <= 1e-14 * np.abs(want).max()
    plain = helper.make_graph([nodes[0], helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1])], "g", info[:1],
                              info[1:], list(graph.initializer)[:1])  # fmt: skip
    program = to_program(helper.make_model(plain, opset_imports=model.opset_import, ir_version=8), element=FLOAT64)
    first, second = program.steps
    assert first.w is second.w


@pytest.mark.parametrize("wide", [False, True])
def test_gelu_written_out(wide: bool) -> None:
    """With constants in float32 it is GELU as exported; in float64 they have to be those of GELU in float64."""
    dtype = np.float64 if wide else np.float32
    number = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    constants = {"root": np.array(np.sqrt(2), dtype), "one": np.array(1, dtype), "half": np.array(0.5, dtype)}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["a"]), helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]), helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["y"]),
    ]  # fmt: skip
    info = [helper.make_tensor_value_info(name, number, (1, 64)) for name in "xy"]

    def make(values: dict[str, np.ndarray]) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
        return helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], tensors))

    x = np.linspace(-8, 8, 64).reshape(1, 64)
    got = oc.compile(make(constants), dtype="float64")(x)
    want = np.vectorize(lambda v: v / 2 * math.erfc(-v / math.sqrt(2)))(x)
    assert np.all(np.abs(got - want) <= 1e-12 * np.abs(want))
    if wide:
        with pytest.raises(UnsupportedError, match="Erf that is not part of GELU"):
            oc.compile(make(constants | {"root": np.array(1.41421357)}), dtype="float64")
