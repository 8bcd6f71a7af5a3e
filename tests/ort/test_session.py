"""Sessions: what they say of a model, and what they return, beside ONNX Runtime's."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from tests.graph.small_models import Graph
from tests.ort.small import conv_net, embedder, face_detector, two_inputs, yolo

import omniconv as oc
from omniconv import ort

theirs = pytest.importorskip("onnxruntime")
theirs.set_default_logger_severity(4)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 5, 4)).astype(np.float32)
K = np.array([3, -4])
FEED = {"x": X, "k": K}


def make(model: onnx.ModelProto, **further) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), **further)


@pytest.fixture(scope="module")
def session():
    return make(two_inputs())


def floats() -> onnx.ModelProto:
    g = Graph()
    return g.model(g.node("Relu", g.input("x", "a", "a", None), name="y"))


MODELS = {
    "two inputs": two_inputs(),
    "old format": two_inputs(ir_version=3),
    "fixed": conv_net(1, 3, 6, 6),
    "named": conv_net("n", 3, "h", "w"),
    "undeclared outputs": conv_net("n", 3, None, 6),
    "faces": face_detector(),
    "embedder": embedder(),
    "yolo": yolo(),
}


def said(item) -> tuple:
    return item.name, item.shape, item.type, str(item)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_said_of_a_model_is_what_onnx_runtime_says(name, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(MODELS[name], path)
    ours, other = ort.InferenceSession(path), theirs.InferenceSession(path)
    for ask in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        assert [said(item) for item in getattr(ours, ask)()] == [said(item) for item in getattr(other, ask)()], ask
    for field in [field for field in dir(other.get_modelmeta()) if not field.startswith("_")]:
        assert getattr(ours.get_modelmeta(), field) == getattr(other.get_modelmeta(), field), field
    assert ours.get_providers() == other.get_providers()
    assert ours.get_provider_options() == other.get_provider_options()
    assert ours.end_profiling() == other.end_profiling() == ""


def test_sizes_that_are_said_are_the_callers_own(session):
    session.get_inputs()[0].shape[0] = 17
    session.get_inputs().clear()
    assert session.get_inputs()[0].shape == ["n", 3, None, "w"]


@pytest.mark.parametrize("names", [None, [], (), ["kk"], ["kk", "y"], ("y", "y")])
def test_outputs_in_the_order_that_is_asked_for(session, names):
    other = theirs.InferenceSession(two_inputs().SerializeToString())
    ours, expected = session.run(names, FEED), other.run(names, FEED)
    assert type(ours) is list
    assert len(ours) == len(expected)
    for one, two in zip(ours, expected):
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)


def test_results_are_new_arrays(session):
    first = session.run(["y", "y", "kk"], FEED)
    copies = [array.copy() for array in first]
    for array in first:
        assert array.flags.owndata or array.base is not None
        assert not any(np.may_share_memory(array, other) for other in (X, K))
    assert not np.may_share_memory(first[0], first[1])
    first[0][...] = np.nan
    assert np.array_equal(session.run(["y"], FEED)[0], copies[0])
    assert np.array_equal(first[1], copies[1])


def test_inputs_of_other_forms(session):
    expected = session.run(["y"], FEED)[0]
    every_second = np.repeat(X, 2, -1)[..., ::2]
    for x in (X.tolist(), ort.OrtValue.ortvalue_from_numpy(X), every_second, memoryview_like(X)):
        for k in (K, K.tolist(), ort.OrtValue.ortvalue_from_numpy(K)):
            y, kk = session.run(None, {"x": x, "k": k})
            assert np.array_equal(y, expected)
            assert np.array_equal(kk, K)
    values = {"x": ort.OrtValue.ortvalue_from_numpy(X), "k": ort.OrtValue.ortvalue_from_numpy(K)}
    found = session.run_with_ort_values(["kk", "y"], values)
    assert [value.data_type() for value in found] == ["tensor(int64)", "tensor(float)"]
    assert np.array_equal(found[1], expected)


def memoryview_like(x: np.ndarray):
    """Something that has nothing but ``__dlpack__``."""

    class Foreign:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    return Foreign()


def test_constants_that_may_be_given(session):
    other = theirs.InferenceSession(two_inputs().SerializeToString())
    for scale in (np.float32([3]), np.float32([-0.5]), np.float32([3])):
        feed = FEED | {"scale": scale}
        assert np.array_equal(session.run(["y"], feed)[0], other.run(["y"], feed)[0])
    assert np.array_equal(session.run(["y"], FEED)[0], other.run(["y"], FEED)[0])
    assert len(session._overridden) == 2
    for number in range(5, 11):
        session.run(["y"], FEED | {"scale": np.float32([number])})
    assert len(session._overridden) == 4
    assert np.array_equal(session.run(["y"], FEED | {"scale": np.float32([3])})[0], 3 * X)


def test_a_constant_from_the_options():
    options = ort.SessionOptions()
    value = np.float32([9])
    options.add_initializer("scale", ort.OrtValue.ortvalue_from_numpy(value))
    found = make(two_inputs(), sess_options=options)
    value[0] = 1
    assert np.array_equal(found.run(["y"], FEED)[0], 9 * X)


def test_sizes_that_options_fix():
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 2)
    options.add_free_dimension_override_by_denotation("DATA_FEATURE", 4)
    model = two_inputs()
    model.graph.input[0].type.tensor_type.shape.dim[3].denotation = "DATA_FEATURE"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = ""
    found = make(model, sess_options=options)
    assert found.get_inputs()[0].shape == [2, 3, None, 4]
    assert found.get_outputs()[0].shape[0] == 2
    assert np.array_equal(found.run(["y"], FEED)[0], 2 * X)
    with pytest.raises(theirs.capi.onnxruntime_pybind11_state.InvalidArgument, match="need 2 instead of 1"):
        found.run(["y"], FEED | {"x": X[:1]})


def test_sizes_of_one_name_need_not_be_equal():
    found, other = make(floats()), theirs.InferenceSession(floats().SerializeToString())
    for shape in ((2, 3, 4), (3, 2, 1), (2, 2, 5)):
        x = RNG.standard_normal(shape).astype(np.float32)
        assert np.array_equal(found.run(None, {"x": x})[0], np.maximum(x, 0))
    assert np.array_equal(found.run(None, {"x": x})[0], other.run(None, {"x": x})[0])


def test_a_model_of_doubles_is_computed_in_doubles():
    g = Graph()
    x = g.input("x", 2, 3, dtype=onnx.TensorProto.DOUBLE)
    w = g.const(RNG.standard_normal((3, 4)), np.float64)
    model = g.model(g.node("MatMul", x, w, name="y"), y=onnx.TensorProto.DOUBLE)
    x = RNG.standard_normal((2, 3))
    (y,) = make(model).run(None, {"x": x})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, x @ onnx.numpy_helper.to_array(model.graph.initializer[0]), rtol=1e-14)


def test_threads_are_those_of_compile():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    model = conv_net(1, 3, 6, 6)
    two, default = make(model, sess_options=options), make(model)
    assert two.network.threads == 2
    assert default.network.threads == oc.compile(model.SerializeToString()).threads
    options.intra_op_num_threads = 1
    assert two.get_session_options().intra_op_num_threads == 2
    x = RNG.standard_normal((1, 3, 6, 6)).astype(np.float32)
    for one, other in zip(two.run(None, {"x": x}), default.run(None, {"x": x})):
        assert np.array_equal(one, other)


def test_many_callers_get_the_same_bits():
    found = make(conv_net("n", 3, "h", "w"))
    inputs = [RNG.standard_normal((1, 3, 5 + size % 3, 7)).astype(np.float32) for size in range(6)]
    expected = [found.run(None, {"x": x}) for x in inputs]
    wrong = []

    def call(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 6, 30):
            for one, other in zip(found.run(None, {"x": inputs[index]}), expected[index]):
                if not np.array_equal(one, other):
                    wrong.append(index)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(8)))
    assert wrong == []


def test_a_run_in_another_thread(session):
    done, got = threading.Event(), []

    def callback(results, data, error):
        got.append((results, data, error, threading.current_thread() is threading.main_thread()))
        done.set()

    session.run_async(["kk"], FEED, callback, "mine")
    assert done.wait(20)
    done.clear()
    session.run_async(["kk"], {"x": X}, callback, None)
    assert done.wait(20)
    (results, data, error, main), failed = got
    assert (data, error, main) == ("mine", "", False)
    assert np.array_equal(results[0], K)
    assert failed[0] == []
    assert "['k'] are missing" in failed[2]


def test_what_runs_on_the_host_is_warned_of():
    g = Graph()
    model = g.model(g.node("NonZero", g.input("x", 4), name="y"), y=onnx.TensorProto.INT64)
    with pytest.warns(oc.HostWarning, match="NonZero"):
        found = make(model)
    assert found.get_outputs()[0].type == "tensor(int64)"
    assert found.run(None, {"x": np.float32([0, 2, 0, 1])})[0].tolist() == [[1, 3]]


class Reopened(ort.InferenceSession):
    """As insightface has it."""

    def __init__(self, path, **further) -> None:
        super().__init__(path, **further)
        self.path = path

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, values) -> None:
        self.__init__(values["path"])


def test_a_subclass_that_opens_its_model_again_is_pickled(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(two_inputs(), path)
    session = Reopened(path, providers=["CPUExecutionProvider"])
    # By importlib, tests are no modules that pickle would find by name.
    make, arguments, state = session.__reduce_ex__(4)
    again = make(*arguments)
    again.__setstate__(state)
    assert np.array_equal(again.run(["y"], FEED)[0], session.run(["y"], FEED)[0])
    assert isinstance(again, Reopened)
    assert isinstance(again, theirs.InferenceSession)


def test_a_session_is_pickled_with_its_network(session):
    again = pickle.loads(pickle.dumps(session))
    assert type(again) is type(session)
    assert repr(again) == repr(session)
    assert "InferenceSession <Network x float32" in repr(session)
    for name in ("inputs", "outputs", "providers", "overridable_initializers"):
        assert getattr(again, f"get_{name}")() == getattr(session, f"get_{name}")()
    assert vars(again.get_modelmeta()) == vars(session.get_modelmeta())
    assert vars(again.get_session_options()) == vars(session.get_session_options())
    for more in ({}, {"scale": np.float32([3])}):
        assert np.array_equal(again.run(["y"], FEED | more)[0], session.run(["y"], FEED | more)[0])
