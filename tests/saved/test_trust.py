"""Machine code is run where this user's own seal says that it was made here, and nowhere else."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.saved.nets import MAKERS, check_same, edit_json, layer, network, new_process, rewrite

import omniconv as oc
from omniconv.compiler.code import build, cache, key, own
from omniconv.compiler.code.cache import ObjectCache, open_cache
from omniconv.compiler.code.key import NAME, find_key, open_key, seal
from omniconv.runtime.container import MAGIC
from omniconv.runtime.saved import Maker, from_bytes, to_bytes
from omniconv.runtime.saved_plan import identify

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning")
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
TRAP = bytes([0xCC]) * 64


def spoil_code(sections: list[Any]) -> None:
    """Other machine code in the place of that of each kernel, which would end the process."""
    for number, section in enumerate(sections):
        if bytes(section[:4]) == b"\x7fELF":
            at = section.find(b".text")
            assert at > 0
            sections[number] = section[:64] + TRAP * ((len(section) - 64) // 64) + section[len(section) // 64 * 64 :]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for ELF")
@pytest.mark.parametrize(
    "name",
    [name if name in ("layer", "open network") else pytest.param(name, marks=pytest.mark.wide) for name in MAKERS],
)
def test_swapped_code_under_right_digests_is_never_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = MAKERS[name]()
    data = rewrite(to_bytes(net), spoil_code)
    with new_process(monkeypatch, tmp_path):
        with pytest.warns(oc.RebuildWarning, match="its machine code was not made here by this user") as caught:
            found = from_bytes(data)
        assert len([item for item in caught if item.category is oc.RebuildWarning]) == 1
        check_same(found, net)


def test_a_plan_that_somebody_else_wrote_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    net = layer()

    def spoil(sections: list[Any]) -> None:
        sections[1] = sections[1].replace(b'"arena_bytes":', b'"arena_bytes":-')

    seen: list[str] = []
    monkeypatch.setattr("omniconv.runtime.saved_plan.SavedPlan.plan", lambda *_: seen.append("read"))
    with pytest.warns(oc.RebuildWarning):
        found = from_bytes(rewrite(to_bytes(net), spoil))
    check_same(found, net)
    assert not seen


def test_a_seal_of_another_file_does_not_fit() -> None:
    """Other weights under the seal of a file that has the same form."""

    def change(sections: list[Any]) -> None:
        sections[2] = bytes(np.frombuffer(sections[2], np.float32) * 2)

    net = layer()
    with pytest.warns(oc.RebuildWarning):
        found = from_bytes(rewrite(to_bytes(net), change))
    x = np.ones(net.inputs["x"], np.float32)
    bias = net(np.zeros_like(x))
    np.testing.assert_allclose(found(x) - bias, 2 * (net(x) - bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda maker: maker.__setitem__("processor", "z80"), "saved on another processor, 'z80'"),
        (lambda maker: maker.__setitem__("llvm", "0.1"), "saved by Omniconv .* with llvmlite '0.1', and this is"),
        (lambda maker: maker.__setitem__("version", "9" * 10**5), "saved by Omniconv '9{40}' with"),
    ],
)
def test_the_warning_says_who_saved_it(change: Callable[[Any], Any], words: str) -> None:
    def edit(found: Any) -> None:
        change(found["Description"]["maker"]["Maker"])

    with pytest.warns(oc.RebuildWarning, match=f"pickled network is compiled anew for this machine: it was {words}"):
        from_bytes(edit_json(to_bytes(layer()), edit))


@pytest.mark.parametrize("what", ["compiler", "processor"])
def test_another_compiler_or_processor_compiles(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = layer()
    data = to_bytes(net)
    with monkeypatch.context() as patch:
        if what == "compiler":
            patch.setattr(build, "_TOOLS", (*build._TOOLS[:-1], "other sources"))
        else:
            patch.setattr("omniconv.runtime.saved.identify", lambda target: identify(target) + b"+avx1024")
        with pytest.warns(oc.RebuildWarning):
            check_same(from_bytes(data), net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same(from_bytes(data), net)


def test_the_features_of_the_processor_are_sealed() -> None:
    from dataclasses import replace

    target = layer().target
    assert identify(target) != identify(replace(target, features=f"{target.features},+sse9"))
    assert identify(target) != identify(replace(target, cpu="other"))
    assert Maker.here() == Maker.here()


def test_another_user_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = layer()
    data = to_bytes(net)
    with new_process(monkeypatch, tmp_path, key=False):
        with pytest.warns(oc.RebuildWarning, match="this user has no key"):
            check_same(from_bytes(data), net)  # makes one, for the cache
        with pytest.warns(oc.RebuildWarning, match="not made here by this user"):
            check_same(from_bytes(data), net)
        monkeypatch.setenv("OMNICONV_CACHE", "off")
        with pytest.warns(oc.RebuildWarning, match="this user has no key"):
            check_same(from_bytes(data), net)


def test_without_a_cache_there_is_no_code_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNICONV_CACHE", "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = layer()
        data = to_bytes(net)
    assert b"\x7fELF" not in data
    with pytest.warns(oc.RebuildWarning, match="it holds no machine code"):
        check_same(from_bytes(data), net)


def test_a_folder_that_cannot_be_written_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OMNICONV_CACHE", str(tmp_path / "file" / "cache"))
    net = layer()
    monkeypatch.setattr(cache, "_warned", set())  # a thread that compiles may have warned
    with pytest.warns(RuntimeWarning, match="cannot keep compiled code") as caught:
        found = [to_bytes(net) for _ in range(3)]
    assert len(caught) == 1
    with pytest.warns(oc.RebuildWarning, match="it holds no machine code"):
        check_same(from_bytes(found[-1]), net)


# -- the key


def entry(folder: Path) -> bytes | None:
    """What the cache gives back of an entry that was sealed before the key was touched."""
    return ObjectCache(folder).get("a" * 64)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(key, "_warned", set())
    ObjectCache(tmp_path / "cache").put("a" * 64, b"code")
    assert entry(tmp_path / "cache") == b"code"
    return tmp_path / "cache"


@posix
def test_the_key_is_a_secret_of_32_bytes(folder: Path) -> None:
    status = (folder / NAME).stat()
    assert (status.st_mode & 0o777, status.st_size, status.st_uid) == (0o600, 32, os.geteuid())
    assert not list(folder.glob(own.TEMPORARY + "*"))
    assert open_key(folder) == find_key(folder) == (folder / NAME).read_bytes()


def is_replaced(folder: Path, old: bytes) -> None:
    """A key that is no secret is believed by nobody, and the next that needs one makes a new one, with a warning."""
    assert find_key(folder) is None
    assert entry(folder) is None
    with pytest.warns(RuntimeWarning, match="is no secret of this user: a new key takes its place") as caught:
        ObjectCache(folder).put("b" * 64, b"more")
    assert len(caught) == 1
    new = find_key(folder)
    assert new is not None
    assert new != old
    assert entry(folder) is None
    assert ObjectCache(folder).get("b" * 64) == b"more"


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_key_that_others_may_touch(folder: Path, mode: int) -> None:
    old = (folder / NAME).read_bytes()
    (folder / NAME).chmod(mode)
    is_replaced(folder, old)
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length(folder: Path, data: bytes) -> None:
    old = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(data)
    is_replaced(folder, old)


@posix
def test_a_link_is_no_key(folder: Path) -> None:
    old = (folder / NAME).read_bytes()
    (folder / "elsewhere").write_bytes(old)
    (folder / "elsewhere").chmod(0o600)
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(folder / "elsewhere")
    is_replaced(folder, old)


@posix
@pytest.mark.parametrize("owner", [0, 4242])
def test_a_key_of_somebody_else(folder: Path, owner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat
    me = os.geteuid()
    monkeypatch.setattr(own.os, "geteuid", lambda: me + 1 if me == owner else me)

    def other(handle: int) -> os.stat_result:
        status = list(real(handle))
        status[4] = owner
        return os.stat_result(status)

    monkeypatch.setattr(own.os, "fstat", other)
    assert find_key(folder) is None
    assert entry(folder) is None


def test_a_missing_key_is_made_without_a_word(folder: Path) -> None:
    (folder / NAME).unlink()
    assert entry(folder) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ObjectCache(folder).put("a" * 64, b"code")
    assert entry(folder) == b"code"


def test_a_folder_in_the_place_of_the_key(folder: Path) -> None:
    (folder / NAME).unlink()
    (folder / NAME).mkdir()
    with pytest.warns(RuntimeWarning) as caught:
        assert [ObjectCache(folder).put("a" * 64, b"code") for _ in range(3)] == [None] * 3
    assert len(caught) == 2  # of the key, and that nothing is kept
    assert entry(folder) is None
    assert ObjectCache(folder).open_key() is None


def test_entries_are_sealed_for_their_digest(folder: Path) -> None:
    """Swapped code under another name, or with a plain digest, is missing."""
    entries = ObjectCache(folder)
    entries.put("b" * 64, b"other code")
    entries.path("a" * 64).write_bytes(entries.path("b" * 64).read_bytes())
    assert entry(folder) is None
    import hashlib

    magic = b"omniconv object code 2\n"
    for mark in (hashlib.sha256(b"evil").digest(), seal(bytes(32), magic, b"a" * 64, b"evil"), bytes(32)):
        entries.path("a" * 64).write_bytes(magic + mark + b"evil")
        assert entry(folder) is None


def test_seals_tell_parts_apart() -> None:
    secret = bytes(range(32))
    found = [seal(secret, b"ab", b"c"), seal(secret, b"a", b"bc"), seal(secret, b"abc"), seal(secret, b"abc", b"")]
    assert len(set(found)) == len(found)
    assert seal(secret, b"x") != seal(bytes(32), b"x")


def test_processes_that_come_together_get_one_key(tmp_path: Path) -> None:
    children = []
    for _ in range(6):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, open_key(tmp_path / "deep" / "cache"))
            finally:
                os._exit(0)
        os.close(writer)
        children.append((child, reader))
    keys = set()
    for child, reader in children:
        with os.fdopen(reader, "rb") as file:
            keys.add(file.read())
        os.waitpid(child, 0)
    assert len(keys) == 1
    assert keys == {find_key(tmp_path / "deep" / "cache")}


def test_the_seal_of_a_file_is_that_of_its_table() -> None:
    found_cache = open_cache()
    assert found_cache is not None
    secret = found_cache.find_key()
    assert secret is not None
    from omniconv.runtime.container import read_container

    net = network()
    found = read_container(to_bytes(net), "")
    assert found.seal == seal(secret, MAGIC, identify(net.target), found.table)
