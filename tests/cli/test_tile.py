"""``omniconv tile``: plans, runs over files, and what is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest

import omniconv as oc

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "u_net.onnx"
    onnx.save(runpy.run_path(str(ROOT / "examples" / "tiles.py"))["build_model"](), str(path))
    return path


def test_a_plan_in_words_and_as_json(invoke, net):
    found = invoke("tile", "--plan", net, "--shape", "1,1,128,120", "--memory", "1M")
    assert found.code == 0, found.err
    for words in ("halo", "27 + 27", "times that of the whole", "time:", "tiles begin at multiples of 4"):
        assert words in found.out
    report = json.loads(invoke("tile", "--plan", net, "-s", "1,1,128,120", "-m", "1M", "--json").out)
    assert report["tiles"] > 1
    assert report["recompute"] > 1
    assert report["seconds"] > 0
    (image,) = report["inputs"].values()
    assert image["tiling"][0] == {"halo": [27, 27], "grid": 4, "rate": 1}


def test_a_file_in_tiles(invoke, net, tmp_path):
    x = np.random.default_rng(0).standard_normal((100, 92)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    words = ("tile", net, tmp_path / "x.npy", tmp_path / "y.npy", "--axes", "YX", "--memory", "1M", "--exact")
    found = invoke(*words)
    assert found.code == 0, found.err
    assert "2x100x92 written" in found.out
    want = oc.compile(str(net), exact=True)(x[None, None])[0]
    assert np.array_equal(np.load(tmp_path / "y.npy"), want)
    assert json.loads(invoke(*words, "--restart", "--json").out)["shape"] == [2, 100, 92]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("MODEL",), 2, "needs MODEL IN OUT"),
        (("MODEL", "--plan"), 2, "needs IN or --shape"),
        (("MODEL", "missing.npy", "y.npy"), 3, "missing.npy"),
        (("MODEL", "--plan", "-s", "1,1,64,64", "-m", "10"), 3, "need at least"),
        (("MODEL", "--plan", "-s", "1,1,64,62"), 3, "cannot be joined"),
    ],
)
def test_what_does_not_fit(invoke, net, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found = invoke("tile", *(net if word == "MODEL" else word for word in words))
    assert (found.code, message in found.err) == (code, True), found.err


def test_what_stands_in_the_way_is_named(invoke, model, net):
    found = invoke("tile", "--plan", model, "--shape", "1,3,64,64")
    assert found.code == 3
    assert "mean over all positions 'pool'" in found.err
    assert "In the way of tiles: mean over all positions 'pool'" in invoke("inspect", model, "--no-time").out
    report = json.loads(invoke("inspect", net, "--no-time", "--json", "--shape", "1,1,64,64").out)
    assert report["tiling"]["axes"][1]["halo"] == [27, 27]
    shown = invoke("inspect", net, "--no-time", "--shape", "1,1,64,64").out
    assert "Tiles: halo 27 + 27, 27 + 27 input positions; they begin at multiples of 4, 4" in shown
