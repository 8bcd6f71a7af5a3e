"""Operators of ONNX Runtime's own domain, beside ONNX Runtime, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from tests.graph.small_models import Graph

import omniconv
from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph import load

MS = {"domain": "com.microsoft"}
RNG = np.random.default_rng(5)
X = (2, 4, 5, 6)


def byte(g, scale, zero, dtype=np.uint8):
    return g.const(scale), g.const(zero, dtype)


def quantise(g, x, scale, zero, dtype=np.uint8):
    """x on levels, with their scale and zero point: three inputs of a QLinear operator."""
    numbers = byte(g, scale, zero, dtype)
    return (g.node("QuantizeLinear", x, *numbers), *numbers)


def levels_of(op, parts=1, **attributes):
    """A model of one operator between levels; a step of its result is 0.05."""
    g = Graph()
    x = g.input("x", *X)
    a = quantise(g, x, 0.03, 120)
    more = quantise(g, g.node("Abs", x), 0.02, 3, np.uint8) if parts == 2 else ()
    end = byte(g, 0.05, 100)
    inputs = (*end, *a, *more) if op == "QLinearConcat" else (*a, *more, *end)
    return g.model(g.node("DequantizeLinear", g.node(op, *inputs, **attributes, **MS), *end, name="y"))


def gemm(*, quantised):
    g = Graph()
    a = quantise(g, g.input("x", 3, 7), 0.03, 120)
    b = (
        g.const(RNG.integers(-60, 60, (5, 7)), np.int8),
        g.const(RNG.uniform(0.01, 0.02, 5)),
        g.const([0] * 5, np.int8),
    )
    end = byte(g, 0.05, 100) if quantised else ()
    y = g.node("QGemm", *a, *b, g.const(RNG.integers(-300, 300, 5), np.int32), *end, alpha=0.5, transB=1, **MS)
    return g.model(g.node("DequantizeLinear" if quantised else "Identity", y, *end, name="y"))


def matmul(op):
    g = Graph()
    x, w, scale = g.input("x", "n", 3, 7), g.const(RNG.integers(0, 255, (7, 5)), np.uint8), g.const(0.01)
    zero, bias = g.const(130, np.uint8), g.random(5)
    if op == "DynamicQuantizeMatMul":
        return g.model(g.node(op, x, w, scale, zero, bias, name="y", **MS))
    q, s, z = g.node("DynamicQuantizeLinear", x, count=3)
    return g.model(g.node(op, q, w, s, scale, z, zero, bias, name="y", **MS))


def conv(activation, *parameters):
    g = Graph()
    shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    params = {"activation_params": list(parameters)} if parameters else {}
    inputs = (g.input("x", *X), g.random(4, 4, 3, 3), g.random(4), g.random(2, 4, 5, 6))
    return g.model(g.node("FusedConv", *inputs, name="y", activation=activation, **params, **shape, **MS))


def lstm(directions, inputs, hidden, *, channels, dtype=np.int8, lengths="", **attributes):
    """Weights of 7 bits: those of 8 overflow in ONNX Runtime's own sums on processors without VNNI."""
    g = Graph()
    low, high, zero = (-63, 64, 0) if dtype == np.int8 else (0, 256, 125)
    form = (directions, 4 * hidden) if channels else (directions,)
    x = g.input("x", "t", "n", inputs)
    states = [g.input(name, directions, "n", hidden) for name in ("h", "c")]
    w, r = (g.const(RNG.integers(low, high, (directions, size, 4 * hidden)), dtype) for size in (inputs, hidden))
    scales = [
        item
        for _ in range(2)
        for item in (g.const(RNG.uniform(0.5, 1, form) / hidden / 64), g.const(np.full(form, zero), dtype))
    ]
    bias, peepholes = g.random(directions, 8 * hidden, scale=0.3), g.random(directions, 3 * hidden, scale=0.3)
    names = (x, w, r, bias, lengths, *states, peepholes, *scales)
    word = {1: "reverse", 2: "bidirectional"}[directions]
    g.node("DynamicQuantizeLSTM", *names, name="y", count=3, hidden_size=hidden, direction=word, **attributes, **MS)
    return g.model("y_0", "y_1", "y_2")


CASES = {
    "add": (levels_of("QLinearAdd", 2), 0.051),
    "mul": (levels_of("QLinearMul", 2), 0.051),
    "sigmoid": (levels_of("QLinearSigmoid"), 0.051),
    "leaky": (levels_of("QLinearLeakyRelu", alpha=0.2), 0.051),
    "concat": (levels_of("QLinearConcat", 2, axis=1), 0.051),
    "pool": (levels_of("QLinearAveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1), 0.051),
    "mean": (levels_of("QLinearGlobalAveragePool"), 0.051),
    "gemm": (gemm(quantised=True), 0.051),
    "gemm of floats": (gemm(quantised=False), 1e-5),
    "dynamic matmul": (matmul("DynamicQuantizeMatMul"), 1e-5),
    "integer matmul": (matmul("MatMulIntegerToFloat"), 1e-5),
    "conv": (conv("Relu"), 1e-5),
    "conv clip": (conv("Clip", -0.5, 0.75), 1e-5),
    "conv leaky": (conv("LeakyRelu", 0.125), 1e-5),
    "lstm": (lstm(2, 9, 11, channels=False), 1e-6),
    "lstm channels": (lstm(1, 20, 33, channels=True, dtype=np.uint8, input_forget=1), 1e-6),
}
"""A model, and how far a result may be from ONNX Runtime's: a level, or rounding of floats."""


@pytest.mark.parametrize("case", CASES)
def test_beside_onnxruntime(case):
    runtime = pytest.importorskip("onnxruntime")
    model, tolerance = CASES[case]
    rng = np.random.default_rng(1)
    sizes = {"n": 2, "t": 6}
    shapes = {
        item.name: [dim.dim_value or sizes[dim.dim_param] for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
    }
    feeds = {name: rng.uniform(-1.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    net = omniconv.compile(model, strict=True)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1  # with more it rounds the states of each thread's sequences by themselves
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for found, expected in zip(net.run(feeds).values(), session.run(None, feeds), strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)


def test_what_an_operator_does_not_have_is_refused():
    def refuse(error, words, op, *inputs, count=1, **attributes):
        g = Graph()
        x = g.input("x", *X)
        g.node(op, *(x if name == "x" else name for name in inputs), name="y", count=count, **attributes, **MS)
        with pytest.raises(error, match=words):
            omniconv.compile(g.model("y" if count == 1 else "y_0"))

    refuse(ModelError, "9 inputs", "QLinearAdd", *["x"] * 9)
    refuse(ModelError, "2 outputs", "QLinearMul", *["x"] * 8, count=2)
    refuse(ModelError, "attribute 'axis' does not exist", "QLinearAdd", *["x"] * 8, axis=1)
    refuse(ModelError, "left out|inputs", "QLinearSigmoid")
    refuse(ModelError, "activation 'Gelu'", "FusedConv", "x", "x", activation="Gelu")
    refuse(ModelError, "0 parameters of LeakyRelu", "FusedConv", "x", "x", activation="LeakyRelu")
    words = {"activation": "Clip", "activation_params": ["a", "b"]}
    refuse(ModelError, "0 parameters of Clip that are floats; need 2", "FusedConv", "x", "x", **words)
    refuse(ModelError, "zero point of the output is left out", "QLinearAdd", *["x"] * 7)
    refuse(ModelError, "zero point of the output is left out", "QGemm", *["x"] * 8)
    with pytest.raises(ModelError, match="attribute 'beta' does not exist on LeakyRelu"):
        omniconv.compile(levels_of("QLinearLeakyRelu", beta=1.0))
    refuse(UnsupportedError, "com.microsoft.QLinearGlobalAveragePool", "QLinearGlobalAveragePool", "x", channels_last=1)
    refuse(UnsupportedError, "com.microsoft.FusedGemm", "FusedGemm", "x")


def test_sequences_that_end_early_are_refused_with_rounded_states():
    model = lstm(2, 3, 4, channels=False, lengths="lengths")
    model.graph.initializer.append(numpy_helper.from_array(np.int32([2, 3]), "lengths"))
    with pytest.raises(UnsupportedError, match="no sequence_lens"):
        omniconv.compile(model, shapes={"x": (3, 2, 3), "h": (2, 2, 4), "c": (2, 2, 4)}, strict=True)


def test_nothing_is_left_of_the_domain():
    for model, _ in CASES.values():
        assert not any(node.domain == "com.microsoft" for node in load(model).nodes)
