"""Runs: where images come from and results go, axes by name, journals, and what goes wrong on the way."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import omniconv as oc
from omniconv.errors import DataError, LimitError, ShapeError, SpecError, StorageError, UnsupportedError
from omniconv.spec import Chain, Resize
from omniconv.tiles import results
from omniconv.tiles.compiled import CompiledTiles
from omniconv.tiles.place import OpenedImage
from omniconv.tiles.plan import TilePlan

NET = Chain((
    oc.Conv.of(2, 4, 3, padding=1), oc.Activation("relu"), oc.Conv.of(4, 4, 3, stride=2, padding=1),
    Resize(2, "nearest"), oc.Conv.of(4, 3, 3, dilation=2, padding=2),
))  # fmt: skip
WEIGHTS = [
    (np.random.default_rng(n).integers(-2, 3, shape).astype(np.float32), None)
    for n, shape in enumerate(NET.weight_shapes)
]
SHAPE = (1, 2, 58, 70)
X = np.random.default_rng(9).integers(-3, 4, SHAPE).astype(np.float32)
WHOLE = oc.compile(NET, SHAPE, WEIGHTS, exact=True)(X)


def run(x=X, out=None, **options):
    return oc.tiled(NET, x, out, **{"weights": WEIGHTS, "tile": (24, 32), "exact": True, "progress": False, **options})


def test_a_plan_says_what_tiles_cost():
    plan = oc.plan_tiles(NET, (1, 2, 3000, 4000), "3MB")
    assert plan.needed <= plan.memory == 3 * 2**20
    assert plan.tiles > 20
    assert 1 < plan.recompute < 1.2
    assert {axis.grid for axis in plan.tiling} == {2}
    assert all(size % 2 == 0 for size in plan.tile)
    assert plan.kinds <= 16
    table = str(plan)
    assert f"{plan.tiles} tiles" in table
    assert "|" in plan.picture()
    assert plan.to_dict()["tile"] == list(plan.tile)
    for tile in plan:
        for (first, stop), (low, high), axis, size in zip(
            *tile.outputs.values(), tile.reads["x"], plan.tiling, (3000, 4000), strict=True
        ):
            before, after = axis.halo
            assert low >= max(0, first - before)
            assert high <= min(size, stop + after)
            assert low == 0 or first - low >= 3


def test_more_memory_means_fewer_tiles():
    tiles = [oc.plan_tiles(NET, (1, 2, 1000, 1000), memory).tiles for memory in ("1MB", "4MB", "2GB")]
    assert tiles[0] > tiles[1] > tiles[2] == 1


def test_memory_for_no_tile_says_the_least():
    with pytest.raises(LimitError, match="need at least") as found:
        oc.plan_tiles(NET, (1, 2, 60, 60), 1000)
    assert oc.plan_tiles(NET, (1, 2, 60, 60), found.value.fix.split('"')[1]).tile == (2, 2)


def test_measured_time():
    assert oc.plan_tiles(NET, SHAPE, tile=(24, 32), weights=WEIGHTS).measure_seconds() > 0


@pytest.mark.parametrize("kind", ["npy", "memmap", "tiff", "array"])
def test_arrays_and_files(tmp_path, kind):
    x, out = X, tmp_path / "y.npy"
    if kind == "npy":
        np.save(tmp_path / "x.npy", X)
        x = tmp_path / "x.npy"
    elif kind == "memmap":
        out = np.memmap(tmp_path / "y", np.float32, "w+", shape=WHOLE.shape)
    elif kind == "tiff":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(tmp_path / "x.tif", X[0])
        x = tmp_path / "x.tif"
    else:
        out = np.full(WHOLE.shape, np.nan, np.float32)
    y = run(x, out)
    assert np.array_equal(np.reshape(y, WHOLE.shape), WHOLE)
    assert not list(tmp_path.glob("*.tiles"))
    assert not list(tmp_path.glob("*.part"))
    if kind == "npy":
        assert np.array_equal(np.load(out), WHOLE)


@pytest.mark.parametrize("version", [pytest.param(2, marks=pytest.mark.wide), 3])
def test_zarr_in_and_out(tmp_path, monkeypatch, version):
    zarr = pytest.importorskip("zarr")
    x = zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(1, 1, 20, 20), zarr_format=version)
    y = run(x, tmp_path / "y.zarr")
    assert np.array_equal(y[:], WHOLE)
    assert y.chunks == (1, 3, 24, 32)
    assert [type(packed).__name__ for packed in y.compressors] == ["BloscCodec"]
    monkeypatch.setattr(results, "BLOSC", 4 * 3 * 24 * 32 - 1)
    large = run(x, tmp_path / "large.zarr")
    assert np.array_equal(large[:], WHOLE)
    assert "BloscCodec" not in [type(packed).__name__ for packed in large.compressors]
    out = zarr.create_array(
        tmp_path / "z.zarr", shape=WHOLE.shape, dtype="f4", chunks=(1, 3, 8, 16), zarr_format=version
    )
    run(tmp_path / "x.zarr", out)
    assert np.array_equal(out[:], WHOLE)
    assert not list(tmp_path.glob("*.tiles"))
    odd = zarr.create_array(tmp_path / "w.zarr", shape=WHOLE.shape, dtype="f4", chunks=(1, 3, 9, 16))
    with pytest.raises(ShapeError, match=r"straddle tiles .* e.g. chunks=\(1, 3, 24, 32\)"):
        run(x, odd)
    # Tiles that are chosen keep to chunks by themselves.
    run(x, odd, tile=None, memory="220K")
    assert np.array_equal(odd[:], WHOLE)


def test_ome_zarr_means_its_first_resolution(tmp_path):
    zarr = pytest.importorskip("zarr")
    scales = {"multiscales": [{"datasets": [{"path": "s0"}]}]}
    group = zarr.create_group(tmp_path / "x.zarr", attributes={"ome": scales})
    group.create_array("a", data=X[..., ::2, ::2])
    group.create_array("s0", data=X)
    assert np.array_equal(run(tmp_path / "x.zarr"), WHOLE)


def test_dask_in_gives_dask_out_and_reads_nothing_before(tmp_path):
    da = pytest.importorskip("dask.array")
    seen = []

    def look(block):
        seen.append(block.shape)
        return block

    x = da.from_array(X, chunks=(1, 2, 30, 30)).map_blocks(look, meta=X[:0, :0, :0, :0])
    y = run(x)
    assert isinstance(y, da.Array)
    assert y.shape == WHOLE.shape
    assert not seen
    assert np.array_equal(y[:, :, :10, :10].compute(), WHOLE[:, :, :10, :10])
    assert 0 < len(seen) < 6
    assert np.array_equal(y.compute(), WHOLE)
    with pytest.raises(DataError, match="no out"):
        run(x, np.empty(WHOLE.shape, np.float32))


def test_tiles_are_computed_in_another_process():
    plan = oc.plan_tiles(NET, SHAPE, tile=(24, 32), weights=WEIGHTS, exact=True)
    there = pickle.loads(pickle.dumps(CompiledTiles(plan)))
    for tile in list(plan)[:1]:
        part = X[(slice(None), slice(None), *(slice(*span) for span in tile.reads["x"]))]
        ((name, box),) = tile.outputs.items()
        where = (slice(None), slice(None), *(slice(*span) for span in box))
        assert np.array_equal(there(tile, {"x": part})[name], WHOLE[where])


@pytest.mark.parametrize(
    "axes",
    ["TCZYX", "XTYC", *(pytest.param(axes, marks=pytest.mark.wide) for axes in ("YXC", "CYX"))],
)
def test_axes_by_name(axes):
    rng = np.random.default_rng(2)
    sizes = {"T": 2, "Z": 3, "Y": 58, "X": 70, "C": 2}
    x = rng.integers(-3, 4, [sizes[name] for name in axes]).astype(np.uint8 if axes == "TCZYX" else np.float32)
    y = run(x, axes=axes)
    planes = [name for name in axes if name in "TZ"]
    spatial = "YX"
    moved = x.transpose([axes.index(name) for name in (*planes, "C", *spatial)]).astype(np.float32)
    want = np.stack(
        [
            oc.compile(NET, (1, *one.shape), WEIGHTS, exact=True)(one[None])[0]
            for one in moved.reshape(-1, *moved.shape[-3:])[:: (5 if planes else 1)]
        ]
    )
    back = y.transpose([axes.index(name) for name in (*planes, "C", *spatial)])
    assert np.array_equal(back.reshape(-1, *back.shape[-3:])[:: (5 if planes else 1)], want)


def test_channels_that_are_not_there():
    net, shape = oc.Conv.of(1, 2, 3, padding=1), (1, 1, 40, 40)
    w = [(np.ones((2, 1, 3, 3), np.float32), None)]
    x = np.arange(1600, dtype=np.float32).reshape(40, 40)
    y = oc.tiled(net, x, weights=w, tile=(16, 16), exact=True, progress=False)
    assert np.array_equal(y, oc.compile(net, shape, w, exact=True)(x[None, None])[0])


@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (X, {"axes": "YX"}, ShapeError, "a letter for each axis"),
        (X, {"axes": "CNYX"}, ShapeError, "say 1 channels; need 2"),
        (np.moveaxis(X[0], 0, -1), {}, ShapeError, 'axes="YXC"'),
        (X[0, 0], {}, ShapeError, "its axes by name"),
        (X[:, :, :0], {}, ShapeError, "has an empty"),
        (X.astype(np.float64), {}, DataError, "float32 holds"),
        ("x", {}, DataError, "a file .npy, .zarr"),
        (3, {}, DataError, "an image of type int"),
        (X, {"tile": (24,)}, ShapeError, "for each of 2 axes"),
        (X, {"memory": "some"}, SpecError, "is not a size"),
        (X, {"out": np.empty(3, np.float32)}, ShapeError, "for the result"),
        (X, {"out": "y.bin"}, DataError, "ends in .npy, .zarr or .tif"),
        (X, {"tile": None, "memory": 10}, LimitError, "need at least"),
    ],
)
def test_arguments_that_do_not_fit(x, options, error, words):
    with pytest.raises(error, match=words):
        run(x, **options)


def test_what_is_compiled_already_takes_no_more_choices():
    f = oc.compile(NET, SHAPE, WEIGHTS, exact=True)
    assert np.array_equal(oc.tiled(f, X, tile=(24, 32), progress=False), WHOLE)
    with pytest.raises(SpecError, match="none of them for a network that is compiled already"):
        oc.tiled(f, X, exact=True)
    with pytest.raises(ShapeError, match="whose sizes are open"):
        oc.plan_tiles(f, (1, 2, 100, 100))


def test_what_needs_all_positions_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="other end of the axis 'step 0'"):
        oc.plan_tiles(oc.Conv.of(1, 1, 3, padding=1, padding_mode="circular"), (1, 1, 40, 40))


def test_nan_spreads_as_far_as_in_the_whole():
    x = X.copy()
    x[0, 0, 30, 30] = np.nan
    y, want = run(x), oc.compile(NET, SHAPE, WEIGHTS, exact=True)(x)
    assert np.array_equal(y, want, equal_nan=True)
    assert 0 < np.isnan(y).sum() < y.size // 2


class Failing:
    """An array on a disk that breaks."""

    def __init__(self, array, reads):
        self.array, self.reads = array, reads

    def __call__(self, where):
        self.reads -= 1
        if self.reads < 0:
            raise OSError(28, "No space left on device")
        return self.array[where]


def test_a_read_error_halfway_keeps_what_is_finished(tmp_path, monkeypatch):
    out = tmp_path / "y.npy"
    monkeypatch.setattr("omniconv.tiles.opening.open_source", lambda x, level: OpenedImage(x, level, x))

    class Broken:
        shape, dtype, ndim = X.shape, X.dtype, X.ndim
        get = Failing(X, 5)

        def __getitem__(self, where):
            return self.get(where)

    with pytest.raises(StorageError, match=r"reading .*No space left on device.*goes on where it stopped"):
        run(Broken(), out)
    assert not out.exists()
    lines = (tmp_path / "y.npy.tiles").read_bytes().splitlines()
    assert 1 <= len(lines) - 1 <= 5
    computed = []
    call = CompiledTiles.__call__
    monkeypatch.setattr(CompiledTiles, "__call__", lambda self, *a: computed.append(a[0]) or call(self, *a))
    assert np.array_equal(run(X, out), WHOLE)
    assert len(computed) == 9 - (len(lines) - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["y.npy"]


def test_a_write_error_is_one_of_storage(monkeypatch):
    class Full(np.ndarray):
        def __setitem__(self, where, value):
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"writing .*No space left"):
        run(X, np.empty(WHOLE.shape, np.float32).view(Full))


def test_a_journal_of_another_run_is_refused(tmp_path, monkeypatch):
    out = np.memmap(tmp_path / "y", np.float32, "w+", shape=WHOLE.shape)
    journal = tmp_path / "y.tiles"

    def stop(self, *line):
        self.close()
        raise OSError("pulled out")

    with monkeypatch.context() as patched:
        patched.setattr("omniconv.tiles.journal.Journal.add", stop)
        with pytest.raises(StorageError, match="pulled out"):
            run(X, out)
    other = [(w + 1, b) for w, b in WEIGHTS]
    with pytest.raises(DataError, match=r"of another run: network .* e\.g\. resume=False"):
        run(X, out, weights=other)
    with pytest.raises(DataError, match="of another run: tile"):
        run(X, out, tile=(16, 16))
    journal.write_bytes(b"{nonsense\n")
    with pytest.raises(DataError, match="its first line is damaged"):
        run(X, out)
    assert np.array_equal(run(X, out, resume=False), WHOLE)
    assert not journal.exists()


SCRIPT = """
import sys, time
import numpy as np
import omniconv as oc
from tests.tiles.test_run import NET, WEIGHTS, X
from omniconv.tiles.journal import Journal
add = Journal.add
def slow(self, *line):
    add(self, *line)
    print(line[0], flush=True)
    time.sleep(0.05)
Journal.add = slow
oc.tiled(NET, X, sys.argv[1], weights=WEIGHTS, tile=(8, 10), exact=True, progress=False)
"""


@pytest.mark.parametrize("name", ["y.npy", pytest.param("y.zarr", marks=pytest.mark.wide)])
def test_a_killed_run_goes_on_with_the_same_bytes(tmp_path, name):
    out = tmp_path / name
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(out)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(4):
        child.stdout.readline()
    time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not out.exists()
    finished = (tmp_path / f"{name}.tiles").read_bytes().count(b"\n") - 1
    assert 4 <= finished < 56
    with (tmp_path / f"{name}.tiles").open("ab") as file:
        file.write(b"5")  # a line that was cut off
    y = run(X, out, tile=(8, 10))
    assert np.array_equal(y[:], WHOLE)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_plan_is_a_record():
    assert isinstance(oc.plan_tiles(NET, SHAPE), TilePlan)
