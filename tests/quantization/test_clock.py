"""Precisions of layers: what the clock chooses, weights in bfloat16, and files of all three that others load."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.errors import UnsupportedError
from omniconv.graph.load import load
from omniconv.program.bfloat16 import is_bfloat16, narrow, round_to_bfloat16
from omniconv.program.rewrite import with_labels
from omniconv.quantization import QuantOptions, clock, quantize_with_report
from omniconv.quantization.clock import time_steps

X = np.random.default_rng(3).standard_normal((4, 3, 8, 8)).astype(np.float32)


def network() -> onnx.ModelProto:
    """Three convolutions, the first with an activation that its kernel computes in floats, and a dense layer."""
    g = Graph()
    x = g.node("HardSwish", g.conv(g.input("x", 1, 3, 8, 8), 8, 3))
    x = g.conv(g.node("Relu", g.conv(x, 8, 8, group=8)), 8, 8)
    y = g.node(
        "Gemm", g.node("Flatten", g.node("GlobalAveragePool", x)), g.random(5, 8), g.random(5), transB=1, name="y"
    )
    return g.model(y, shapes=[[1, 5]])


def test_layers_of_one_step_are_one_group_and_all_times_are_counted(monkeypatch) -> None:
    """Steps take a second each, whatever they took."""
    monkeypatch.setattr(clock, "time_steps", lambda *args: dict.fromkeys(time_steps(*args), 1.0))
    report = quantize_with_report(network(), X, options=QuantOptions(time=True, threads=1)).report
    layers = {layer.name: layer for layer in report.layers}
    joined = [layer for layer in report.layers if layer.timed_with]
    assert [(layer.op, layers[layer.timed_with].op) for layer in joined] == [("HardSwish", "Conv")]
    assert not joined[0].seconds
    for layer in report.layers:
        if not layer.timed_with:
            assert set(layer.seconds) == {"float32", "int8"} | ({"bfloat16"} if layer.op in ("Conv", "Gemm") else set())
            assert all(seconds > 0 for seconds in layer.seconds.values())
    for name in ("float32", "bfloat16", "int8"):
        spent = sum(layer.seconds.get(name, 0) for layer in report.layers)
        assert 0 < spent <= report.times[name]
    assert all(layer.integers for layer in report.layers), "timing alone chooses nothing"


@pytest.mark.parametrize("slow", [True, False])
def test_the_fastest_network_is_written_and_the_report_says_why(slow, monkeypatch) -> None:
    """Convolutions take 2 s in floats, and 9 s or 1 s in integers; all else takes none."""

    def time_steps(net, _sample):
        kinds = {"ConvStep": 2.0, "QuantisedConvStep": 9.0 if slow else 1.0}
        program = net.plan.program
        return {label: kinds.get(type(step).__name__, 0.0) for step, label in with_labels(program)}

    monkeypatch.setattr(clock, "time_steps", time_steps)
    report = quantize_with_report(network(), X, options=QuantOptions(fastest=True, threads=1)).report
    assert [layer.op for layer in report.kept] == ["Conv", "HardSwish", "Conv", "Conv"] * slow
    for layer in report.kept:
        assert layer.reason.startswith("the clock: 2e+06 us in float32, 2e+06 us in bfloat16, 9e+06 us in int8")
    if slow:
        assert min(report.times, key=report.times.__getitem__) == "float32"
        assert report.times["4 layers in floats by the clock"] == 6
        assert report.times["no layers in floats by the clock"] == 27


def test_what_is_timed_is_what_is_written(monkeypatch) -> None:
    """Convolutions take 9 s in float32, 2 s with weights in bfloat16 and 5 s in integers."""

    def time_steps(net, _sample):
        kinds = {"ConvStep": 9.0, "QuantisedConvStep": 5.0}
        steps = {label: (step, kinds.get(type(step).__name__, 0.0)) for step, label in with_labels(net.plan.program)}
        return {label: 2.0 if time == 9 and is_bfloat16(step.w) else time for label, (step, time) in steps.items()}

    monkeypatch.setattr(clock, "time_steps", time_steps)
    options = QuantOptions(fastest=True, bfloat16=True, keep=["n4"], threads=1)
    report = quantize_with_report(network(), X, options=options).report
    assert [layer.name for layer in report.kept if layer.op == "Conv"] == ["n0", "n2", "n4"]
    assert report.times["no layers in floats by the clock"] == 5 + 5 + 2, "but one that was told"
    assert report.times["3 layers in floats by the clock"] == 2 + 2 + 2


def test_weights_in_bfloat16_are_a_standard_file() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = QuantOptions(keep=["n0", "n4"], bfloat16=True, reduce_range=True, threads=1)
    found = quantize_with_report(network(), X, options=options)
    assert [layer.precision for layer in found.report.layers if layer.op == "Conv"] == ["bfloat16", "int8", "bfloat16"]
    onnx.checker.check_model(found.model, full_check=True)
    weights = [item for item in found.model.graph.initializer if item.data_type == TensorProto.BFLOAT16]
    assert sorted(len(item.raw_data) for item in weights) == [2 * 8 * 3 * 9, 2 * 8 * 8 * 9]
    assert all(is_bfloat16(load(found.model).constants[item.name]) for item in weights)
    session = onnxruntime.InferenceSession(found.model.SerializeToString(), providers=["CPUExecutionProvider"])
    net = oc.compile(found.model, threads=1)
    ours, theirs = (
        np.concatenate([run(x[None]) for x in X]) for run in (net, lambda x: session.run(None, {"x": x})[0])
    )
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(ours).max()


def test_as_many_weights_are_bfloat16_as_the_budget_allows() -> None:
    keep = ["n0", "n2", "n4"]
    whole, halved = (
        quantize_with_report(network(), X, options=QuantOptions(keep=keep, bfloat16=flag, threads=1)).report
        for flag in (False, True)
    )
    assert halved.snr < whole.snr
    aim = (halved.snr + whole.snr) / 2
    found = quantize_with_report(network(), X, options=QuantOptions(keep=keep, bfloat16=True, min_snr=aim, threads=1))
    assert found.report.snr >= aim
    assert {layer.precision for layer in found.report.kept} == {"bfloat16", "float32"}
    assert halved.bytes_after < found.report.bytes_after < whole.bytes_after


def cast(kind: int, **fields) -> onnx.ModelProto:
    """The product of an input and a constant of bfloat16 behind a Cast."""
    w = helper.make_tensor("w", kind, [3], narrow(np.float32([0.1, -2, 1e-40])).tobytes(), raw=True)
    for key, value in fields.items():
        w.ClearField("raw_data")
        getattr(w, key).extend(value)
    nodes = [
        helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "f"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_constants_of_bfloat16_are_the_numbers_that_they_are() -> None:
    wanted = round_to_bfloat16(np.float32([0.1, -2, 1e-40]))
    for model in (
        cast(TensorProto.BFLOAT16),
        cast(TensorProto.BFLOAT16, int32_data=narrow(wanted).astype(int).tolist()),
    ):
        np.testing.assert_array_equal(oc.compile(model)(np.ones(3, np.float32)), wanted)
    model = cast(TensorProto.BFLOAT16)
    model.graph.node[1].input[1] = "w"
    with pytest.raises(UnsupportedError, match=r"Mul of a constant of bfloat16; need Cast to float32 .*tensor 'w'"):
        oc.compile(model)
    model = cast(TensorProto.BFLOAT16)
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.BFLOAT16, [3]))
    with pytest.raises(UnsupportedError, match=r"an output of a constant of bfloat16; need Cast to float32"):
        oc.compile(model)
