"""``omniconv tile``: plans, runs over files, and what is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

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


def test_several_images_and_results_by_name(invoke, tmp_path):
    opset, sizes = [helper.make_opsetid("", 17)], [1, 1, "h", "w"]
    nodes = [helper.make_node("Mul", ["a", "b"], ["y"]), helper.make_node("Sub", ["a", "b"], ["z"])]
    ends = [helper.make_tensor_value_info(name, 1, sizes) for name in "abyz"]
    model = helper.make_model(helper.make_graph(nodes, "two", ends[:2], ends[2:]), opset_imports=opset, ir_version=8)
    onnx.save(model, str(tmp_path / "two.onnx"))
    a, b = np.arange(2400, dtype=np.float32).reshape(2, 1, 1, 30, 40) % 7
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b=b.npy", b)
    places = {name: f"{name}={tmp_path / name}.npy" for name in "ayz"} | {"b": f"b={tmp_path / 'b=b.npy'}"}
    words = ("tile", tmp_path / "two.onnx", *(places[name] for name in "bazy"), "--memory", "10K")
    found = invoke(*words)
    assert found.code == 0, found.err
    assert np.array_equal(np.load(tmp_path / "y.npy"), a * b)
    assert np.array_equal(np.load(tmp_path / "z.npy"), a - b)
    assert json.loads(invoke(*words, "--json").out)["shape"] == {"y": [1, 1, 30, 40], "z": [1, 1, 30, 40]}
    plan = invoke("tile", "--plan", tmp_path / "two.onnx", places["a"], places["b"], "--json")
    assert json.loads(plan.out)["tiles"] == 1
    plan = invoke("tile", "--plan", tmp_path / "two.onnx", "-s", "a=1,1,30,40", "-s", "b=1,1,30,40", "--json")
    assert json.loads(plan.out)["tiles"] == 1
    last = invoke("tile", *words[1:4], tmp_path / "only.npy", "--output", "z")
    assert last.code == 0, last.err
    assert np.array_equal(np.load(tmp_path / "only.npy"), a - b)
    for wrong, code, message in (
        ((places["a"], places["a"], places["y"]), 2, "two places for 'a'"),
        ((places["a"], places["y"]), 3, "one for each of the inputs"),
        ((places["a"], places["b"], tmp_path / "y.npy"), 3, "one out= for outputs"),
        ((places["a"], places["b"], "q=y.npy"), 3, "which are ['y', 'z']"),
        ((places["a"], places["b"], places["y"], "more.npy"), 2, "one place too many"),
        ((places["a"], "mask=b.npy", "y.npy"), 2, "mask is no input, which are a, b"),
    ):
        refused = invoke("tile", tmp_path / "two.onnx", *wrong)
        assert (refused.code, message in refused.err) == (code, True), refused.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("MODEL",), 2, "needs MODEL IN OUT"),
        (("MODEL", "x.npy"), 2, "needs MODEL IN OUT"),
        (("MODEL", "x.npy", "y.npy", "-s", "1,1,64,64"), 2, "--shape belongs to --plan"),
        (("MODEL", "missing.npy", "y.npy", "--level", "1"), 3, "missing.npy"),
        (("MODEL", "--plan"), 2, "needs IN or --shape"),
        (("MODEL", "missing.npy", "y.npy"), 3, "no file or folder 'missing.npy'"),
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
