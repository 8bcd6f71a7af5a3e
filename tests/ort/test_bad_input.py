"""What is wrong is said by Omniconv, in exceptions that handlers written for ONNX Runtime catch."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.ort.small import two_inputs

from omniconv import ort
from omniconv.errors import DataError, OmniconvError
from omniconv.ort import failures
from omniconv.ort.capi import onnxruntime_pybind11_state as kinds
from omniconv.runtime.container import MAGIC

theirs = pytest.importorskip("onnxruntime")
theirs.set_default_logger_severity(4)
state = theirs.capi.onnxruntime_pybind11_state

X = np.ones((1, 3, 2, 2), np.float32)
K = np.ones(2, np.int64)
FEED = {"x": X, "k": K}
MODEL = two_inputs().SerializeToString()

RUNS = {
    "output that is not there": (["q"], FEED, "output 'q' is unknown; need one of 'y', 'kk'"),
    "output that is no name": ([1], FEED, r"output_names holds a int; need names, e.g. \['y', 'kk'\]"),
    "outputs as one text": ("y", FEED, "output_names is a str; need a list of names"),
    "missing": (None, {"x": X}, r"inputs \['k'\] are missing from \['x'\]; need all of \['k', 'x'\]"),
    "misspelt": (None, {"X": X, "k": K}, r"inputs \['x'\] are missing"),
    "one too many": (None, FEED | {"q": X}, r"inputs \['q'\] are unknown"),
    "float64": (None, FEED | {"x": X.astype(float)}, "input 'x' has dtype float64; need float32, e.g. x.astype"),
    "float16": (None, FEED | {"x": X.astype(np.float16)}, "input 'x' has dtype float16; need float32"),
    "int32": (None, FEED | {"k": K.astype(np.int32)}, "input 'k' has dtype int32; need int64"),
    "bool": (None, FEED | {"k": K.astype(bool)}, "input 'k' has dtype bool; need int64"),
    "rank": (None, FEED | {"x": X[0]}, r"shape \(3, 2, 2\) has 3 axes; need 4 axes"),
    "fixed size": (None, FEED | {"x": np.ones((1, 4, 2, 2), np.float32)}, "changes a fixed size; need 3 instead of 4"),
    "length": (None, FEED | {"k": np.ones(3, np.int64)}, "changes a fixed size; need 2 instead of 3"),
    "constant of another shape": (None, FEED | {"scale": np.ones(2, np.float32)}, r"need float32 of shape \(1,\)"),
    "text": (None, FEED | {"k": "ab"}, "input 'k' is a str; need a NumPy array"),
    "number": (None, FEED | {"k": 3}, "input 'k' is a int; need a NumPy array"),
    "lists of unequal length": (None, FEED | {"k": [[1], [2, 3]]}, "input 'k' is no array"),
}
STRICTER = {
    "None": (None, FEED | {"k": None}, "input 'k' is a NoneType; need a NumPy array"),
    "floats for integers": (None, FEED | {"k": [1.5, 2]}, "input 'k' holds numbers that are no int64"),
    "too large": (None, FEED | {"k": [2**70, 2]}, "input 'k' is object; need int64"),
    "other bytes": (None, FEED | {"x": X.astype(">f4")}, "input 'x' has dtype >f4; need float32"),
    "objects": (None, FEED | {"k": np.array([None, 1])}, "input 'k' has dtype object; need int64"),
    "no names": (None, [X, K], "input_feed is a list; need arrays by name"),
    "no feed": (None, None, "input_feed is a NoneType; need arrays by name"),
}
"""What ONNX Runtime takes, computes nonsense of, or fails on by accident."""


@pytest.fixture(scope="module")
def sessions():
    return ort.InferenceSession(MODEL), theirs.InferenceSession(MODEL)


@pytest.mark.parametrize("name", RUNS)
def test_runs_raise_what_handlers_catch(sessions, name):
    names, feed, words = RUNS[name]
    ours, other = sessions
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
        other.run(names, feed)
    with pytest.raises(expected.type, match=words) as found:
        ours.run(names, feed)
    assert isinstance(found.value, OmniconvError)
    assert not isinstance(found.value, AssertionError)
    assert np.array_equal(ours.run(["y"], FEED)[0], 2 * X)


@pytest.mark.parametrize("name", STRICTER)
def test_runs_refuse_what_has_no_answer(sessions, name):
    names, feed, words = STRICTER[name]
    with pytest.raises((kinds.InvalidArgument, DataError), match=words):
        sessions[0].run(names, feed)


def edited(edit) -> bytes:
    model = two_inputs()
    edit(model)
    return model.SerializeToString()


FILES = {
    "no file": ("nowhere.onnx", kinds.NoSuchFile, "there is no file .*nowhere.onnx"),
    "folder": (".", kinds.InvalidProtobuf, "the path is not a regular file"),
    "junk": (b"junk junk", kinds.InvalidProtobuf, "the data is not an ONNX model"),
    "truncated": (MODEL[:-30], kinds.InvalidProtobuf, "the data is not an ONNX model, or is cut short"),
    "value that nobody makes": (
        edited(lambda m: m.graph.node[0].input.__setitem__(0, "zz")), kinds.InvalidGraph, "input 'zz' is not defined",
    ),
    "nothing": (b"", kinds.InvalidProtobuf, "the model holds no graph"),
    "a saved network": (MAGIC + bytes(120), kinds.NotImplemented, r"saved network.*e\.g\. omniconv\.load"),
    "ONNX Runtime's format": (b"\0\0\0\0ORTM" + bytes(40), kinds.NotImplemented, "ONNX Runtime's own format"),
    "operator": (
        edited(lambda m: m.graph.node[0].__setattr__("op_type", "Nope")), kinds.NotImplemented, "operator Nope",
    ),
    "opset": (edited(lambda m: m.opset_import[0].__setattr__("version", 99)), kinds.NotImplemented, "opset 99"),
    "model": (two_inputs(), DataError, "a ModelProto; need a path, or the bytes of a file, e.g. model.Serialize"),
    "None": (None, DataError, "the model is a NoneType"),
}  # fmt: skip
SAME = {"no file", "folder", "junk", "truncated", "model", "None"}
"""Where ONNX Runtime raises the exception of the same name."""


@pytest.mark.parametrize("name", FILES)
def test_models_that_are_none(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, kind, words = FILES[name]
    with pytest.raises(kind, match=words) as found:
        ort.InferenceSession(model)
    if name in SAME:
        with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever it is
            theirs.InferenceSession(model)
        assert isinstance(found.value, expected.type)


def test_a_file_cut_at_any_place_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.onnx"
    for end in range(0, len(MODEL), 37):
        path.write_bytes(MODEL[:end])
        with pytest.raises(kinds.InvalidProtobuf):
            ort.InferenceSession(str(path))


def test_more_memory_than_allowed(monkeypatch):
    monkeypatch.setenv("OMNICONV_MEMORY_LIMIT", "300")
    with pytest.raises(state.RuntimeException, match="at most 300 bytes"):
        ort.InferenceSession(MODEL)
    with pytest.raises(state.RuntimeException, match="above the limit"):
        ort.OrtValue.ortvalue_from_shape_and_type([10**6, 10**6], np.float32)


def test_a_value_that_an_operator_forbids():
    g = Graph()
    g.node("Gather", g.input("x", 4, 2), g.input("k", 1, dtype=onnx.TensorProto.INT64), name="y")
    with pytest.warns(UserWarning, match="Gather"):
        session = ort.InferenceSession(g.model("y").SerializeToString())
    with pytest.raises(state.InvalidArgument, match="7"):
        session.run(None, {"x": np.ones((4, 2), np.float32), "k": np.array([7])})


PROVIDERS = {
    "text": ("CPUExecutionProvider", None, "providers is a str; need a list"),
    "number": (3, None, "providers is a int"),
    "numbers": ([3], None, "providers holds 3; need names, or pairs"),
    "options without providers": (["CPUExecutionProvider"], [{}, {}], "provider_options does not fit providers"),
    "options that are none": (None, 3, "provider_options is no list of dicts"),
    "options twice": ([("CPUExecutionProvider", {})], [{}], "options stand in providers and in provider_options"),
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_providers_of_no_form(name):
    providers, options, words = PROVIDERS[name]
    with pytest.raises(ValueError, match=words):
        ort.InferenceSession(MODEL, providers=providers, provider_options=options)


@pytest.mark.parametrize("names", [["CUDAExecutionProvider"], [("Nobody", {"a": 1}), "CPUExecutionProvider"]])
def test_providers_that_are_missing_are_named(names):
    with pytest.warns(UserWarning, match=r"execution providers '(CUDAExecutionProvider|Nobody)' are not available"):
        session = ort.InferenceSession(MODEL, providers=names)
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.warns(UserWarning, match="not available"):
        session.set_providers(names)


def test_options_of_others_are_refused():
    with pytest.raises(DataError, match=r"sess_options is a onnxruntime.*need omniconv.ort.SessionOptions, e.g. omni"):
        ort.InferenceSession(MODEL, theirs.SessionOptions())
    with pytest.raises(DataError, match=r"run_options is a builtins\.int"):
        ort.InferenceSession(MODEL).run(None, FEED, 3)
    with pytest.warns(UserWarning, match="arguments provider are not known"):
        ort.InferenceSession(MODEL, provider="CPUExecutionProvider", enable_fallback=0)


def test_every_exception_is_caught_by_both_names():
    for name in kinds.__all__:
        ours, other = getattr(kinds, name), getattr(state, name)
        error = failures.fail(ours, "problem", need="rule")
        assert isinstance(error, ours)
        assert isinstance(error, other)
        assert str(error) == "problem; need rule"
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.need, str(again)) == (ours, "rule", str(error))
        assert str(copy.copy(error)) == str(error)
    there = {name: kind for name, kind in vars(state).items() if isinstance(kind, type)}
    assert {name for name, kind in there.items() if issubclass(kind, Exception)} == set(kinds.__all__)


def test_exceptions_without_onnx_runtime(monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "onnxruntime.capi.onnxruntime_pybind11_state")
    assert type(failures.fail(kinds.Fail, "problem")) is kinds.Fail
    assert isinstance(kinds, ModuleType)
