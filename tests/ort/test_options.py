"""Options of sessions and runs: used, meaningless, or refused; nothing is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.ort.small import conv_net, two_inputs

import omniconv
from omniconv import ort
from omniconv.errors import DataError, OmniconvError
from omniconv.ort.capi import onnxruntime_pybind11_state as kinds
from omniconv.ort.option_table import NOTHING, REFUSED, USED

MODEL = two_inputs().SerializeToString()
FEED = {"x": np.ones((1, 3, 2, 2), np.float32), "k": np.ones(2, np.int64)}
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "sessions.md"
OTHER = {bool: lambda old: not old, int: lambda old: old + 3, str: lambda old: old + "x"}


def change(default):
    """Another value of the type of a default."""
    if type(default) in OTHER:
        return OTHER[type(default)](default)
    return next(item for item in type(default) if item is not default)


@pytest.mark.parametrize(("kind", "table"), [(ort.SessionOptions, ort.OPTIONS), (ort.RunOptions, ort.RUN_OPTIONS)])
def test_the_table_says_what_becomes_of_each_option(kind, table):
    options = kind()
    for name, item in table.items():
        assert getattr(options, name) == item.default
        if item.effect == REFUSED:
            with pytest.raises(kinds.NotImplemented, match=f"option {name}="):
                setattr(options, name, change(item.default))
        else:
            setattr(options, name, change(item.default))
            assert getattr(options, name) == change(item.default)
        setattr(options, name, item.default)
        with pytest.raises((DataError, kinds.InvalidArgument), match=name):
            setattr(options, name, [1])
    with pytest.raises(AttributeError, match="has no option 'nonsense'; need one of "):
        options.nonsense = 3
    assert set(table) == {name for name in kind.__annotations__ if name[0] != "_"}
    assert {item.effect for item in table.values()} <= {USED, NOTHING, REFUSED}


def test_the_table_is_onnx_runtimes():
    theirs = pytest.importorskip("onnxruntime")
    for kind, other in ((ort.SessionOptions, theirs.SessionOptions), (ort.RunOptions, theirs.RunOptions)):
        there = {name for name in dir(other()) if not name.startswith("_") and not callable(getattr(other(), name))}
        table = ort.OPTIONS if kind is ort.SessionOptions else ort.RUN_OPTIONS
        assert set(table) == there
        for name, item in table.items():
            default = getattr(other(), name)
            assert item.default == default or int(item.default) == int(default)
    methods = {name for name in dir(theirs.SessionOptions) if not name.startswith("_")} - set(ort.OPTIONS)
    missing = "clear_ep_context_data_read_func set_ep_context_data_read_func set_provider_selection_policy_delegate"
    assert methods - set(dir(ort.SessionOptions)) == set(missing.split())
    for name in ("ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel", "OrtExecutionProviderDevicePolicy"):
        ours = {item.name: int(item) for item in getattr(ort, name)}
        assert ours == {key: int(value) for key, value in getattr(theirs, name).__members__.items()}
    options = ort.SessionOptions()
    options.graph_optimization_level = theirs.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.graph_optimization_level is ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert str(options.graph_optimization_level) == "GraphOptimizationLevel.ORT_ENABLE_BASIC"


def test_the_guide_has_the_table():
    text = GUIDE.read_text(encoding="utf-8")
    for name, item in {**ort.OPTIONS, **ort.RUN_OPTIONS}.items():
        assert f"`{name}`" in text, name
        assert item.effect in text


@pytest.mark.parametrize(
    "ask",
    [
        lambda o: o.register_custom_ops_library("ops.so"),
        lambda o: o.add_external_initializers(["w"], []),
        lambda o: o.add_external_initializers_from_files_in_memory(["w"], [], []),
        lambda o: o.add_provider_for_devices([], {}),
        lambda _: ort.RunOptions().add_active_adapter(None),
        lambda _: ort.register_execution_provider_library("Mine", "mine.so"),
        lambda _: ort.OrtDevice.make("cuda", 0),
    ],
)
def test_what_cannot_be_honoured_is_refused(ask):
    with pytest.raises(kinds.NotImplemented, match="need "):
        ask(ort.SessionOptions())


def test_entries_that_are_not_known_are_named():
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.warns(UserWarning, match=r"entry 'session.set_denormal_as_zero' is not known here and changes nothing"):
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    with pytest.raises(RuntimeError, match="there is no configuration entry 'c'"):
        options.get_session_config_entry("c")
    with pytest.raises(TypeError, match="need texts"):
        options.add_session_config_entry("ep.a", 3)
    run = ort.RunOptions()
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    assert run.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"


def test_an_entry_says_what_values_are_kept_in():
    model, options = conv_net(1, 3, 8, 8), ort.SessionOptions()
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    exact, _ = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    options.add_session_config_entry("omniconv.precision", "bfloat16")
    session = ort.InferenceSession(model.SerializeToString(), options)
    rounded, _ = session.run(None, {"x": x})
    np.testing.assert_array_equal(rounded, omniconv.compile(model, precision="bfloat16").run({"x": x})["y"])
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()
    with pytest.raises(kinds.InvalidArgument, match="precision is 'int4'; need one of float32, bfloat16"):
        options.add_session_config_entry("omniconv.precision", "int4")


def test_providers_of_the_options():
    options = ort.SessionOptions()
    assert not options.has_providers()
    options.add_provider("CPUExecutionProvider", {})
    assert options.has_providers()
    with pytest.warns(UserWarning, match="'XnnpackExecutionProvider' are not available"):
        options.add_provider("XnnpackExecutionProvider", {})
    options.set_provider_selection_policy(ort.OrtExecutionProviderDevicePolicy.MAX_PERFORMANCE)


def test_what_is_called_off():
    options, run = ort.SessionOptions(), ort.RunOptions()
    options.set_load_cancellation_flag(True)
    with pytest.raises(kinds.ModelLoadCanceled, match="called off"):
        ort.InferenceSession(MODEL, options)
    options.set_load_cancellation_flag(False)
    session = ort.InferenceSession(MODEL, options)
    run.terminate = True
    with pytest.raises(kinds.Fail, match="called off by its options"):
        session.run(None, FEED, run)
    run.terminate = False
    assert len(session.run(None, FEED, run)) == 2


def test_sizes_and_constants_that_do_not_fit():
    options = ort.SessionOptions()
    for add in (options.add_free_dimension_override_by_name, options.add_free_dimension_override_by_denotation):
        with pytest.raises(OmniconvError, match="size=0 is out of range"):
            add("n", 0)
        with pytest.raises(TypeError, match="3; need a text"):
            add(3, 1)
    with pytest.raises(TypeError, match="need an OrtValue"):
        options.add_initializer("scale", np.ones(1))
    for name, value in (("nothing", np.ones(1, np.float32)), ("scale", np.ones(2, np.float32)), ("scale", np.ones(1))):
        options = ort.SessionOptions()
        options.add_initializer(name, ort.OrtValue.ortvalue_from_numpy(value))
        with pytest.raises(kinds.InvalidArgument, match=r"need the name of one|as the model has it"):
            ort.InferenceSession(MODEL, options)


def test_what_holds_for_the_process():
    theirs = pytest.importorskip("onnxruntime")
    assert ort.get_device() == theirs.get_device()
    assert ort.get_available_providers() == ort.get_all_providers() == ["CPUExecutionProvider"]
    assert ort.get_version_string() == ort.__version__ == theirs.__version__
    assert "Omniconv" in ort.get_build_info()
    assert ort.get_ep_devices() == []
    assert not ort.has_collective_ops()
    ort.set_default_logger_severity(3)
    ort.set_default_logger_verbosity(0)
    ort.set_seed(-1)
    ort.enable_telemetry_events()
    ort.disable_telemetry_events()
    ort.preload_dlls(cuda=False)
    with pytest.raises(kinds.InvalidArgument, match="severity=9"):
        ort.set_default_logger_severity(9)
