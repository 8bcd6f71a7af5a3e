"""LSTM, GRU and RNN of ONNX, compiled; wrong and unsupported nodes are refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.graph.onnx_cases import node_cases

import omniconv as oc
from omniconv.errors import HostWarning, LimitError, ModelError, UnsupportedError
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
    kinds = {"n": TensorProto.INT32}
    infos = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape) for name, shape in values.items()
    ]
    graph = helper.make_graph(
        [node],
        "g",
        infos,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
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
        to_program(
            model(
                times=2**20,
                inputs=64,
                hidden=64,
                given=("h", "c"),
                changes={
                    "h": np.zeros((1, 2, 64), np.float32),
                    "c": np.zeros((1, 2, 64), np.float32),
                },
            ),
            memory_limit=2**28,
        )


def test_weights_may_be_bound():
    given = model(given=("w", "r"))
    plain = {item.name: numpy_helper.to_array(item) for item in model().graph.initializer}
    x = np.random.default_rng(3).normal(size=(3, 2, 4)).astype(np.float32)
    bound = oc.compile(given, constants={name: plain[name] for name in ("w", "r")})
    np.testing.assert_array_equal(bound.run({"x": x})["y"], oc.compile(model()).run({"x": x})["y"])


@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_lengths_may_be_computed(op):
    """They are constants of what is compiled for a call."""
    x = np.random.default_rng(3).normal(size=(3, 2, 4)).astype(np.float32)
    with pytest.warns(HostWarning):
        net = oc.compile(model(op, given=("n",)))
    for lengths in ([3, 3], [1, 3], [3, 2]):
        n = np.array(lengths, np.int32)
        want = oc.compile(model(op, changes={"n": n})).run({"x": x})["y"]
        np.testing.assert_array_equal(net.run({"x": x, "n": n})["y"], want)
    with pytest.raises(UnsupportedError, match=r"sequence_lens of 0 to 3 on the host; need .* lengths from 1"):
        net.run({"x": x, "n": np.array([0, 3], np.int32)})
    with pytest.raises(ModelError, match="sequence_lens="):
        net.run({"x": x, "n": np.array([4, 3], np.int32)})


@pytest.mark.filterwarnings("ignore::omniconv.HostWarning")
@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_the_host_refuses_what_its_implementation_passes_over(op):
    """Computed weights are for the host, which knows neither lengths nor clips nor most activations."""
    x = np.random.default_rng(3).normal(size=(3, 2, 4)).astype(np.float32)
    w = numpy_helper.to_array(next(item for item in model(op).graph.initializer if item.name == "w"))
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
    net = oc.compile(model(op, given=("w", "n"), activations=usual))
    n = np.array([3, 3], np.int32)
    want = oc.compile(model(op)).run({"x": x})["y"]
    np.testing.assert_allclose(net.run({"x": x, "w": w, "n": n})["y"], want, rtol=0, atol=1e-5)
    with pytest.raises(UnsupportedError, match="sequence_lens of 2 to 3 on the host"):
        net.run({"x": x, "w": w, "n": np.array([3, 2], np.int32)})
    for more in ({"clip": 0.5}, {"activations": ["Relu", *usual[1:]]}, {"input_forget": 1} if op == "LSTM" else {}):
        if more:
            with pytest.raises(UnsupportedError, match="leaves out clips"):
                oc.compile(model(op, given=("w",), **more))
