"""``omniconv quantize``: files in, a file and a report out, and what is refused."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import onnx
import pytest

RNG = np.random.default_rng(0)


@pytest.fixture
def data(tmp_path, model):
    sizes = [d.dim_value or 4 for d in onnx.load(str(model)).graph.input[0].type.tensor_type.shape.dim]
    name = onnx.load(str(model)).graph.input[0].name
    path = tmp_path / "data.npz"
    np.savez(path, **{name: RNG.standard_normal((4, *sizes[1:])).astype(np.float32)})
    return path


def test_a_model_is_written_with_a_table_and_a_page(invoke, model, data, tmp_path):
    target, page = tmp_path / "out.onnx", tmp_path / "page.html"
    found = invoke("quantize", model, "--data", data, "-o", target, "--report", page, "--sensitivity", "--time")
    assert found.code == 0, found.err
    assert "layers in integers; outputs" in found.out
    assert re.search(r"\nfloat32: \d", found.out)
    onnx.checker.check_model(str(target), full_check=True)
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(str(target)).graph.node)
    text = page.read_text()
    assert "Layers" in text
    assert "<script" not in text
    assert text.count("--bar:") >= 2
    assert "int8 [us]" in text


def test_json_has_every_layer(invoke, model, data, tmp_path):
    target = tmp_path / "out.onnx"
    found = json.loads(invoke("quantize", model, "--data", data, "-o", target, "--min-snr", 200, "--json").out)
    assert found["snr"] == "inf"
    assert found["layers"]
    assert {layer["precision"] for layer in found["layers"]} == {"float32"}
    assert all("the budget of 200 dB" in layer["reason"] for layer in found["layers"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--ranges", "median"], 3, "one of minmax, percentile, entropy, mse"),
        (["--std", "0"], 2, "not zero"),
        (["--out", "x.txt"], 2, "known ending"),
        (["--out", "/nowhere/x.onnx"], 3, "does not exist"),
        (["--max-drop", "-1"], 3, "max_drop=-1"),
        (["--data", "/nowhere"], 3, "no file or folder"),
        (["--keep", "conv99"], 3, "conv99"),
    ],
)
def test_what_is_refused(invoke, model, data, words, code, said):
    found = invoke("quantize", model, "--data", data, *words)
    assert found.code == code
    assert said in found.err


def test_the_model_that_is_read_is_not_written_over(invoke, model, data, tmp_path):
    before = model.read_bytes()
    (tmp_path / "link.onnx").symlink_to(model)
    for target in (model, tmp_path / "link.onnx"):
        found = invoke("quantize", model, "--data", data, "--out", target)
        assert (found.code, "is the file that is read" in found.err) == (2, True), found.err
    assert model.read_bytes() == before


def test_nothing_is_written_where_it_may_not_be(invoke, model, data, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    found = invoke("quantize", model, "--data", data, "-o", folder / "x.onnx")
    assert found.code == 3
    assert "may not be written" in found.err
