"""What was saved is loaded as the same thing, with the same bits, and nothing is compiled again."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.saved.nets import MAKERS, check_same, feed, layer, network, new_process, no_compiling, open_network

import omniconv as oc
from omniconv.compiler.code.own import read_own
from omniconv.errors import StorageError
from omniconv.runtime import container
from omniconv.runtime.saved import from_bytes, is_saved, to_bytes

pytestmark = pytest.mark.filterwarnings("error::omniconv.RebuildWarning", "ignore::omniconv.HostWarning")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"layout": "NHWC"},
    {"dtype": "float64"},
    {"threads": 2, "exact": True},
    {"target": "x86-64-v2"},
]
WHOLE = ("layer", "chain", "network", "integers")
"""Those whose plans are in the file."""


def cases() -> list[Any]:
    """Each kind with its usual options; with others the wide run has all."""
    few = {("layer", 1), ("network", 2), ("open network", 1), ("chain", 3)}
    return [
        pytest.param(name, options, marks=[] if not number or (name, number) in few else [pytest.mark.wide])
        for name in MAKERS
        for number, options in enumerate(OPTIONS)
        if "target" not in options or os.uname().machine == "x86_64"
        if (name, options.get("dtype")) != ("integers", "float64")  # beside float32 alone
    ]


@pytest.mark.parametrize(("name", "options"), cases())
def test_what_is_loaded_is_what_was_saved(
    name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = MAKERS[name](**options)
    path = tmp_path / "net.oconv"
    net.save(path)
    assert is_saved(path)
    with new_process(monkeypatch, tmp_path):
        if name in WHOLE:
            with no_compiling(monkeypatch):
                found = oc.load(path)
                assert found.explain() == net.explain()
        else:
            monkeypatch.setattr("omniconv.compiler.code.build.compile_object", None)
            found = oc.load(str(path))
        check_same(found, net)
    assert (found.threads, found.layout, str(found.target)) == (net.threads, net.layout, str(net.target))
    assert found.dtypes == net.dtypes
    again = to_bytes(found)
    if name in WHOLE:
        assert again == path.read_bytes()


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("name", ["layer", "network", "open network"])
def test_threads_that_nobody_asked_for_are_those_of_the_machine_that_loads(
    name: str, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("runtime.executable", "compiler.planning.sharing"):
        monkeypatch.setattr(f"omniconv.{module}.count_worth", lambda _program, _target, most: min(most, 5))
    monkeypatch.setenv("OMNICONV_THREADS", "2")
    default, asked = to_bytes(MAKERS[name]()), to_bytes(MAKERS[name](threads=2))
    if not trusted:
        monkeypatch.setattr("omniconv.runtime.saved.is_sealed", lambda *_: False)
    for given, number in (("1", 1), ("3", 3), ("9", 9 if name == "open network" else 5)):
        monkeypatch.setenv("OMNICONV_THREADS", given)
        with nullcontext() if trusted else pytest.warns(oc.RebuildWarning):
            found, fixed = from_bytes(default), from_bytes(asked)
        assert (found.threads, fixed.threads, fixed.threads_why) == (number, 2, "")
        assert "OMNICONV_THREADS" in found.threads_why
        check_same(found, MAKERS[name](threads=number))


def test_a_layer_goes_on_as_a_stream(tmp_path: Path) -> None:
    spec = oc.causal(in_channels=2, out_channels=3, kernel_size=3, dims=1)
    net = oc.compile(spec, (1, 2, 12), oc.random_weights(spec, 3))
    net.save(tmp_path / "net.oconv")
    x = np.random.default_rng(1).standard_normal((1, 2, 12), np.float32)
    stream = oc.load(tmp_path / "net.oconv").stream(2, 4)
    parts = [stream.push(x[:, :, at : at + 4]) for at in range(0, 12, 4)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.flush()], 2), net(x))


def test_a_saved_network_is_not_compiled_but_loaded(tmp_path: Path) -> None:
    layer().save(tmp_path / "net.oconv")
    with pytest.raises(oc.ModelError, match=r"e\.g\. omniconv\.load\(path\)"):
        oc.compile(tmp_path / "net.oconv")


def test_a_stream_says_what_to_save() -> None:
    spec = oc.causal(in_channels=2, out_channels=3, kernel_size=3, dims=1)
    stream = oc.compile(spec, (1, 2, 12), oc.random_weights(spec, 3)).stream(2, 4)
    with pytest.raises(oc.UnsupportedError, match=r"Stream cannot be pickled.*need.*network.*state"):
        pickle.dumps(stream)


def test_where_a_model_belongs_it_says_what_opens_it(tmp_path: Path) -> None:
    path = str(tmp_path / "net.oconv")
    layer().save(path)
    for use in (oc.compile, lambda model: oc.tiled(model, np.zeros((1, 8, 9, 7), np.float32))):
        with pytest.raises(oc.ModelError, match=r"e\.g\. omniconv\.load\(path\), as it is a saved network"):
            use(path)


def test_an_open_network_takes_other_sizes_too(tmp_path: Path) -> None:
    net = open_network()
    net.save(tmp_path / "net.oconv")
    found = oc.load(tmp_path / "net.oconv")
    for shape in ((2, 3, 5, 9), (1, 3, 8, 8), (1, 3, 21, 4)):
        x = np.random.default_rng(3).standard_normal(shape, np.float32)
        for name, y in net.run({"x": x}).items():
            np.testing.assert_array_equal(found.run({"x": x})[name], y)


def test_measured_choices_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omniconv.compiler.planning.choice import list_choices
    from omniconv.compiler.planning.tuning_store import open_tuning

    monkeypatch.setenv("OMNICONV_CACHE", str(tmp_path / "cache"))
    usual = layer()
    decision = next(call.decision for call in usual.plan.calls if call.decision is not None)
    choices = [text for row in list_choices(decision.problem, usual.target) for text, _ in row]
    other = next(text for text in choices if text != decision.choice)
    store = open_tuning(usual.target)
    assert store is not None
    store.put(decision.problem.text(), other, decision.choice, gain=1.5, layer="", threads=1)
    net = layer(tuned=True)
    assert f"{other}, tuned" in net.explain()
    data = to_bytes(net)
    check_same(from_bytes(data), net)
    store.remove(decision.problem.text())
    monkeypatch.setattr("omniconv.runtime.saved.is_sealed", lambda *_: False)
    with pytest.warns(oc.RebuildWarning):
        found = from_bytes(data)
    assert f"{other}, tuned" in found.explain()
    check_same(found, net)


def test_code_for_another_machine_is_compiled_for_this_one(tmp_path: Path) -> None:
    away = "aarch64" if os.uname().machine == "x86_64" else "x86-64-v3"
    layer(target=away).save(tmp_path / "net.oconv")
    with pytest.warns(oc.RebuildWarning, match="compiled anew for this machine: it is code for"):
        found = oc.load(tmp_path / "net.oconv")
    check_same(found, layer(target="native"))


def run_in_worker(net: Any, inputs: Any) -> Any:
    """What a worker of another process does, with nothing but errors for code that is compiled."""
    warnings.simplefilter("error", oc.RebuildWarning)
    from omniconv.compiler.code import build

    build.compile_object = None  # type: ignore[assignment]
    return net.run(inputs)


@pytest.mark.wide
def test_workers_need_not_compile() -> None:
    net = network()
    inputs = feed(net)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(run_in_worker, (net, inputs))
    for name, y in net.run(inputs).items():
        np.testing.assert_array_equal(found[name], y)


NO_ONNX = """
import sys
sys.modules["onnx"] = None
import numpy as np, omniconv as oc
net = oc.load(sys.argv[1])
np.save(sys.argv[2], net(np.load(sys.argv[3])))
assert str(net.tiers).endswith("on the host"), net.tiers
try:
    oc.load(sys.argv[4])
except oc.UnsupportedError as error:
    assert "need the package onnx" in str(error), error
else:
    raise AssertionError
"""


def test_a_network_of_known_sizes_needs_no_onnx(tmp_path: Path) -> None:
    net = network()
    (x,) = feed(net).values()
    np.save(tmp_path / "x.npy", x)
    net.save(tmp_path / "net.oconv")
    open_network().save(tmp_path / "open.oconv")
    paths = [tmp_path / name for name in ("net.oconv", "y.npy", "x.npy", "open.oconv")]
    subprocess.run([sys.executable, "-W", "error", "-c", NO_ONNX, *map(str, paths)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), net(x))


# -- files


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = layer()
    path = tmp_path / "net.oconv"
    path.write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(container.os, "fsync", full)
        with pytest.raises(StorageError, match=r"cannot save to .*No space left on device; need .* room on the disk"):
            net.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    net.save(path)
    assert path.read_bytes() == to_bytes(net)
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_save_leaves_the_old_file(tmp_path: Path) -> None:
    layer().save(tmp_path / "net.oconv")
    old = (tmp_path / "net.oconv").read_bytes()
    child = os.fork()
    if not child:
        container.os.fsync = lambda _: os._exit(9)  # type: ignore[attr-defined]
        try:
            network().save(tmp_path / "net.oconv")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "net.oconv").read_bytes() == old


@pytest.mark.parametrize("place", ["", "folder", "missing/net.oconv", "file/net.oconv", "nul\0.oconv"])
def test_paths_that_take_no_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot save to"):
        layer().save(tmp_path / place)
    with pytest.raises(oc.ModelError):
        oc.load(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_devices_and_pipes_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(oc.ModelError, match="not a regular file"):
            oc.load(path)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    layer().save(tmp_path / "net.oconv")
    with (tmp_path / "net.oconv").open("r+b") as file:
        file.truncate(2**40)
    start = time.perf_counter()
    with pytest.raises(oc.LimitError, match=r"the file needs 1\.0 TiB"):
        oc.load(tmp_path / "net.oconv")
    assert time.perf_counter() - start < 1
    with pytest.raises(oc.LimitError):
        oc.load(tmp_path / "net.oconv", memory_limit=1000)


def test_what_is_written_reads_from_any_buffer() -> None:
    file = io.BytesIO()
    container.write_container([b"", b"a", np.arange(3)], None, file)
    data = file.getvalue()
    for form in (data, np.frombuffer(data, np.uint8)):
        found = container.read_container(form, "")
        assert [bytes(section) for section in found.sections] == [b"", b"a", np.arange(3).tobytes()]
        assert found.seal == bytes(32)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files")
def test_folders_and_pipes_are_refused_and_leave_nothing_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir()))
    for _ in range(3):
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(oc.ModelError, match=r"cannot be read|not a regular file"):
                oc.load(path)
            assert not is_saved(path)
            assert read_own(path) is None
    assert len(list(handles.iterdir())) == before


@pytest.mark.parametrize("name", ["\u6f22" * 80 + ".oconv", "\U0001f600" * 60, "x" * 255])
def test_names_as_long_as_files_may_have(name: str, tmp_path: Path) -> None:
    net = layer()
    net.save(tmp_path / name)
    check_same(oc.load(tmp_path / name), net)
    assert [path.name for path in tmp_path.iterdir()] == [name]
