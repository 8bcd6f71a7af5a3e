"""What a stopped run leaves: nothing of another image or a lost output is taken over, and one run holds a result."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest
from tests.tiles.test_run import NET, SHAPE, WEIGHTS, WHOLE, X, run

import omniconv as oc
from omniconv.errors import DataError, LimitError, ShapeError, StorageError
from omniconv.tiles.compiled import CompiledTiles
from omniconv.tiles.journal import Journal
from omniconv.tiles.room import Rooms, as_stored, make_room


def stop_after(monkeypatch, count, out, x=X):
    """A run that ends after some tiles."""
    add, lines = Journal.add, []

    def stop(self, *line):
        add(self, *line)
        lines.append(line)
        if len(lines) == count:
            raise OSError("pulled out")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", stop)
        with pytest.raises(StorageError, match="pulled out"):
            run(x, out)


def test_tiles_of_another_image_are_computed_again(tmp_path, monkeypatch):
    stop_after(monkeypatch, 4, tmp_path / "y.npy")
    other = X.copy()
    other[..., :5] += 1
    seen, call = [], CompiledTiles.__call__
    monkeypatch.setattr(CompiledTiles, "__call__", lambda self, *a: seen.append(a[0].index) or call(self, *a))
    y = run(other, tmp_path / "y.npy")
    assert np.array_equal(y, oc.compile(NET, SHAPE, WEIGHTS, exact=True)(other))
    assert (0, 0) in seen
    assert (0, 1) not in seen


@pytest.mark.parametrize("lost", ["memmap", pytest.param("chunk", marks=pytest.mark.wide)])
def test_outputs_that_are_lost_are_computed_again(tmp_path, monkeypatch, lost):
    def make():
        return np.memmap(tmp_path / "y", np.float32, "w+", shape=WHOLE.shape)

    if lost == "memmap":  # a script that begins anew makes its memmap anew
        stop_after(monkeypatch, 4, make())
        assert np.array_equal(run(X, make()), WHOLE)
        return
    pytest.importorskip("zarr")
    stop_after(monkeypatch, 4, tmp_path / "y.zarr")
    next(path for path in (tmp_path / "y.zarr.part" / "c").rglob("*") if path.is_file()).unlink()
    assert np.array_equal(run(X, tmp_path / "y.zarr")[:], WHOLE)


def test_an_edited_journal_and_a_cut_result(tmp_path, monkeypatch):
    out, journal, part = (tmp_path / name for name in ("y.npy", "y.npy.tiles", "y.npy.part"))
    stop_after(monkeypatch, 2, out)
    lines = journal.read_bytes()
    zeros = b"0" * 32
    journal.write_bytes(lines + b"7 %b %b\n8\n%b\n\xff\n" % (zeros, zeros, b"9" * 5000))
    whole = part.read_bytes()
    part.write_bytes(whole[:50])
    with pytest.raises(StorageError, match=r"y\.npy\.part.*resume=False"):
        run(X, out)
    part.write_bytes(whole[:5000])
    assert np.array_equal(run(X, out), WHOLE)


def test_one_run_holds_a_result(tmp_path, monkeypatch):
    begun, go_on, add = threading.Event(), threading.Event(), Journal.add

    def wait(self, *line):
        begun.set()
        go_on.wait(10)
        go_on.set()
        add(self, *line)

    monkeypatch.setattr(Journal, "add", wait)
    found = []
    first = threading.Thread(target=lambda: found.append(run(X, tmp_path / "y.npy")))
    first.start()
    begun.wait(10)
    try:
        for resume in (True, False):
            with pytest.raises(StorageError, match="another run holds"):
                run(X, tmp_path / "y.npy", resume=resume)
    finally:
        go_on.set()
        first.join()
    assert np.array_equal(found[0], WHOLE)
    assert np.array_equal(np.load(tmp_path / "y.npy"), WHOLE)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_last_tiles_are_written_ends_all(tmp_path, monkeypatch):
    add, ended = Journal.add, []

    def interrupt(self, number, *rest):
        add(self, number, *rest)
        if number == 8:
            time.sleep(0.1)  # until all are computed
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            ended.append(number)

    monkeypatch.setattr(Journal, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(X, tmp_path / "y.npy")
    assert ended == [8]
    assert np.array_equal(run(X, tmp_path / "y.npy"), WHOLE)


def put(path, what):
    np.save(path, what)
    return path


@pytest.mark.parametrize("where", ["array", "part", "memmap", "path"])
def test_a_result_is_not_written_over_its_image(tmp_path, where):
    net, w = oc.Conv.of(1, 1, 3, padding=1), [(np.ones((1, 1, 3, 3), np.float32), None)]
    room = np.zeros((1, 1, 44, 40), np.float32)
    path = put(tmp_path / "x.npy", room)
    x, out = {
        "array": (room, room),
        "part": (room[:, :, 4:], room[:, :, :40]),
        "memmap": (path, np.load(path, mmap_mode="r+")),
        "path": (path, path),
    }[where]
    with pytest.raises(DataError, match="written over the image"):
        oc.tiled(net, x, out, weights=w, tile=(8, 8), progress=False)


def test_what_else_has_the_name_of_a_result_is_kept(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_group(tmp_path / "g.zarr").create_array("s0", data=X)
    (tmp_path / "f.zarr").write_text("mine")
    (tmp_path / "d.npy").mkdir()
    for name in ("g.zarr", "f.zarr", "d.npy"):
        with pytest.raises(DataError, match="is not a"):
            run(X, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "f.zarr", "g.zarr"]
    with pytest.raises(DataError, match="written over the image"):
        run(tmp_path / "g.zarr", zarr.open_group(tmp_path / "g.zarr")["s0"])
    with pytest.raises(StorageError, match="no folder"):
        run(X, tmp_path / "no" / "y.npy")
    put(tmp_path / "old.npy", X)
    (tmp_path / "link.npy").symlink_to(tmp_path / "old.npy")
    run(X, tmp_path / "link.npy")
    assert (tmp_path / "link.npy").is_symlink()
    assert np.array_equal(np.load(tmp_path / "old.npy"), WHOLE)


@pytest.mark.parametrize(
    ("scales", "error"),
    [
        (5, DataError),
        ([{"datasets": []}], DataError),
        ([{"datasets": [{"path": 5}]}], DataError),
        ([{"datasets": [{"path": ""}]}], DataError),
        ([{"datasets": [{"path": "../x"}]}], StorageError),
    ],
)
def test_damaged_descriptions_of_zarr_groups(tmp_path, scales, error):
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(tmp_path / "x.zarr", attributes={"multiscales": scales, "ome": "none"})
    group.create_array("a", data=X[0, 0])
    with pytest.raises(error):
        run(tmp_path / "x.zarr")


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.npy", b"\x93NUMPY\x01\x00v\x00" + b"{" * 118), ("x.tif", b"II*\0\x08\0\0\0"), ("x.npy", b"")],
)
def test_damaged_files_are_errors_of_storage(tmp_path, name, content):
    if name == "x.tif":
        pytest.importorskip("tifffile")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StorageError, match="a file that is whole"):
        run(tmp_path / name)


def test_absurd_sizes_are_refused_before_anything_is_made(tmp_path):
    da, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    most = 2**31 - 1
    with pytest.raises(LimitError, match="65536 along an axis"):
        oc.plan_tiles(oc.Conv.of(1, 1, 3, padding=1), (1, 1, most, most), "1MB")
    with pytest.raises(LimitError, match="the tables of a resize"):
        oc.plan_tiles(oc.Chain((oc.Conv.of(1, 1, 3, padding=1), oc.Resize(2, "linear"))), (1, 1, most, 64))
    sizes, chunks = (2**30, 2**30, *SHAPE[1:]), (1, 1, *SHAPE[1:])
    with pytest.raises(LimitError, match="blocks of a Dask array"):
        run(da.zeros((2**20, 2**20, *SHAPE[1:]), chunks=(2**20, 2**20, *SHAPE[1:]), dtype="f4"), axes="TZCYX")
    x = zarr.create_array(tmp_path / "x.zarr", shape=sizes, chunks=chunks, dtype="f4")
    with pytest.raises(LimitError, match=r'a result of .* in memory.*out="result\.zarr"'):
        run(x, axes="TZCYX")
    out = zarr.create_array(tmp_path / "y.zarr", shape=(3, 58, 70), chunks=(3, 24, 32), dtype="f4")
    with pytest.raises(ShapeError, match="an array of 3 axes for output"):
        run(X, out)
    with pytest.raises(ShapeError, match="a letter for each axis"):
        oc.plan_tiles(NET, SHAPE, axes="NÇYX")


def test_memory_is_any_number_of_bytes_and_a_tile_takes_its_own():
    plan = oc.plan_tiles(NET, (1, 2, 600, 600), 2**33, tile=(300, 300), weights=WEIGHTS)
    assert plan.memory == 2**33
    compiled, tile = CompiledTiles(plan), next(iter(plan))
    x = np.zeros((1, 2, *(b - a for a, b in tile.reads["x"])), np.float32)
    (y,) = compiled(tile, {"x": x}).values()
    assert y.nbytes >= 2**20
    block = weakref.ref(y.base)
    del y
    assert block() is None  # an executable keeps none of it for a next result


def test_memory_of_a_tile_serves_the_next_when_nothing_looks_at_it():
    make = Rooms().named("x")
    x = make((2, 3), np.dtype(np.float32))
    view, first = x[1:].reshape(-1)[::2], x.ctypes.data
    del x
    other = make((2, 3), np.dtype(np.float32))
    assert not np.shares_memory(view, other)
    del view
    assert make((5,), np.dtype(np.uint8)).ctypes.data == first


@pytest.mark.parametrize("shape", [(0, 3), (4, 5, 1), (4, 5, 7), (2, 3, 9), ()])
def test_what_is_stored_lies_row_by_row(shape):
    y = np.arange(math.prod(shape), dtype=np.float32).reshape(shape[::-1]).T
    stored = as_stored(y, make_room)
    assert stored.flags.c_contiguous
    assert np.array_equal(stored, y)
