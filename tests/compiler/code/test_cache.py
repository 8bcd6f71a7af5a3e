from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from omniconv.compiler.code import cache as module
from omniconv.compiler.code.cache import VARIABLE, ObjectCache, open_cache

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
A, B = "a" * 64, "b" * 64
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")


def test_round_trip(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "deep" / "folder")
    assert cache.get(A) is None
    cache.put(A, b"code")
    assert cache.get(A) == b"code"
    assert cache.get(B) is None
    cache.put(A, b"other")
    assert cache.get(A) == b"other"
    assert [path.name for path in cache.folder.iterdir() if path.suffix == ".oco"] == [A + ".oco"]


@posix
def test_others_cannot_read_or_write_what_is_filed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "objects")
    cache.put(A, b"code")
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert cache.path(A).stat().st_mode & 0o777 == 0o600


def damage(kind: str, data: bytes) -> bytes:
    if kind == "empty":
        return b""
    if kind == "header only":
        return data[: module._HEADER]
    if kind == "truncated":
        return data[:-1]
    if kind == "longer":
        return data + b"x"
    if kind == "foreign":
        return b"\x7fELF" + data[4:]
    position = {"magic": 3, "digest": 30, "hash": 70, "payload": len(data) - 2}[kind]
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    "kind", ["empty", "header only", "truncated", "longer", "foreign", "magic", "digest", "hash", "payload"]
)
def test_damaged_entries_are_missing_and_are_replaced(tmp_path: Path, kind: str) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(A, b"some object code")
    path = cache.path(A)
    path.write_bytes(damage(kind, path.read_bytes()))
    assert cache.get(A) is None
    cache.put(A, b"some object code")
    assert cache.get(A) == b"some object code"


def test_an_entry_under_another_name_is_missing(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(A, b"code")
    cache.path(A).rename(cache.path(B))
    assert cache.get(B) is None


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(A, b"code")
    cache.path(A).chmod(mode)
    assert cache.get(A) is None


@posix
def test_what_belongs_to_another_user_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(A, b"code")
    status = os.stat_result((0o100600, 1, 1, 1, 4242, 1, 4, 0, 0, 0))
    monkeypatch.setattr(module.os, "fstat", lambda _: status)
    assert cache.get(A) is None
    status = os.stat_result((0o100600, 1, 1, 1, os.geteuid(), 1, 4, 0, 2**33, 0))
    assert cache.get(A) == b"code"


@posix
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(A, b"code")
    cache.path(B).symlink_to(cache.path(A))
    assert cache.get(B) is None
    os.mkfifo(cache.path("c" * 64))
    assert cache.get("c" * 64) is None
    cache.path("d" * 64).mkdir()
    assert cache.get("d" * 64) is None


def test_a_folder_that_cannot_be_written_to_warns_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ObjectCache(tmp_path / "file" / "folder")
    with pytest.warns(RuntimeWarning, match="cannot keep compiled code") as caught:
        cache.put(A, b"code")
    assert VARIABLE in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put(A, b"code")
        assert cache.get(A) is None


def test_the_oldest_entries_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit=10_000)
    names = [f"{number:064x}" for number in range(12)]
    for number, name in enumerate(names):
        ObjectCache(tmp_path).put(name, bytes(1000))
        os.utime(cache.path(name), (number * 1000, number * 1000))
    (tmp_path / "notes.txt").write_text("x" * 20_000)
    assert cache.get(names[1])  # used: no longer the oldest
    cache.prune()
    left = [name for name in names if cache.path(name).exists()]
    assert left == [names[1], *names[-6:]]
    assert (tmp_path / "notes.txt").exists()
    cache.prune()
    assert left == [name for name in names if cache.path(name).exists()]


def test_lost_temporary_files_are_deleted(tmp_path: Path) -> None:
    old, new = tmp_path / ".new-old", tmp_path / ".new-new"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    ObjectCache(tmp_path).prune()
    assert not old.exists()
    assert new.exists()


def test_pruning_a_missing_folder_is_nothing(tmp_path: Path) -> None:
    ObjectCache(tmp_path / "none").prune()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["off", "OFF", "0", "", " "])
def test_the_variable_switches_it_off(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert open_cache() is None


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "x"))
    cache = open_cache()
    assert cache is not None
    assert cache.folder == tmp_path / "x"
    given = open_cache(tmp_path / "y")
    assert given is not None
    assert given.folder == tmp_path / "y"
    monkeypatch.delenv(VARIABLE)
    default = open_cache()
    assert default is not None
    assert "omniconv" in str(default.folder)


WRITER = """
import sys
from omniconv.compiler.code.cache import ObjectCache
cache = ObjectCache(sys.argv[1], limit=40_000)
for round in range(150):
    digest = f"{round % 7:064x}"
    code = bytes([round % 7]) * 5000
    cache.put(digest, code)
    for other in range(7):
        found = cache.get(f"{other:064x}")
        assert found is None or found == bytes([other]) * 5000, other
    cache.prune()
"""


def test_many_processes_in_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path / "shared")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(4)]
    for writer in writers:
        assert writer.communicate()[1] == ""
        assert writer.returncode == 0
    assert not list((tmp_path / "shared").glob(".new-*"))


def test_a_folder_is_looked_through_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of caches and processes: every executable opens one."""
    looked: list[Path] = []
    prune = ObjectCache.prune

    def counted(self: ObjectCache) -> None:
        looked.append(self.folder)
        prune(self)

    monkeypatch.setattr(ObjectCache, "prune", counted)
    monkeypatch.setattr(module, "_written", {})
    for index in range(20):
        ObjectCache(tmp_path).put(f"{index:064x}", b"code")
    assert len(looked) == 1
    monkeypatch.setattr(module, "_written", {})  # another process
    ObjectCache(tmp_path).put("a" * 64, b"code")
    assert len(looked) == 1
    yesterday = time.time() - 90000
    os.utime(tmp_path / ".pruned", (yesterday, yesterday))
    monkeypatch.setattr(module, "_written", {})
    ObjectCache(tmp_path).put("b" * 64, b"code")
    assert len(looked) == 2
    for index in range(20):  # much is written
        ObjectCache(tmp_path, limit=4000).put(f"{index:064x}", bytes(100) + b"code")
    assert len(looked) >= 5
    assert sum(file.stat().st_size for file in tmp_path.glob("*.oco")) <= 4000 + 8 * 300
