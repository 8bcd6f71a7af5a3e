from __future__ import annotations

import json

import pytest

from omniconv.kinds import kinds
from omniconv.kinds.docs import sections
from omniconv.spec import parse


def test_the_list_is_the_registry(invoke):
    found = json.loads(invoke("kinds", "--json").out)
    assert [kind["name"] for kind in found["kinds"]] == list(kinds())
    table = invoke("kinds").out
    assert all(f" {name} " in table for name in kinds())


def test_example_costs(invoke):
    found = {kind["name"]: kind for kind in json.loads(invoke("kinds", "--json").out)["kinds"]}
    assert found["pointwise"]["parameters"] == 64 * 64
    assert found["pointwise"]["macs"] == 64 * 64 * 56 * 56
    assert found["depthwise"]["macs"] == 64 * 9 * 56 * 56
    assert found["depthwise_separable"]["macs"] == 64 * (9 + 64) * 56 * 56


@pytest.mark.parametrize("name", list(kinds()))
def test_explain_shows_the_doc_and_a_layer_that_reads_back(invoke, name):
    found = invoke("explain", name, "--no-plan", "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert report["doc"] == sections(kinds()[name])
    assert len(report["samples"]) == len(kinds()[name].samples)
    spec, shape = parse(report["layer"]["text"])
    assert list(shape) == report["layer"]["input_shape"]
    assert list(spec.output_shape(shape)) == report["layer"]["output_shape"]
    text = invoke("explain", name, "--no-plan").out
    assert report["signature"].partition("(")[0] in text
    assert "Formula" in text


def test_explain_takes_settings_and_a_shape(invoke):
    found = invoke("explain", "depthwise", "kernel_size=5", "padding=2", "-s", "1x64x28x28", "--no-plan", "--json")
    layer = json.loads(found.out)["layer"]
    assert layer["weight_shapes"] == [[64, 1, 5, 5]]
    assert layer["output_shape"] == [1, 64, 28, 28]
    assert layer["macs"] == 64 * 25 * 28 * 28


def test_explain_compiles_the_layer(invoke):
    report = json.loads(invoke("explain", "depthwise", "--json", "--threads", "2").out)
    assert report["plan"]
    assert "Compiled plan" in invoke("explain", "depthwise").out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["depthwize"], 2, "no kind 'depthwize'"),
        (["depthwise", "stride"], 2, "is not a setting; need name=value"),
        (["depthwise", "strides=2"], 2, "depthwise has no argument 'strides'; it takes"),
        (["depthwise", "-s", "1,a"], 2, "sizes are not integers"),
        (["grouped", "groups=5"], 3, "groups=5 does not divide in_channels=64; need"),
        (["depthwise", "-s", "1,63,8,8"], 3, "has 63 channels; need in_channels=64"),
        (["depthwise", "kernel_size=__import__('os')"], 3, "kernel_size"),
    ],
)
def test_wrong_layers_are_one_line(invoke, words, code, message):
    found = invoke("explain", *words, "--no-plan")
    assert found.code == code
    assert message in found.err
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    assert found.out == ""
