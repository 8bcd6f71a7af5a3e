"""Every path on the command line is looked at before any work is done, and every file is written whole."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import omniconv.cli.bench as bench_module
import omniconv.cli.compare as compare_module
import omniconv.cli.demo as demo_module
import omniconv.cli.inspect as inspect_module
import omniconv.cli.run as run_module
from omniconv.cli.outputs import open_whole, save_arrays

LINE = "pointwise n1 ic8 oc16 iw9 kw1\n"

OUTPUTS = [
    ("run", "--save", ".npz"),
    ("bench", "--save", ".json"),
    ("bench corpus", "--save", ".json"),
    ("bench corpus", "--picture", ".png"),
    ("bench corpus", "--picture", ".svg"),
    ("compare", "--picture", ".svg"),
    ("inspect", "--html", ".html"),
    ("demo", "--save", ".json"),
]
"""Every option that names a file to be written, and an ending that it takes."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes every command that has begun to work; it goes no further."""
    begun: list[str] = []

    def note(*_: Any, **__: Any) -> Any:
        begun.append("")
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "open_model", note)
    monkeypatch.setattr(bench_module, "open_model", note)
    monkeypatch.setattr(bench_module, "bench_cases", note)
    monkeypatch.setattr(compare_module, "carry_out", note)
    monkeypatch.setattr(demo_module, "list_missing", note)
    monkeypatch.setattr(inspect_module, "to_partial_program", note)
    return begun


@pytest.fixture
def words(model: Path, tmp_path: Path) -> Callable[[str], list[Any]]:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(LINE)

    def made(command: str) -> list[Any]:
        name, _, of = command.partition(" ")
        return [name, *([corpus] if of else [model] if name in ("run", "bench", "inspect") else [])]

    return made


@pytest.mark.parametrize(("command", "option", "ending"), OUTPUTS)
def test_paths_of_files_to_be_written(invoke, work, words, tmp_path, monkeypatch, command, option, ending) -> None:
    folder, file = tmp_path / f"folder{ending}", tmp_path / "file"
    folder.mkdir()
    file.write_text("kept")
    before = sorted(tmp_path.iterdir())
    for path, code, message in (
        (".", 2, "has no known ending; need .*" + ending),
        ("", 2, "has no known ending"),
        (tmp_path / "y.npy", 2, f"y.npy has no known ending; need .*{ending}"),
        (tmp_path / "y", 2, "has no known ending"),
        (folder, 3, f"folder{ending} is not a file; need the name of a file"),
        (tmp_path / "new" / f"y{ending}", 3, "new does not exist; need a folder that exists, e.g. mkdir -p"),
        (file / f"y{ending}", 3, "file is not a folder; need a folder that exists"),
    ):
        found = invoke(*words(command), option, path)
        assert (found.code, found.out, work) == (code, "", []), found.err
        assert found.err.count("\n") == 1
        assert option in found.err
        assert re.search(message, found.err), found.err
    assert sorted(tmp_path.iterdir()) == before
    for good in (tmp_path / f"y{ending}", tmp_path / f"Y{ending.upper()}"):
        assert invoke(*words(command), option, good).code == 130
    assert len(work) == 2
    (tmp_path / f"y{ending}").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK or Path(path).is_dir())
    found = invoke(*words(command), option, tmp_path / f"y{ending}")
    assert (found.code, len(work)) == (3, 2)
    assert "may not be written; need a file that you may change" in found.err
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    found = invoke(*words(command), option, tmp_path / f"z{ending}")
    assert (found.code, len(work)) == (3, 2)
    assert "may not be written to; need a folder that you may write to" in found.err


def test_a_folder_to_be_written_to(invoke, work, words, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    for path, message in (
        (file, "file is not a folder; need the name of a folder"),
        (tmp_path / "new" / "pictures", "new does not exist; need a folder that exists"),
        (file / "pictures", "file is not a folder; need a folder that exists"),
    ):
        found = invoke(*words("inspect"), "--pictures", path)
        assert (found.code, found.out, work) == (3, "", [])
        assert message in found.err
    for good in (tmp_path, tmp_path / "pictures"):
        assert invoke(*words("inspect"), "--pictures", good).code == 130
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not readable"),
        (b"text", "not readable"),
        (b"PK\x03\x04 no archive", "not readable"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr':        ", "not readable"),
        (
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 9223372036854775, 9), }".ljust(117)
            + b"\n",
            "not readable",
        ),
    ],
)
def test_damaged_inputs(invoke, work, words, tmp_path, content: bytes, message: str) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(content)
        found = invoke(*words("run"), "--input", tmp_path / name)
        assert (found.code, found.out, work) == (3, "", []), found.err
        assert message in found.err
        assert found.err.count("\n") == 1


def test_damaged_archives(invoke, work, words, tmp_path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((1, 3, 8, 8), np.float32))
    whole = path.read_bytes()
    for position in (40, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:position] + b"\xff" * 8 + whole[position + 8 :])
        found = invoke(*words("run"), "--input", path)
        assert found.code in (3, 130), found.err
    path.write_bytes(whole[: len(whole) // 2])
    found = invoke(*words("run"), "--input", path)
    assert (found.code, found.out) == (3, "")


def test_inputs_that_do_not_fit_are_refused_before_work(invoke, work, words, tmp_path) -> None:
    x = np.zeros((1, 3, 64, 64), np.float32)
    np.save(tmp_path / "double.npy", x.astype(np.float64))
    np.save(tmp_path / "x.npy", x)
    for more, code, message in (
        (["--input", tmp_path / "double.npy"], 3, "has dtype float64; need float32, as the model declares"),
        (["--input", tmp_path / "missing.npy"], 3, "missing.npy"),
        (["--input", tmp_path], 3, "is not a file; need a .npy or .npz file"),
        (["--input", tmp_path / "x.npy", "--shape", "x=2,3,64,64"], 2, "need one of them"),
    ):
        found = invoke(*words("run"), *more)
        assert (found.code, found.out, work) == (code, "", []), found.err
        assert message in found.err
    assert invoke(*words("run"), "--input", tmp_path / "x.npy", "--shape", "x=1,3,64,64").code == 130


@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        ("bench", ["--picture", "p.svg"], "--picture belongs to problems"),
        ("bench", ["--only", "x"], "--only belongs to problems"),
        ("bench", ["--quick"], "--quick belongs to problems"),
        ("bench", ["--details"], "--details belongs to problems"),
        ("bench", ["--target", "x86-64-v3"], "--target belongs to problems"),
        ("bench corpus", ["--shape", "x=1,2,3"], "--shape belongs to models"),
        ("tune corpus", ["--shape", "x=1,2,3"], "--shape belongs to models"),
    ],
)
def test_options_that_would_do_nothing(invoke, work, words, tmp_path, monkeypatch, command, more, message) -> None:
    monkeypatch.chdir(tmp_path)
    found = invoke(*words(command), *more)
    assert (found.code, found.out, work) == (2, "", [])
    assert message in found.err


def test_outputs_of_any_name_are_saved(invoke, tmp_path) -> None:
    info = onnx.helper.make_tensor_value_info
    names = ["file", "args", "a/b", "y.npy", "allow_pickle"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], [name]) for name in names],
        "g",
        [info("x", 1, [1, 2, 3])],
        [info(name, 1, [1, 2, 3]) for name in names],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    x = np.arange(-3, 3, dtype=np.float32).reshape(1, 2, 3)
    np.save(tmp_path / "x.npy", x)
    found = invoke("run", tmp_path / "m.onnx", "-i", tmp_path / "x.npy", "-o", tmp_path / "Y.NPZ", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["saved"] == str(tmp_path / "Y.NPZ")
    with np.load(tmp_path / "Y.NPZ") as saved:
        assert len(saved.files) == len(names)
        for name in saved.files:
            np.testing.assert_array_equal(saved[name], np.maximum(x, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Y.NPZ", "m.onnx", "x.npy"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "y.npz"
    save_arrays(path, {"y": np.ones(3)})
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(path, {"y": np.zeros(3), "z": np.array([None])})
    with pytest.raises(TypeError), open_whole(path) as file:
        file.writelines([b"half", "text"])  # type: ignore[list-item]
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
