"""Networks in float64: models of float32 and of float64 against the float64 oracle."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.graph.small_models import MODELS, draw_inputs
from tests.graph.test_models import LIGHT, narrowly, with_random_weights
from tests.program_oracle import run_program
from tests.registry.compiled import TARGETS, strictly

import omniconv as oc
from omniconv.errors import UnsupportedError
from omniconv.graph import to_partial_program, to_program
from omniconv.program.element import FLOAT64
from omniconv.program.passes.fold_affine import fold_affine
from omniconv.program.passes.merge_affine import merge_post
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, MapStep, PostOp

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


@pytest.mark.parametrize("path", narrowly(LIGHT, ("light_squeezenet",)), ids=lambda path: path.stem)
def test_light_models(path: Path, tally) -> None:
    """The model, whose constants of float32 are exact, by machine code, by the oracle and by PyTorch in float64."""
    large = path.stem.endswith(("alexnet", "vgg19", "zfnet512"))  # hundreds of megabytes of weights
    model = onnx.load(path) if large else with_random_weights(path)
    program = to_program(model, element=FLOAT64)
    f = oc.compile(model, dtype="float64", threads=2)
    x = np.random.default_rng(1).uniform(-2, 2, program.shapes[program.inputs[0]])
    [want] = run_program(program, {program.inputs[0]: x}).values()
    got = f(x)
    assert got.dtype == np.float64
    assert np.abs(got - want).max() <= CLOSE * np.abs(want).max()
    pytest.importorskip("torch")
    from tests.graph.torch_oracle import run_torch

    other = run_torch(model, x)
    assert np.abs(got - other).max() <= CLOSE * np.abs(other).max()
    tally("light models in float64 agree with PyTorch")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", MODELS)
def test_small_models(name: str, layout: str, target: str) -> None:
    """Programs with every sort of step, on vectors of 2, 4 and 8 numbers as far as this machine has them."""
    model = MODELS[name]()
    inputs = {key: x.astype(np.float64) for key, x in draw_inputs(model).items()}
    shapes = {key: x.shape for key, x in inputs.items()}
    want = run_program(to_program(model, shapes=shapes, element=FLOAT64), inputs)

    def turn(f: Any, name: str, x: np.ndarray, source: int, to: int) -> np.ndarray:
        return np.moveaxis(x, source, to) if f.is_channels_last(name, x.ndim) else x

    f = oc.compile(model, shapes=shapes, layout=layout, target=target, threads=2, dtype="float64")
    got = strictly(f, {key: np.ascontiguousarray(turn(f, key, x, 1, -1)) for key, x in inputs.items()})
    for key, expected in want.items():
        assert np.abs(turn(f, key, got[key], -1, 1) - expected).max() <= 1e-13 * np.abs(expected).max(), key


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
    with pytest.raises(UnsupportedError, match=r"input 'x' is DOUBLE; need float32 inputs, e\.g\. dtype='float64'"):
        to_partial_program(model)
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
    plain = helper.make_graph(
        [nodes[0], helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1])],
        "g",
        info[:1],
        info[1:],
        list(graph.initializer)[:1],
    )
    program = to_program(helper.make_model(plain, opset_imports=model.opset_import, ir_version=8), element=FLOAT64)
    first, second = program.steps
    assert first.w is second.w


def written_out(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model of x of shape (1, 64), in the type of the constants."""
    number = helper.np_dtype_to_tensor_dtype(next(iter(constants.values())).dtype)
    info = [helper.make_tensor_value_info(name, number, (1, 64)) for name in "xy"]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(
        helper.make_graph(nodes, "g", info[:1], info[1:], tensors), opset_imports=opset, ir_version=8
    )


@pytest.mark.parametrize("root", [np.float64(np.sqrt(2)), np.float32(np.sqrt(2)), np.float64(1.41421357)])
def test_gelu_written_out(root: np.floating[Any]) -> None:
    """The function that was written: sqrt(2) of float32, or nearly so, is that number and not sqrt(2) of float64.

    With another number it is computed operation by operation.
    """
    constants = {"root": np.array(root), "one": np.array(1, root.dtype), "half": np.array(0.5, root.dtype)}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["a"]), helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]), helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["y"]),
    ]  # fmt: skip
    x = np.linspace(-8, 8, 64).reshape(1, 64)
    got = oc.compile(written_out(nodes, constants), dtype="float64")(x)
    want = np.vectorize(lambda v: v / 2 * math.erfc(-v / float(root)))(x)
    assert np.all(np.abs(got - want) <= 1e-13 * np.abs(want))
    other = oc.compile(written_out(nodes, constants | {"root": np.array(1.5, root.dtype)}), dtype="float64")
    want = np.vectorize(lambda v: v / 2 * (1 + math.erf(v / 1.5)))(x)
    assert np.all(np.abs(other(x) - want) <= 2.0**-50 * np.abs(x))


@pytest.mark.parametrize(("dtype", "known"), [(np.float64, True), (np.float32, False)])
def test_float32_constants_are_not_those_of_float64(dtype: type[np.floating[Any]], known: bool) -> None:
    """Hard swish with float32's 1/6 is x times a hard sigmoid of that slope, 2^-26 away from hard swish."""
    sixth, half, one, zero = (np.array(value, dtype) for value in (1 / 6, 0.5, 1, 0))
    constants = {"sixth": sixth, "half": half, "one": one, "zero": zero}
    nodes = [
        helper.make_node("Mul", ["x", "sixth"], ["a"]), helper.make_node("Add", ["a", "half"], ["b"]),
        helper.make_node("Clip", ["b", "zero", "one"], ["c"]), helper.make_node("Mul", ["x", "c"], ["y"]),
    ]  # fmt: skip
    model = written_out(nodes, constants)
    x = np.linspace(0.5, 2.9, 64).reshape(1, 64)
    want = x * (x * float(sixth) + 0.5)
    assert np.all(np.abs(oc.compile(model, dtype="float64")(x) - want) <= 8 * FLOAT64.roundoff * np.abs(want))
    assert find_activation(to_program(model, element=FLOAT64)) == ("hard_swish" if known else "hard_sigmoid")
    if not known:
        assert np.abs(x * (x / 6 + 0.5) - want).max() > 1e-9
        assert find_activation(to_program(model)) == "hard_swish"


def find_activation(program: Program) -> str:
    """The name of the first operation of a program's only step."""
    [step] = program.steps
    assert isinstance(step, MapStep)
    assert step.post[0].activation is not None
    return step.post[0].activation.name


@pytest.mark.parametrize("count", [2, 3, 5])
def test_what_folding_keeps(count: int) -> None:
    """The bounds of ``fold_affine`` and ``merge_affine`` where gathering rounds as the result does, in fractions."""
    rng = np.random.default_rng(count)
    posts, factors, offsets = [], [], []
    for _ in range(count):
        factor, offset = rng.uniform(0.3, 3, 2), rng.standard_normal(2)
        posts += [PostOp("div", factor.reshape(1, 2, 1)), PostOp("sub", offset.reshape(1, 2, 1))]
        factors, offsets = [*factors, factor], [*offsets, offset]
    w, x = rng.standard_normal((2, 1, 1)), rng.standard_normal((1, 1, 1))
    spec = oc.cross_correlation(1, 2, kernel_size=1, dims=1)
    folded = Program(("x",), ("y",), {"x": (1, 1, 1)}, element=FLOAT64)
    folded.add(ConvStep("x", "v", spec, w, None, ()), (1, 2, 1))
    folded.add(MapStep("v", "y", tuple(posts)), (1, 2, 1))
    [conv] = fold_affine(folded).steps
    assert isinstance(conv, ConvStep)
    assert conv.b is not None
    merged = merge_post(posts, FLOAT64)
    assert [op.op for op in merged] == ["mul", "add"]
    for channel in range(2):
        value = start = Fraction(w[channel, 0, 0]) * Fraction(x[0, 0, 0])
        size = abs(start)
        for factor, offset in zip(factors, offsets, strict=True):
            value = value / Fraction(factor[channel]) - Fraction(offset[channel])
            size = size / Fraction(factor[channel]) + abs(Fraction(offset[channel]))
        u, operations = Fraction(FLOAT64.roundoff), 2 * count
        got = Fraction(conv.w[channel, 0, 0]) * Fraction(x[0, 0, 0]) + Fraction(conv.b[channel])
        assert abs(got - value) <= (3 * operations + 2) * u * size
        s, t = (Fraction(np.asarray(op.operand).reshape(-1)[channel]) for op in merged)
        assert abs(s * start + t - value) <= 3 * operations * u * size


def test_folding_does_not_lose_digits_at_the_ends_of_float64() -> None:
    """Factors whose product leaves the normal numbers stay apart, also where a later factor brings it back."""
    for values in ([1e-160, 1e-160, 1e200], [1e-200, 1e-200], [1e-300, 1e-10], [1e200, 1e200]):
        posts = tuple(PostOp("mul", np.array(value)) for value in values)
        assert merge_post(posts, FLOAT64) == posts, values
        program = Program(("x",), ("y",), {"x": (1, 1, 1)}, element=FLOAT64)
        spec = oc.cross_correlation(1, 1, kernel_size=1, dims=1)
        program.add(ConvStep("x", "v", spec, np.ones((1, 1, 1)), None, ()), (1, 1, 1))
        program.add(MapStep("v", "y", posts), (1, 1, 1))
        conv, rest = fold_affine(program).steps
        assert isinstance(conv, ConvStep)
        assert isinstance(rest, MapStep)
        factors = [conv.w, *(np.asarray(op.operand) for op in rest.post)]
        got, want = (
            math.prod(Fraction(float(v.reshape(-1)[0])) for v in each) for each in (factors, map(np.array, values))
        )
        assert abs(got - want) <= len(values) * Fraction(FLOAT64.roundoff) * want
    [only] = merge_post([PostOp("mul", np.array(1e-150)), PostOp("mul", np.array(1e-150))], FLOAT64)
    assert only.operand == 1e-150 * 1e-150
