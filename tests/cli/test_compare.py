"""`compare` on small layers."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET

import pytest

SMALL = ("compare", "-i", 8, "-o", 16, "-k", 3, "-s", 8)


def test_every_kind_is_listed(invoke):
    found = invoke("kinds", "--json")
    names = {kind["name"] for kind in json.loads(found.out)} if found.out.startswith("[") else set()
    found = invoke(*SMALL, "--no-time")
    assert found.code == 0, found.err
    assert "8 > 16 channels, 3x3 kernel, 8x8 positions" in found.out
    for name in names | {"cross_correlation", "depthwise_separable", "transposed", "sub_pixel"}:
        assert name in found.out
    assert "least time" not in found.out


def test_json_has_costs_and_savings(invoke):
    report = json.loads(invoke(*SMALL, "--json").out)
    kinds = {item["kind"]: item for item in report["kinds"]}
    assert report["standard"] == "cross_correlation"
    assert kinds["cross_correlation"]["macs"] == 64 * 9 * 8 * 16
    assert kinds["grouped"]["savings"]["macs"] == 4
    assert all(item["seconds"] > 0 and item["bound_seconds"] > 0 for item in report["kinds"])
    assert report["summary"].startswith("The standard layer has ")
    assert kinds["depthwise"]["arrived"] > 0
    assert report["machine"]["threads"] == report["threads"] == 1
    assert report["roofline"]["peak_gflop_per_second"] > 0


def test_without_measuring(invoke):
    report = json.loads(invoke(*SMALL, "--no-time", "--json").out)
    assert report["roofline"] is None
    assert {item["seconds"] for item in report["kinds"]} == {None}


@pytest.mark.wide
def test_measured_table_and_picture(invoke, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "layer.svg"
    found = invoke(*SMALL, "--picture", path)
    assert found.code == 0, found.err
    assert "On this machine" in found.out
    assert "GFLOP/s at most" in found.out
    assert ET.parse(path).getroot().tag.endswith("svg")


def test_kinds_that_cannot_express_the_layer(invoke):
    found = invoke("compare", "-i", 8, "-o", 12, "-s", 9, "--groups", 5, "--no-time")
    assert found.code == 0, found.err
    assert "Cannot express this layer" in found.out
    assert "depthwise: 12 output channels are no multiple of 8" in found.out
    assert "grouped: groups=5 does not divide in_channels=8" in found.out
    assert "transposed: it enlarges by 2, and 9 positions are odd" in found.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--kernel", 0], 2, "kernel"),
        (["--dims", 4], 2, "dims"),
        (["--picture", "layer.gif"], 2, "need .png or .svg"),
        (["-i", 100000, "-o", 100000, "-s", 100000], 3, "memory"),
    ],
)
def test_what_is_refused(invoke, words, code, message):
    found = invoke("compare", *words)
    assert (found.code, found.out) == (code, "")
    assert message in found.err
    assert found.err.count("\n") == 1


def test_without_matplotlib(invoke, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("omniconv.cli.outputs.find_spec", lambda name: None)
    found = invoke(*SMALL, "--picture", tmp_path / "a.svg")
    assert found.code == 5
    assert 'pip install "omniconv[report]"' in found.err
