from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from omniconv.compiler.code import build
from omniconv.compiler.planning import tuning_store
from omniconv.compiler.planning.tuning_store import LIMIT, TuningStore, identify, open_tuning, parse_entry
from omniconv.target.select import select_target

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
PROBLEM, CHOICE = "n1 g1 ic8 oc8 | 1 | 1 | 9", "panel rows=3 vectors=1 unroll=4 block=3"


def open_store(folder: Path) -> TuningStore:
    return TuningStore(folder, select_target("native"))


def put(store: TuningStore, problem: str = PROBLEM, choice: str = CHOICE) -> Path:
    store.put(problem, choice, "panel rows=1 vectors=1 unroll=4 block=9", gain=1.25, layer="pointwise", threads=2)
    return store.path(problem)


def test_round_trip(tmp_path: Path) -> None:
    store = open_store(tmp_path / "deep")
    assert store.load().choices == {}
    put(store)
    put(store, "other", "winograd m=4")
    assert open_store(tmp_path / "deep").load().choices == {PROBLEM: CHOICE, "other": "winograd m=4"}
    assert store.load().target == select_target("native")
    put(store, choice="winograd m=2")
    assert store.load().choices[PROBLEM] == "winograd m=2"
    store.remove(PROBLEM)
    store.remove(PROBLEM)
    assert store.load().choices == {"other": "winograd m=4"}
    assert len(list(store.folder.iterdir())) == 1


def test_a_person_can_read_an_entry(tmp_path: Path) -> None:
    found = json.loads(put(open_store(tmp_path)).read_text())
    assert found["problem"] == PROBLEM
    assert found["choice"] == CHOICE
    assert found["gain"] == 1.25
    assert found["layer"] == "pointwise"
    assert found["threads"] == 2
    assert found["target"] == str(select_target("native"))


@posix
def test_others_cannot_read_or_write_what_is_kept(tmp_path: Path) -> None:
    path = put(open_store(tmp_path / "a"))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def change(**values) -> bytes:
    entry = {
        "problem": PROBLEM, "choice": CHOICE, "default": "", "gain": 1.25, "layer": "", "threads": 1, "format": 1,
        "target": "", "processor": "",
    }  # fmt: skip
    return json.dumps({key: value for key, value in (entry | values).items() if value is not ...}).encode()


DAMAGED = {
    "empty": b"",
    "no JSON": b"{",
    "another type": b"[1, 2]",
    "a number": b"1",
    "deep": b"[" * 50_000,
    "long number": b'{"gain": ' + b"1" * 10_000 + b"}",
    "not text": b"\xff\xfe\x00",
    "large": change(layer="x" * LIMIT),
    "missing field": change(choice=...),
    "further field": change(code="import os"),
    "other format": change(format=2),
    "format as truth": change(format=True),
    "choice as number": change(choice=7),
    "choice as list": change(choice=[CHOICE]),
    "gain as text": change(gain="1.2"),
    "no gain": change(gain=float("nan")),
    "endless gain": change(gain=float("inf")),
    "negative gain": change(gain=-1.0),
    "another problem": change(problem="n2"),
    "lone surrogate": change(problem="\ud800"),
    "none": change(problem=None),
}


def test_the_intact_entry_is_believed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store).write_bytes(change())
    assert store.load().choices == {PROBLEM: CHOICE}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_and_hostile_entries_are_missing_and_are_replaced(tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path)
    path = put(store)
    path.write_bytes(DAMAGED[kind])
    put(store, "other")
    assert store.load().choices == {"other": CHOICE}
    put(store)
    assert store.load().choices == {"other": CHOICE, PROBLEM: CHOICE}


def test_truncated_entries_are_missing(tmp_path: Path) -> None:
    data = put(open_store(tmp_path)).read_bytes()
    assert parse_entry(data) is not None
    assert [size for size in range(len(data) - 2) if parse_entry(data[:size]) is not None] == []


def test_an_entry_under_another_name_is_missing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store).rename(store.path("other"))
    assert store.load().choices == {}


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    store = open_store(tmp_path)
    put(store).chmod(mode)
    assert store.load().choices == {}


@posix
def test_links_pipes_and_folders_are_not_read(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    path = put(store)
    elsewhere = path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(elsewhere)
    assert store.load().choices == {}
    path.unlink()
    os.mkfifo(path)
    assert store.load().choices == {}
    path.unlink()
    path.mkdir()
    assert store.load().choices == {}


def test_another_target_processor_or_compiler_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    put(store)
    target = select_target("native")
    for other in (replace(target, name="x86-64-v3"), replace(target, features=""), replace(target, cache_bytes=1)):
        assert TuningStore(tmp_path, other).load().choices == {}
        assert identify(other, "zen") != identify(target, "zen")
    assert identify(target, "zen") != identify(target, "lake")
    monkeypatch.setattr(build, "_TOOLS", (*build._TOOLS, "edited"))
    assert open_store(tmp_path).load().choices == {}
    monkeypatch.undo()
    host = replace(tuning_store.detect_host(), cpu="another")
    monkeypatch.setattr(tuning_store, "detect_host", lambda: host)
    assert open_store(tmp_path).load().choices == {}
    monkeypatch.undo()
    assert open_store(tmp_path).load().choices == {PROBLEM: CHOICE}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    texts = [f"winograd m={m}" for m in range(8)]

    def write(number: int) -> None:
        store = open_store(tmp_path)
        for round_ in range(20):
            put(store, f"own {number} {round_}")
            put(store, "shared", texts[number])
            assert store.load().choices["shared"] in texts

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    found = open_store(tmp_path).load().choices
    assert {f"own {number} {round_}" for number in range(8) for round_ in range(20)} < found.keys()
    assert found["shared"] in texts
    assert len(list(open_store(tmp_path).folder.iterdir())) == len(found), "no temporary file is left"


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        put(open_store(tmp_path / "file"))
    assert open_store(tmp_path / "file").load().choices == {}


def test_it_lies_beside_the_object_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNICONV_CACHE", str(tmp_path))
    store = open_tuning(select_target("native"))
    assert store is not None
    assert store.folder.parent == tmp_path
    monkeypatch.setenv("OMNICONV_CACHE", "off")
    assert open_tuning(select_target("native")) is None
