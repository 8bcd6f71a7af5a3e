"""``omniconv tune``: what it keeps is used where that is asked for, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.bench.told_times import compare_by_tile, spoil

import omniconv as oc
from omniconv.bench import tuning
from omniconv.compiler.planning import tuning_store
from omniconv.compiler.planning.tuning_store import open_tuning
from omniconv.target.select import select_target

LINES = (
    "pointwise n1 ic64 oc64 ih14 iw14 kh1 kw1  # a network, layer 1",
    "depthwise n1 ic16 oc16 ih7 iw7 kh3 kw3 pt1 pb1 pl1 pr1 g16  # layer 2",
)
SHORT = ({"rounds": 3, "seconds": 0.0},) * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of its own for each test, and a search that takes little time."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("OMNICONV_CACHE", str(folder))
    monkeypatch.setattr(tuning.search, "__kwdefaults__", {**tuning.search.__kwdefaults__, "stages": SHORT})
    monkeypatch.setattr(tuning.tune_sites, "__kwdefaults__", {**tuning.tune_sites.__kwdefaults__, "stages": SHORT})
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "small.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost model that prefers the smallest tile of the panel kernel, while the largest is the fastest."""
    monkeypatch.setattr(tuning, "compare", compare_by_tile)
    spoil(monkeypatch)


def compile_pointwise(**options: Any) -> Any:
    spec = oc.pointwise(in_channels=64, out_channels=64)
    return oc.compile(spec, (1, 64, 14, 14), oc.random_weights(spec, np.random.default_rng(0)), **options)


@pytest.mark.usefixtures("spoilt")
def test_what_wins_is_kept_and_used_on_request(invoke: Callable[..., Any], corpus: Path) -> None:
    done = invoke("tune", corpus, "--only", "pointwise", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["problems"], report["left_out"], report["kept"]) == (1, 0, 1)
    (found,) = report["results"]
    assert found["kept"]
    assert found["gain"] > 1.03
    assert report["gain_geometric_mean"] == pytest.approx(found["gain"])
    assert found["default"].startswith("panel rows=1 vectors=1 ")
    store = open_tuning(select_target(None))
    assert store is not None
    assert str(store.folder) == report["folder"]
    assert store.load().choices == {found["problem"]: found["best"]}
    plain, tuned = compile_pointwise(layout="NHWC"), compile_pointwise(layout="NHWC", tuned=True)
    assert ", tuned" not in plain.explain()
    assert ", tuned" in tuned.explain()
    assert f"rejected {found['default']}: measured slower" in tuned.explain()
    x = np.random.default_rng(0).integers(-4, 5, next(iter(plain.inputs.values()))).astype(np.float32)
    np.testing.assert_allclose(plain(x), tuned(x), rtol=1e-5, atol=1e-4)
    # Between values that lie channels first it is another problem, which was not measured.
    assert ", tuned" not in compile_pointwise(layout="NCHW", tuned=True).explain()


@pytest.mark.usefixtures("spoilt")
def test_what_no_longer_wins_is_forgotten(
    invoke: Callable[..., Any], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("tune", corpus, "--only", "pointwise").code == 0
    store = open_tuning(select_target(None))
    assert store is not None
    assert len(store.load().choices) == 1
    monkeypatch.setattr(tuning, "LEAST_GAIN", 1e9)
    done = invoke("tune", corpus, "--only", "pointwise")
    assert done.code == 0
    assert "0 choices kept" in done.out
    assert store.load().choices == {}


def test_without_being_asked_nothing_is_read(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(tuning_store.TuningStore, "entries", fail)
    compile_pointwise()
    compile_pointwise(tuned=False)
    with pytest.raises(AssertionError, match="read"):
        compile_pointwise(tuned=True)


def test_nothing_kept_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [repr(call.recipe) for call in compile_pointwise().plan.calls]
    assert [repr(call.recipe) for call in compile_pointwise(tuned=True).plan.calls] == plain
    monkeypatch.setenv("OMNICONV_CACHE", "off")
    assert [repr(call.recipe) for call in compile_pointwise(tuned=True).plan.calls] == plain


@pytest.mark.wide
def test_a_table(invoke: Callable[..., Any], corpus: Path, cache: Path) -> None:
    done = invoke("tune", corpus, "--threads", 2, "--target", "x86-64-v2", "--seconds", 60)
    assert done.code == 0, done.err
    assert "geometric mean of the gains" in done.out
    assert "over 2 problems" in done.out
    assert "left out" not in done.out
    assert str(cache) in done.out


def test_the_time_is_kept(invoke: Callable[..., Any], corpus: Path) -> None:
    done = invoke("tune", corpus, "--seconds", 0)
    assert done.code == 0, done.err
    assert "over 1 problem;" in done.out
    assert "1 problem left out for lack of time" in done.out


def test_a_dry_run_measures_and_writes_nothing(
    invoke: Callable[..., Any], corpus: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "compare", None)
    done = invoke("tune", corpus, "--dry-run", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert [item["layer"].split()[0] for item in report["results"]] == ["pointwise", "depthwise"]
    assert all(item["choices"] > 1 for item in report["results"])
    assert not cache.exists()
    monkeypatch.setenv("OMNICONV_CACHE", "off")
    done = invoke("tune", corpus, "--dry-run")
    assert done.code == 0, done.err
    assert "pointwise n1 ic64" in done.out


@pytest.mark.wide
def test_a_model(invoke: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = invoke("tune", model, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["problems"] > 2
    monkeypatch.setattr(tuning, "LEAST_GAIN", 0.0)  # whatever is fastest
    monkeypatch.setattr(tuning, "_apart", lambda *_: True)
    done = invoke("tune", model, "--json", "--only", "depthwise")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["kept"] == report["problems"] >= 1
    for words in (("run",), ("inspect", "--plan"), ("bench", "--rounds", 1, "--seconds", 0, "--peer", "torch")):
        done = invoke(words[0], model, *words[1:], "--tuned")
        assert done.code == 0, done.err
        if words[0] == "inspect":
            assert done.out.count(", tuned") >= report["problems"]
    assert ", tuned" not in invoke("inspect", model, "--plan").out


def test_a_disagreement_is_an_exit_code(
    invoke: Callable[..., Any], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tuning.compare

    def doubt(*words: Any, **options: Any) -> Any:
        return real(*words, **options, tolerance=-1.0)

    monkeypatch.setattr(tuning, "compare", doubt)
    done = invoke("tune", corpus, "--only", "pointwise")
    assert done.code == 4
    assert "DISAGREES" in done.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("missing.txt",), 3, "missing.txt is missing; need an ONNX file, a .txt file of problem lines or a folder"),
        (("SMALL", "--only", "("), 2, "--only ( is no regular expression"),
        (("SMALL", "--only", "nowhere"), 2, "matches no convolution of"),
        (("SMALL", "--target", "z80"), 3, "target 'z80' is unknown"),
        (("SMALL", "--threads", "0"), 2, "--threads"),
    ],
)
def test_errors(invoke: Callable[..., Any], corpus: Path, words: tuple[str, ...], code: int, message: str) -> None:
    done = invoke("tune", *(str(corpus) if word == "SMALL" else word for word in words))
    assert done.code == code
    assert message.replace("'", "") in done.err.replace("'", "")


def test_without_a_folder_there_is_nowhere_to_keep_results(
    invoke: Callable[..., Any], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNICONV_CACHE", "off")
    done = invoke("tune", corpus)
    assert done.code == 2
    assert "OMNICONV_CACHE switches off what results are kept in; need a folder, or --dry-run" in done.err
