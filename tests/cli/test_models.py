"""`run`, `inspect` and `bench` on a small model."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests.graph.small_models import Graph

import omniconv.bench.peers.onnxruntime as peer
from omniconv.bench.workload import Workload


def expected(path, x):
    return peer.load(Workload("", path, {"x": x}), 1)()[0]


def test_run_is_repeatable_and_right(invoke, model, tmp_path):
    x = np.random.default_rng(7).standard_normal((2, 3, 64, 64), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, unused=x)
    for name in ("x.npy", "x.npz"):
        found = invoke("run", model, "-i", tmp_path / name, "-o", tmp_path / "y.npz", "--json")
        assert found.code == 0, found.err
        report = json.loads(found.out)
        assert report["inputs"] == {"x": [2, 3, 64, 64]}
        assert report["outputs"]["y"]["shape"] == [2, 10]
        with np.load(tmp_path / "y.npz") as saved:
            np.testing.assert_allclose(saved["y"], expected(model, x), rtol=0, atol=1e-6)


def test_inputs_are_not_written_over(invoke, model, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 64, 64), np.float32))
    found = invoke("run", model, "-i", tmp_path / "x.npz", "-o", tmp_path / "x.npz")
    assert (found.code, "is the file that is read" in found.err) == (2, True), found.err


def test_run_in_float64(invoke, model, tmp_path):
    x = np.random.default_rng(7).standard_normal((2, 3, 64, 64))
    np.save(tmp_path / "x.npy", x)
    found = invoke("run", model, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--dtype", "float64", "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert (report["dtype"], report["outputs"]["y"]["dtype"]) == ("float64", "float64")
    with np.load(tmp_path / "y.npz") as saved:
        np.testing.assert_allclose(saved["y"], expected(model, x.astype(np.float32)), rtol=0, atol=1e-5)
    assert invoke("run", model, "--dtype", "float64").code == 0
    np.save(tmp_path / "narrow.npy", x.astype(np.float32))
    for words, message in (
        (["-i", tmp_path / "x.npy"], "has dtype float64; need float32, as the model declares"),
        (["-i", tmp_path / "narrow.npy", "--dtype", "float64"], "has dtype float32; need float64, as --dtype says"),
        (["--dtype", "float16"], "dtype='float16' is not supported; need one of float32, float64"),
    ):
        found = invoke("run", model, *words)
        assert found.code == 3
        assert message in found.err


def test_inspect_counts_bytes_of_the_type(invoke, model):
    sizes = [
        json.loads(invoke("inspect", model, "--no-time", "--dtype", dtype, "--json").out)["bytes"]
        for dtype in ("float32", "float64")
    ]
    assert sizes[1] == 2 * sizes[0]


def test_run_with_random_inputs_follows_the_seed(invoke, model):
    first, again, other = (
        json.loads(invoke("run", model, "--seed", seed, "--json").out)["outputs"] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert "random" not in invoke("run", model).out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-s", "y=1,3,64,64"], 2, "no input 'y'; the model has x"),
        (["-s", "1,3,64"], 3, "does not fit input 'x'; need ?,3,64,64"),
        (["-s", "1,4,64,64"], 3, "does not fit input 'x'; need ?,3,64,64"),
        (["-s", "1,3,-1,64"], 2, "negative"),
        (["-s", "1,3,64,64", "-s", "1,3,64,64"], 2, "has two shapes"),
        (["-i", "missing.npy"], 3, "missing.npy is not a file; need a .npy or .npz file with the inputs"),
    ],
)
def test_run_refuses_shapes_and_files_that_do_not_fit(invoke, model, words, code, message):
    found = invoke("run", model, *words)
    assert (found.code, found.out) == (code, "")
    assert message in found.err
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1


def test_run_does_not_unpickle(invoke, model, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    found = invoke("run", model, "-i", tmp_path / "x.npy")
    assert found.code == 3
    assert "need a .npy or .npz file of plain numbers" in found.err


@pytest.mark.parametrize("command", ["run", "inspect", "bench"])
def test_files_that_are_no_models(invoke, model, tmp_path, command):
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(model.read_bytes()[:500])
    for path in (tmp_path / "missing.onnx", tmp_path, truncated):
        found = invoke(command, path)
        assert found.code == 3, found.err
        assert path.name in found.err
        assert found.err.count("\n") == 1


def test_inspect_counts(invoke, model):
    report = json.loads(invoke("inspect", model, "--json").out)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["stem"]["macs"] == 16 * 3 * 9 * 32 * 32
    assert layers["depthwise"]["kind"] == "depthwise"
    assert layers["depthwise"]["macs"] == 16 * 9 * 32 * 32
    assert sum(kind["share"] for kind in report["kinds"]) == pytest.approx(1)
    assert "depthwise" in invoke("inspect", model).out


def test_inspect_without_running(invoke, model):
    report = json.loads(invoke("inspect", model, "--no-time", "--json").out)
    assert report["kinds"] == []
    assert all(layer["seconds"] is None for layer in report["layers"])


def test_bench_verifies_and_times(invoke, model, tmp_path):
    words = ["--peer", "onnxruntime", "--rounds", 3, "--seconds", 0, "-o", tmp_path / "report.json"]
    found = invoke("bench", model, *words, "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    [result] = report["results"]
    [other] = result["peers"]
    assert other["name"] == "ONNX Runtime"
    assert other["max_difference"] < 1e-5
    assert other["ratio"] == pytest.approx(other["median_ms"] / result["omniconv"]["median_ms"])
    assert report["machine"]["threads"] == 1
    assert "ONNX Runtime" in invoke("bench", model, *words).out


def test_bench_in_other_number_types(invoke, model):
    words = ["--peer", "onnxruntime", "--rounds", 1, "--seconds", 0, "--json", "--precision"]
    found = [invoke("bench", model, *words, precision) for precision in ("int8", "bfloat16", "int7")]
    assert [each.code for each in found] == [0, 0, 2]
    integers, narrow = ({**json.loads(each.out)["results"][0]["peers"][0]} for each in found[:2])
    assert integers["agrees"] is True
    assert narrow["not_run"] == "it has no bfloat16 on CPUs"
    assert "--precision 'int7' is unknown; need one of float32, bfloat16, int8" in found[2].err


def test_bench_reports_disagreement(invoke, model, monkeypatch):
    load = peer.load

    def wrong(workload, threads, layout):
        call = load(workload, threads, layout)
        return lambda: [value + 1e-3 for value in call()]

    monkeypatch.setattr(peer, "load", wrong)
    found = invoke("bench", model, "--peer", "onnxruntime", "--rounds", 1, "--seconds", 0)
    assert found.code == 4
    assert "DISAGREES" in found.out
    assert "more than 0.0001 of the largest output" in found.out


@pytest.mark.wide
def test_bench_of_a_corpus(invoke, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "# two problems\npointwise ic8 oc16 iw9 kw1  # first; wanted>=999999\n\ngrouped n2 ic8 oc8 ih9 iw9 kh3 kw3 g2\n"
    )
    found = invoke("bench", corpus, "--peer", "onnxruntime", "--rounds", 2, "--seconds", 0, "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    results = report["results"]
    assert [result["title"] for result in results] == ["first", ""]
    assert [result["macs"] for result in results] == [8 * 16 * 9, 2 * 8 * 4 * 9 * 49]
    assert {layout["layout"] for layout in results[0]["layouts"]} == {"NHWC", "NCHW"}
    assert results[0]["ratios"]["wanted"] == results[0]["ratio"] > 0
    assert results[0]["short"] == ["wanted"]
    assert report["summary"]["cases"] == 2
    assert report["roofline"]["peak_gflop_per_second"] > 0
    found = invoke("bench", tmp_path, "--peer", "onnxruntime", "--quick", "--only", "first", "--details")
    assert found.code == 0, found.err
    assert "goals reached: 0 of 1" in found.out
    assert "Omniconv NCHW" in found.out
    assert "failed" not in found.out
    assert invoke("bench", corpus, "--only", "third").code == 2
    assert invoke("bench", corpus, "--only", "(").code == 2
    assert invoke("bench", corpus, "--picture", tmp_path / "p.txt").code == 2
    corpus.write_text("pointwise ic8 oc16 iw9 kw1\npointwise ic8 oc16 iw9 kx1\n")
    found = invoke("bench", corpus, "--peer", "onnxruntime")
    assert found.code == 3
    assert "corpus.txt:2" in found.err


def test_bench_knows_its_peers(invoke, model):
    found = invoke("bench", model, "--peer", "caffe")
    assert found.code == 2
    assert "need one of onnxruntime, openvino, torch, ncnn, executorch" in found.err


def test_steps_on_the_host(invoke, tmp_path):
    """They are named on standard error, timed and counted; --strict refuses them."""
    g = Graph()
    x = g.node("Cast", g.input("x", 1, 3, 6, 6, dtype=TensorProto.UINT8), to=TensorProto.FLOAT)
    g.node("ReverseSequence", g.conv(x, 4, 3), g.ints(3), name="y", time_axis=1, batch_axis=0)
    path = tmp_path / "mixed.onnx"
    onnx.save(g.model("y"), path)
    found = invoke("run", path)
    assert found.code == 0, found
    assert "mixed.onnx: 2 nodes run on the host, in NumPy: Cast node 'n0', ReverseSequence node 'n2'" in found.err
    found = invoke("inspect", path, "--json")
    assert found.code == 0, found
    report = json.loads(found.out)
    assert report["tiers"] == {"compiled": 1, "folded": 0, "host": 2, "waiting": 0, "stretches": 1}
    assert {"host Cast", "host ReverseSequence"} <= {kind["kind"] for kind in report["kinds"]}
    assert "1 node compiled, 0 folded, 2 on the host" in " ".join(invoke("inspect", path).out.split())
    for command in (["run"], ["inspect"], ["bench", "--peer", "onnxruntime"]):
        found = invoke(command[0], path, *command[1:], "--strict")
        assert found.code == 3, found
        assert "UINT8" in found.err


def test_compile_once_and_run_without_compiling(invoke, model, tmp_path, monkeypatch):
    path = tmp_path / "net.oconv"
    x = np.random.default_rng(7).standard_normal((2, 3, 64, 64), np.float32)
    np.save(tmp_path / "x.npy", x)
    found = invoke("compile", model, "-o", path, "--shape", "2,3,64,64", "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert (report["bytes"], report["open_sizes"], report["dtype"]) == (path.stat().st_size, False, "float32")
    assert report["kernels"] > 0
    monkeypatch.setattr("omniconv.runtime.executable.make_plan", None)
    found = invoke("run", path, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["kernels"] == report["kernels"]
    assert "loaded in" in invoke("run", path, "-i", tmp_path / "x.npy").out
    with np.load(tmp_path / "y.npz") as saved:
        np.testing.assert_allclose(saved["y"], expected(model, x), rtol=0, atol=1e-6)


def test_open_sizes_stay_open_in_a_file(invoke, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = invoke("compile", model)
    assert found.code == 0, found.err
    assert "small.oconv: " in found.out
    assert "sizes are open" in found.out
    monkeypatch.setenv("OMNICONV_THREADS", "3")
    found = invoke("run", "small.oconv", "--shape", "3,3,64,64", "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert report["outputs"]["y"]["shape"] == [3, 10]
    assert (report["threads"], report["threads_why"]) == (3, "OMNICONV_THREADS")


def test_saved_files_are_taken_where_they_belong(invoke, model, tmp_path):
    path = tmp_path / "net.oconv"
    assert invoke("compile", model, "-o", path).code == 0
    for words, code, message in (
        (["run", path, "--threads", "2"], 2, "--threads belongs to compiling"),
        (["run", path, "--dtype", "float64"], 2, "--dtype belongs to compiling"),
        (["inspect", path], 3, "is a saved network; need an ONNX file"),
        (["compile", path], 3, "is a saved network; need an ONNX file"),
        (["tile", path, "x.npy", "y.npy"], 3, "is a saved network; need an ONNX file"),
        (["compile", model, "-o", tmp_path / "net.onnx"], 2, "has no known ending; need .oconv"),
    ):
        found = invoke(*words)
        assert (found.code, found.out) == (code, "")
        assert message in found.err
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    found = invoke("run", path)
    assert found.code == 3
    assert "need a whole file that omniconv saved" in found.err
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    found = invoke("run", path)
    assert found.code == 0
    assert "is compiled anew for this machine: its machine code was not made here by this user" in found.err
