"""LSTM, GRU and RNN of ONNX and of PyTorch, compiled; wrong and unsupported nodes are refused."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.graph.onnx_cases import node_cases
from tests.program_oracle import run_program

import omniconv as oc
from omniconv.errors import LimitError, ModelError, UnsupportedError
from omniconv.graph import to_program
from omniconv.program.steps import DenseStep, RecurrentStep

OPERATORS = {"LSTM", "GRU", "RNN"}
CASES = [case for case in node_cases() if {node.op_type for node in case.model.graph.node} & OPERATORS]


def run_compiled(model, inputs, constants):
    """What a compiled network gives."""
    shapes = {name: array.shape for name, array in inputs.items()}
    return oc.compile(model, shapes=shapes, constants=constants).run(inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_of_onnx(case):
    case.check(run_compiled)


def test_there_are_cases_of_every_sort():
    assert len(CASES) >= 18
    for part in ("lstm", "gru", "rnn", "bidirectional", "reverse", "batchwise", "seq_length", "peepholes"):
        assert any(part in case.name for case in CASES), part


def model(op="LSTM", times=3, batch=2, inputs=4, hidden=5, *, x=None, changes=None, given=(), **attributes):
    """One node with all its constants; ``changes`` puts others in their places, ``given`` names values instead."""
    rng = np.random.default_rng(0)
    width = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * hidden
    arrays = {"w": (1, width, inputs), "r": (1, width, hidden), "b": (1, 2 * width), "h": (1, batch, hidden)}
    if op == "LSTM":
        arrays |= {"c": (1, batch, hidden), "p": (1, 3 * hidden)}
    constants = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    constants["n"] = np.full(batch, times, np.int32)
    constants |= changes or {}
    names = ["x", "w", "r", "b", "n", "h", *(("c", "p") if op == "LSTM" else ())]
    node = helper.make_node(op, names, ["y"], name="cell", **{"hidden_size": hidden, **attributes})
    values = {"x": x or (times, batch, inputs), **{name: constants.pop(name).shape for name in given}}
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_lengths_that_are_all_times_are_no_lengths():
    steps = to_program(model()).steps
    assert next(step for step in steps if isinstance(step, RecurrentStep)).lengths is None
    assert sum(isinstance(step, DenseStep) for step in steps) == 1


WRONG = [
    (ModelError, "weights R have shape", {"changes": {"r": np.zeros((1, 20, 4), np.float32)}}),
    (ModelError, "weights W have shape", {"changes": {"w": np.zeros((2, 20, 4), np.float32)}}),
    (ModelError, "hidden_size=6", {"hidden_size": 6}),
    (ModelError, "hidden_size=0", {"hidden_size": 0}),
    (ModelError, "hidden_size=-5", {"hidden_size": -5}),
    (ModelError, "bias B has shape", {"changes": {"b": np.zeros((1, 20), np.float32)}}),
    (ModelError, "peepholes P has shape", {"changes": {"p": np.zeros((1, 20), np.float32)}}),
    (ModelError, "initial_h has shape", {"changes": {"h": np.zeros((1, 1, 5), np.float32)}}),
    (ModelError, "initial_c has shape", {"changes": {"c": np.zeros((2, 1, 5), np.float32)}}),
    (ModelError, "the input X has shape", {"x": (3, 2, 2, 2)}),
    (ModelError, "sequence_lens=", {"changes": {"n": np.array([1, 4], np.int32)}}),
    (ModelError, "sequence_lens=", {"changes": {"n": np.array([-1, 3], np.int32)}}),
    (ModelError, "sequence_lens=", {"changes": {"n": np.array([3], np.int32)}}),
    (UnsupportedError, "a sequence of no times", {"changes": {"n": np.array([0, 3], np.int32)}}),
    (ModelError, "direction='up'", {"direction": "up"}),
    (ModelError, "layout=2", {"layout": 2}),
    (ModelError, "input_forget=3", {"input_forget": 3}),
    (ModelError, "clip=-1.0", {"clip": -1.0}),
    (ModelError, "clip=nan", {"clip": float("nan")}),
    (ModelError, "2 activations", {"activations": ["Tanh", "Tanh"]}),
    (ModelError, "activation 'Sine'", {"activations": ["Sine", "Tanh", "Tanh"]}),
    (UnsupportedError, "activation 'Softsign'", {"activations": ["Softsign", "Tanh", "Tanh"]}),
    (ModelError, "activation_alpha has 2 values, 1 activations",
     {"activations": ["LeakyRelu", "Tanh", "Tanh"], "activation_alpha": [0.1, 0.2]}),
    (UnsupportedError, "weights W is computed while the model runs", {"given": ("w",)}),
    (UnsupportedError, "weights R is computed while the model runs", {"given": ("r",)}),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "words", "how"), WRONG, ids=lambda item: item if isinstance(item, str) else "")
def test_what_is_wrong_or_not_covered_is_refused(fault, words, how):
    with pytest.raises(fault, match=words):
        to_program(model(**how))


def test_sizes_are_checked_before_memory_is_taken():
    with pytest.raises(LimitError):
        to_program(model(times=2**20, inputs=64, hidden=64, given=("h", "c"), changes={
            "h": np.zeros((1, 2, 64), np.float32), "c": np.zeros((1, 2, 64), np.float32),
        }), memory_limit=2**28)  # fmt: skip


def test_weights_may_be_bound():
    given = model(given=("w", "r"))
    plain = {item.name: numpy_helper.to_array(item) for item in model().graph.initializer}
    x = np.random.default_rng(3).normal(size=(3, 2, 4)).astype(np.float32)
    bound = oc.compile(given, constants={name: plain[name] for name in ("w", "r")})
    np.testing.assert_array_equal(bound.run({"x": x})["y"], oc.compile(model()).run({"x": x})["y"])


torch = pytest.importorskip("torch")
nn = torch.nn


class Recogniser(nn.Module):
    """Columns of a line of text as times of two layers in both directions."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.lstm = nn.LSTM(64, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(48, 11)

    def forward(self, x):
        y = torch.max_pool2d(torch.relu(self.a(x)), 2)
        y = torch.max_pool2d(torch.relu(self.norm(self.b(y))), 2)
        y = y.flatten(1, 2).transpose(1, 2)
        return self.out(self.lstm(y)[0]).log_softmax(-1)


class Detector(nn.Module):
    """A frame at a time, with states that the caller carries."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm, self.out = nn.Conv1d(4, 16, 3, padding=1), nn.LSTM(16, 20, num_layers=2), nn.Linear(20, 1)

    def forward(self, x, h, c):
        y = torch.relu(self.conv(x)).mean(-1)
        y, (h, c) = self.lstm(y[None], (h, c))
        return torch.sigmoid(self.out(y[0])), h, c


class Stack(nn.Module):
    """Layers of one sort, with all that they give."""

    def __init__(self, kind, **more):
        super().__init__()
        self.layer = kind(6, 9, **more)

    def forward(self, x):
        y, states = self.layer(x)
        return (y, *states) if isinstance(states, tuple) else (y, states)


MODULES = {
    "recogniser": (Recogniser, [(2, 1, 16, 40)]),
    "detector": (Detector, [(1, 4, 12), (2, 1, 20), (2, 1, 20)]),
    "lstm": (lambda: Stack(nn.LSTM, num_layers=3), [(7, 3, 6)]),
    "lstm both ways, batch first": (
        lambda: Stack(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True), [(3, 7, 6)]
    ),
    "gru": (lambda: Stack(nn.GRU, num_layers=2, bidirectional=True), [(5, 2, 6)]),
    "gru, no bias": (lambda: Stack(nn.GRU, bias=False, batch_first=True), [(2, 5, 6)]),
    "rnn": (lambda: Stack(nn.RNN, num_layers=2, batch_first=True), [(2, 5, 6)]),
    "rnn of relu": (lambda: Stack(nn.RNN, nonlinearity="relu", bidirectional=True), [(5, 1, 6)]),
}  # fmt: skip


def export(module, inputs, dynamo):
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if dynamo:
                pytest.importorskip("onnxscript")
                return torch.onnx.export(module, inputs, dynamo=True, verbose=False).model_proto
            room = io.BytesIO()
            torch.onnx.export(module, inputs, room, dynamo=False, opset_version=17)
            return onnx.load_from_string(room.getvalue())
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "traced"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_of_pytorch(name, dynamo):
    torch.manual_seed(0)
    make, shapes = MODULES[name]
    module = make().eval()
    inputs = tuple(torch.randn(shape) for shape in shapes)
    exported = export(module, inputs, dynamo)
    network = oc.compile(exported, shapes=dict(zip(names_of(exported), shapes, strict=True)), threads=2)
    feeds = {name: x.numpy() for name, x in zip(network.inputs, inputs, strict=True)}
    got = list(network.run(feeds).values())
    with torch.no_grad():
        wanted = module.double()(*(x.double() for x in inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    exact = run_program(to_program(exported, shapes={k: x.shape for k, x in feeds.items()}), feeds).values()
    for y, reference, want in zip(got, exact, wanted, strict=True):
        assert y.shape == tuple(want.shape)
        # The program in float64 differs from PyTorch by the rounding of constants that were folded.
        np.testing.assert_allclose(reference, want.numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(y, want.numpy(), rtol=1e-5, atol=1e-5)


def names_of(exported):
    initialised = {item.name for item in exported.graph.initializer}
    return [info.name for info in exported.graph.input if info.name not in initialised]
