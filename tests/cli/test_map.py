"""``omniconv map``: a folder of pictures into a folder of results, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.graph.small_models import Graph

import omniconv as oc

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A model and a folder of pictures, one of them cut off."""
    monkeypatch.chdir(tmp_path)
    g = Graph()
    g.node("Relu", g.conv(g.input("x", "n", 3, "h", "w"), 5, 3), name="y")
    (tmp_path / "model.onnx").write_bytes(g.model("y").SerializeToString())
    (tmp_path / "in").mkdir()
    for n in range(3):
        Image.fromarray(np.full((8, 9, 3), 40 * n, np.uint8)).save(tmp_path / "in" / f"{n}.png")
    (tmp_path / "in" / "bad.png").write_bytes((tmp_path / "in" / "0.png").read_bytes()[:45])
    return tmp_path


def test_a_folder(invoke, there):
    words = ("map", "model.onnx", "in", "out", "--scale", "0.5", "--mean", "1,2,3", "--std", "2", "--exact")
    found = invoke(*words)
    assert found.code == 3
    assert "3 of 4 images" in found.out
    assert "bad.png" in found.out
    x = (np.full((8, 9, 3), 80) * 0.5 - [1, 2, 3]) / 2
    want = oc.compile("model.onnx", exact=True)(np.moveaxis(x, -1, 0)[None].astype(np.float32))[0]
    assert np.array_equal(np.load("out/2.npy"), want)
    (there / "in" / "bad.png").unlink()
    report = json.loads(invoke(*words, "--json").out)
    assert [record["old"] for record in report["records"]] == [True] * 3
    found = invoke("map", "model.onnx", "in/*.png", "labels", "--labels", "--suffix", ".png")
    assert found.code == 0, found.err
    assert np.asarray(Image.open("labels/1.png")).shape == (8, 9)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--mean", "x"), 2, "need numbers"),
        (("--std", "0"), 2, "not zero"),
        (("--suffix", ".jpg"), 3, "need one of .npy"),
        (("--raise",), 3, "bad.png"),
        (("--cluster", "nowhere"), 3, "no scheduler of Dask"),
    ],
)
def test_what_does_not_fit(invoke, there, words, code, message):
    found = invoke("map", "model.onnx", "in", "out", *words)
    assert (found.code, message in found.err) == (code, True), found.err
