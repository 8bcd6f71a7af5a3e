"""`inspect` with its analyses, on models that have something to find."""

from __future__ import annotations

import json

import onnx
import pytest
from tests.report import models


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        name: models.save(getattr(models, name)(), folder / f"{name}.onnx")
        for name in ("awkward", "unsupported", "hostile")
    }


FLAGS = ("--field", "--overlap", "--coverage", "--connectivity", "--separability")


def test_the_table_and_the_findings(invoke, paths):
    found = invoke("inspect", paths["awkward"])
    assert found.code == 0, found.err
    assert "up2: 3x3 stride 2 leaves a 1:2:4 overlap (checkerboard); use a 4x4 kernel" in found.out
    assert "grouped1 to grouped2: 2 layers in 4 groups let each output see 1/4 of the inputs" in found.out
    lines = found.out.splitlines()
    block = next(line for line in lines if line.strip().startswith("block5"))
    assert "23 / 2" in block
    assert "us" in block
    assert max(map(len, lines[: lines.index("Findings")])) <= 120


def test_no_flag_prints_no_section(invoke, paths):
    found = invoke("inspect", paths["awkward"], "--no-time")
    assert "Separability of kernels" not in found.out
    assert "Overlap of transposed" not in found.out


@pytest.mark.parametrize(
    ("flag", "title", "words"),
    [
        ("--field", "Receptive field of up2.y on x", "1/2"),
        ("--overlap", "Overlap of transposed convolutions", "1:2:4"),
        ("--coverage", "Coverage of dilated stacks", "1,2,2,2,1"),
        ("--connectivity", "Connectivity of channels", "25.0%"),
        ("--separability", "Separability of kernels", "100.00%"),
    ],
)
def test_each_flag_prints_its_section(invoke, paths, flag, title, words):
    found = invoke("inspect", paths["awkward"], "--no-time", flag)
    assert found.code == 0, found.err
    assert title in found.out
    assert words in found.out


def test_json_holds_what_was_asked_for(invoke, paths):
    report = json.loads(invoke("inspect", paths["awkward"], "--no-time", "--json", *FLAGS).out)
    layers = {item["name"]: item for item in report["layers"]}
    assert layers["block4"]["field_size"] == [15, 15]
    assert report["macs"] == sum(item["macs"] for item in report["layers"])
    assert report["executed_macs"] < report["macs"]
    assert report["field"]["axes"][0]["stride"] == 0.5
    assert [item["verdict"] for item in report["overlap"]] == ["even", "uneven"]
    assert report["overlap"][1]["counts"] == [[4, 2], [2, 1]]
    assert report["coverage"][0]["full"] is True
    run = report["connectivity"][1]
    assert (run["layers"], run["fraction"]) == (["grouped1", "grouped2"], 0.25)
    assert sum(map(sum, run["matrix"])) == 64
    spectra = {item["layer"]: item for item in report["separability"]}
    assert spectra["blur"]["cheapest"]["rank"] == 1
    assert report["findings"][0]["where"] == "up2"
    assert report["problems"] == []
    assert set(report["analysis_seconds"]) >= {"cost", "field", "overlap", "findings"}
    bare = json.loads(invoke("inspect", paths["awkward"], "--no-time", "--json").out)
    assert not {"field", "overlap", "coverage", "connectivity", "separability"} & set(bare)


def test_measured_json(invoke, paths):
    report = json.loads(invoke("inspect", paths["awkward"], "--json").out)
    assert report["seconds"] > 0
    assert report["roofline"]["levels"]
    timed = [item for item in report["layers"] if item["seconds"]]
    assert timed
    assert all(item["roofline_share"] > 0 for item in timed if item["macs"])


def test_unsupported_operators_are_named_and_the_rest_is_analysed(invoke, paths):
    found = invoke("inspect", paths["unsupported"])
    assert found.code == 0, found.err
    assert "odd: operator Bernoulli is not supported" in found.out
    assert "2 more nodes behind it cannot be analysed" in found.out
    report = json.loads(invoke("inspect", paths["unsupported"], "--json", *FLAGS).out)
    assert [item["where"] for item in report["problems"]] == ["odd", "unknown", "lost", "lost/relu"]
    assert {item["name"] for item in report["layers"] if item["macs"]} == {"stem", "middle"}
    assert all(item["seconds"] is None for item in report["layers"])


def test_a_model_of_which_nothing_is_known(invoke, tmp_path):
    path = models.save(models.Net().add("Gadget", "odd", domain="some.where").build("some.where"), tmp_path / "m.onnx")
    found = invoke("inspect", path)
    assert found.code == 3
    assert "nothing of the model can be analysed" in found.err


def test_hostile_names_cannot_steer_a_terminal(invoke, paths, tmp_path):
    model = onnx.load(str(paths["hostile"]))
    model.graph.node[0].name = "\x1b[2J\x1b]0;owned\x07[bold red]x[/nothing]"
    onnx.save(model, str(tmp_path / "m.onnx"))
    found = invoke("inspect", tmp_path / "m.onnx", *FLAGS)
    assert found.code == 0, found.err
    assert not {"\x1b", "\x07", "\u202e"} & set(found.out)
    assert "[bold red]x[/nothing]" in found.out


def test_pages_and_pictures(invoke, paths, tmp_path):
    pytest.importorskip("plotly")
    pytest.importorskip("matplotlib")
    page, folder = tmp_path / "report.html", tmp_path / "pictures"
    found = invoke("inspect", paths["awkward"], "--overlap", "--html", page, "--pictures", folder)
    assert found.code == 0, found.err
    assert f"written to {page}" in found.out
    assert "Coverage of dilated stacks" in page.read_text(encoding="utf-8")
    assert "Coverage of dilated stacks" not in found.out
    assert sorted(path.name.partition("-")[2] for path in folder.iterdir()) == ["overlap-up1.svg", "overlap-up2.svg"]


@pytest.mark.parametrize("name", ["report", "report.txt"])
def test_pages_need_their_ending(invoke, paths, tmp_path, name):
    found = invoke("inspect", paths["awkward"], "--html", tmp_path / name)
    assert found.code == 2
    assert "need .html or .htm" in found.err


def test_pages_need_their_packages(invoke, paths, tmp_path, monkeypatch):
    monkeypatch.setattr("omniconv.cli.outputs.find_spec", lambda name: None if name == "plotly" else object())
    found = invoke("inspect", paths["awkward"], "--html", tmp_path / "a.html")
    assert found.code == 5
    assert 'plotly is not installed; need: pip install "omniconv[report]"' in found.err
