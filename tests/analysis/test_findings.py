"""Findings in plain words, and analyses of models and of what cannot be read of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.analysis.slim import mobilenet_v1, resnet_v1_50
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv import inspection
from omniconv.analysis import coverage, find_findings, find_stacks, last_spatial
from omniconv.graph import to_partial_program
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, MapStep, PostOp
from omniconv.spec import Chain, Conv


def network(*specs, size=32):
    program = Program(("x",), shapes={"x": (1, specs[0].in_channels, size, size)})
    last = "x"
    for number, spec in enumerate(specs):
        shape = spec.output_shape(program.shapes[last])
        w = np.ones(spec.weight_shape, np.float32)
        last = program.add(ConvStep(last, f"v{number}", spec.resolve(program.shapes[last]), w), shape, f"layer{number}")
    program.outputs = (last,)
    return program


def texts(program, topic):
    return [(item.where, item.text, item.fix) for item in find_findings(program, (topic,))]


def test_checkerboards():
    program = network(Conv.of(2, 2, 3, padding=1), Conv.of(2, 2, 3, stride=2, padding=1, transposed=True))
    ((where, text, fix),) = texts(program, "overlap")
    assert (where, text) == ("layer1", "3x3 stride 2 leaves a 1:2:4 overlap (checkerboard)")
    assert fix == "use a 4x4 kernel (1.8 times the multiply-accumulates)"
    holes = network(Conv.of(2, 2, 4, stride=2, dilation=2, transposed=True))
    (finding,) = find_findings(holes, ("overlap",))
    assert finding.text == "4x4 stride 2 dilation 2 leaves 75% of its outputs without any input"
    assert finding.severity == 1
    assert texts(network(Conv.of(2, 2, 4, stride=2, padding=1, transposed=True)), "overlap") == []


def test_gridding():
    program = network(*(Conv.of(2, 2, 3, dilation=2, padding=2),) * 3, size=40)
    ((where, text, fix),) = texts(program, "coverage")
    assert where == "layer2"
    assert (
        text
        == "layers with dilation 2, 2, 2 read 29% of the 13x13 field (gridding), although the usual rule accepts them"
    )
    assert fix.startswith("dilations 1,")
    rates = [int(rate) for rate in fix.removeprefix("dilations ").split(", ")]
    assert coverage(Chain(tuple(Conv.of(1, 1, 3, dilation=rate) for rate in rates))).full
    assert texts(network(*(Conv.of(2, 2, 3, dilation=d, padding=d) for d in (1, 2, 5)), size=40), "coverage") == []


def test_stacks_go_through_pointwise_layers():
    layers = [Conv.of(2, 2, 3, dilation=2, padding=2), Conv.of(2, 2, 1), Conv.of(2, 2, 3, dilation=2, padding=2)]
    ((label, stack),) = find_stacks(network(*layers))
    assert label == "layer2"
    assert [conv.dilation for conv in stack.convs] == [(2, 2), (2, 2)]


def test_groups_without_a_shuffle():
    program = network(*(Conv.of(8, 8, 3, padding=1, groups=2),) * 2)
    ((_, text, _),) = texts(program, "connectivity")
    assert text.startswith("outputs see 50% of the input channels: 2 parts that share nothing")


def test_fields():
    ((_, text, _),) = texts(network(Conv.of(1, 1, 3, padding=1)), "field")
    assert text == "each position sees 3x3 of 32x32 positions"
    crooked = network(Conv.of(1, 1, 3, padding=((2, 0), (1, 1))))
    crooked.add(MapStep("v0", "y", (PostOp("add", "x"),)), crooked.shapes["x"], "join")
    crooked.outputs = ("y",)
    assert any("not centred on the same positions" in text for _, text, _ in texts(crooked, "field"))


def test_skipped_inputs():
    shortcut = Conv.of(2, 2, 1, stride=2)
    ((where, text, _),) = texts(network(shortcut, shortcut), "overlap")
    assert (where, text) == ("layer0", "1x1 stride 2 reads 25% of its input positions (and 1 more)")
    found = texts(resnet_v1_50(64), "overlap")
    assert found[0][:2] == ("block1_unit3_shortcut", "1x1 stride 2 reads 25% of its input positions (and 2 more)")
    assert find_findings(mobilenet_v1(64), ("overlap",)) == ()


def test_findings_are_in_order_and_become_json():
    found = find_findings(network(Conv.of(2, 2, 3, stride=2, transposed=True), Conv.of(2, 2, 3, padding=1)))
    severities = [item.severity for item in found]
    assert severities == sorted(severities, reverse=True)
    assert found[0].topic == "overlap"
    assert json.dumps([item.to_dict() for item in found])


def test_last_spatial_value():
    program = mobilenet_v1(64, classifier=True)
    assert last_spatial(program) == "Conv2d_13_pointwise"
    assert last_spatial(network(Conv.of(1, 1, 32))) is None


def small_model(*, unknown=False):
    graph = Graph()
    x = graph.input("x", 1, 3, 16, 16)
    a = graph.node("Relu", graph.conv(x, 4, 3))
    if unknown:
        b = graph.node("Mystery", a)
        graph.nodes[-1].domain = "elsewhere"
    else:
        b = a
    y = graph.conv(b, 2, 4, strides=[2, 2])
    return graph.model(y)


def test_models_are_opened(tmp_path):
    model = small_model()
    expected = 16 * 16 * 4 * 27 + 8 * 8 * 2 * 36
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    for given in (model, model.SerializeToString(), path, str(path)):
        assert inspection.cost(given).macs == expected
    assert inspection.receptive_field(model).size == (5, 5)
    assert inspection.connectivity(model).full
    assert inspection.coverage([2, 2, 2]).fraction == 7 / 13
    assert inspection.overlap(Conv.of(1, 1, 4, stride=2, transposed=True)).verdict == "even"
    assert inspection.findings(model)
    assert to_partial_program(model)[1] == ()


def test_compiled_layers_are_opened():
    spec = oc.pointwise(4, 2)
    f = oc.compile(spec, (1, 4, 5, 5), oc.random_weights(spec, np.random.default_rng(0)))
    assert inspection.cost(f).macs == 25 * 8


def test_what_cannot_be_read_is_said():
    model = small_model(unknown=True)
    with pytest.raises(oc.UnsupportedError):
        inspection.cost(model)
    program, problems = to_partial_program(model)
    assert [problem.operator for problem in problems] == ["elsewhere.Mystery", "Conv"]  # and what needs its result
    assert inspection.cost(program).macs >= 16 * 16 * 4 * 27
    assert inspection.receptive_field(program, program.steps[0].y).size == (3, 3)


def test_nothing_left_is_an_error():
    graph = Graph()
    x = graph.input("x", 1, 3, 4, 4)
    y = graph.node("Mystery", x)
    graph.nodes[-1].domain = "elsewhere"
    model = graph.model(y)
    with pytest.raises(oc.UnsupportedError, match="nothing of the model can be analysed"):
        to_partial_program(model)
    with pytest.raises(oc.DataError, match="cannot analyse int"):
        inspection.open_subject(3)
