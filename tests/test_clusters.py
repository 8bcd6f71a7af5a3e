"""Tiles and many images on a cluster of Dask: the same bytes, wherever images and results are; workers that are lost or
refused.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from tests.tiles.test_places import make_group, read_raster, write_raster
from tests.tiles.test_run import NET, SHAPE, WEIGHTS, WHOLE, X, run
from tests.tiles.test_several import EVEN
from tests.tiles.test_several import NET as SEVERAL
from tests.tiles.test_several import WHOLE as SEVERAL_WHOLE
from tests.tiles.test_two_pass import NETS, model
from tests.tiles.test_two_pass import X as IMAGE

import omniconv as oc
from omniconv.cluster import Fleet, open_client
from omniconv.errors import DataError, LimitError, StorageError, UnsupportedError
from omniconv.tiles.compiled import CompiledTiles
from omniconv.tiles.journal import Journal
from omniconv.tiles.sharing import share_kinds

distributed = pytest.importorskip("distributed")
RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def client():
    """Two workers, each a process of its own."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize("out", [pytest.param("npy", marks=pytest.mark.wide), "zarr", None])
def test_the_same_bytes_from_and_to_everywhere(client, tmp_path, out):
    np.save(tmp_path / "x.npy", X)
    x = X if out == "npy" else tmp_path / "x.npy"
    y = run(x, None if out is None else tmp_path / f"y.{out}", cluster=client)
    assert np.array_equal(y[:], WHOLE)
    assert not list(tmp_path.glob("*.tiles"))


@pytest.mark.wide
def test_a_stopped_run_goes_on_with_what_is_missing(client, tmp_path, monkeypatch):
    add, lines = Journal.add, []

    def stop(self, *line):
        add(self, *line)
        lines.append(line)
        if len(lines) == 4:
            raise OSError("pulled out")

    for ending in ("npy", "zarr"):
        lines.clear()
        out = tmp_path / f"y.{ending}"
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "add", stop)
            with pytest.raises(StorageError, match="pulled out"):
                run(X, out, cluster=client)
        finished = {line[0] for line in lines}
        monkeypatch.setattr(Journal, "add", lambda self, *line: (lines.append(line), add(self, *line)))
        lines.clear()
        assert np.array_equal(run(X, out, cluster=client)[:], WHOLE)
        assert {line[0] for line in lines} == set(range(9)) - finished


@pytest.mark.wide
def test_sweeps_before_the_result(client, tmp_path):
    net = model(NETS["nested"])
    x = np.concatenate([IMAGE, IMAGE[:, :, ::-1]])
    options = {"tile": (9, 11), "two_pass": True, "exact": True, "progress": False}
    want = oc.tiled(net, x, cluster=False, **options)
    assert np.array_equal(oc.tiled(net, x, tmp_path / "y.npy", cluster=client, **options), want)
    da = pytest.importorskip("dask.array")
    lazy = oc.tiled(net, da.from_array(x, chunks=(1, x.shape[1], 30, 30)), **options)
    assert np.array_equal(client.compute(lazy).result(), want)


@pytest.mark.wide
def test_several_inputs_and_outputs(client, tmp_path):
    """One image is read by the workers, parts of another are sent; one output is written there, the other here."""
    np.save(tmp_path / "x.npy", EVEN["x"])
    out = {"full": tmp_path / "full.zarr", "half": tmp_path / "half.npy"}
    x = {**EVEN, "x": tmp_path / "x.npy"}
    found = oc.tiled(SEVERAL, x, out, tile=(10, 12), exact=True, progress=False, cluster=client)
    assert all(np.array_equal(found[name][...], want) for name, want in SEVERAL_WHOLE.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.zarr", "half.npy", "x.npy"]


@pytest.mark.wide
def test_levels_and_rasters(client, tmp_path):
    """Workers open the same resolution, and a raster comes back to be written here."""
    twice = np.repeat(np.repeat(X[0], 2, 1), 2, 2)
    x = make_group(tmp_path / "x.zarr", list("cyx"), fine=(twice, [1, 1, 1]), coarse=(X[0], [1, 2, 2]))
    y = run(x, tmp_path / "y.ome.zarr", level=1, cluster=client)
    assert np.array_equal(y[:], WHOLE[0])
    x = write_raster(tmp_path / "x.tif", X[0])
    assert np.array_equal(run(x, tmp_path / "y.tif", cluster=client)[:], WHOLE[0])
    assert read_raster(tmp_path / "y.tif")[1] == read_raster(x)[1]


@pytest.mark.wide
def test_dask_arrays_of_a_cluster_carry_the_network_once(client):
    da = pytest.importorskip("dask.array")
    y = run(da.from_array(X, chunks=(1, 2, 30, 30)))
    assert np.array_equal(client.compute(y).result(), WHOLE)


def test_many_images(client, tmp_path):
    """Paths, arrays and functions go there, results come here or are written there, bad files are reported."""
    images = [RNG.integers(-3, 4, (2, 30 + n % 2, 20)).astype(np.float32) for n in range(11)]
    wanted = [oc.compile(NET, (1, *x.shape), WEIGHTS, exact=True)(x[None])[0] for x in images]
    (tmp_path / "in").mkdir()
    for n, x in enumerate(images):
        np.save(tmp_path / "in" / f"{n:02}.npy", x)
    (tmp_path / "in" / "99.npy").write_bytes(b"")
    options = {"weights": WEIGHTS, "exact": True, "progress": False, "cluster": client, "batch": 2}
    for again in (False, True):
        report = oc.map(NET, tmp_path / "in", tmp_path / "out", **options)
        assert [record.name for record in report.failed] == ["99.npy"]
        assert [record.old for record in report] == [again] * 11 + [False]
        assert all(np.array_equal(np.load(path), y) for path, y in zip(report.results, wanted, strict=False))
    report = oc.map(NET, iter(images), preprocess=lambda x: x + 1, postprocess=lambda y: y.shape, **options)
    assert report.results == [y.shape for y in wanted]
    with pytest.raises(StorageError, match=r"99\.npy"):
        oc.map(NET, tmp_path / "in", errors="raise", **options)


def test_a_disk_that_workers_do_not_see_is_refused(client, tmp_path, monkeypatch):
    for module in ("tiles", "mapping"):
        monkeypatch.setattr(f"omniconv.{module}.cluster.hash_head", lambda path: "of another disk")
    with pytest.raises(StorageError, match="a worker does not see"):
        run(X, tmp_path / "y.zarr", cluster=client)
    with pytest.raises(StorageError, match="a worker does not see"):
        oc.map(NET, [X[0]], tmp_path / "out", weights=WEIGHTS, progress=False, cluster=client)


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
def test_kinds_of_few_tiles_are_of_one_worker(workers):
    plan = oc.plan_tiles(NET, (1, 2, 200, 260), tile=(20, 20), weights=WEIGHTS)
    shared = list(share_kinds(plan, workers))
    assert sorted(number for number, _, _ in shared) == list(range(plan.tiles))
    assert all(plan.tile_at(tile.index) == tile == list(plan)[number] for number, tile, _ in shared[::9])
    homes = {}
    for _, tile, home in shared:
        homes.setdefault(tile.kind, set()).add(home)
    assert all(len(found) == 1 for found in homes.values())
    own = [[home for _, _, home in shared].count(n) for n in range(workers)]
    assert max(own) - min(own) <= 4
    assert homes[plan.tile_at((5, 5)).kind] == {None}


def test_workers_that_do_not_fit_are_refused(client, monkeypatch):
    plan = oc.plan_tiles(NET, SHAPE, tile=(24, 32), weights=WEIGHTS)
    with pytest.raises(LimitError, match=r"may take .* for 1 jobs of 8.0 TiB; need memory for all jobs"):
        Fleet(client, plan.subject.target, 2**43, None)
    assert set(Fleet(client, plan.subject.target, 1, 3).threads.values()) == {3}
    monkeypatch.setattr("omniconv.__version__", "99.0")
    with pytest.raises(
        UnsupportedError, match=r"worker tcp.* has Omniconv .*, and this process 99.0; need one version"
    ):
        run(X, cluster=client)


def test_clusters_that_are_none():
    with pytest.raises(DataError, match=r"cluster is int; need a dask\.distributed\.Client"):
        run(X, cluster=3)
    with pytest.raises(StorageError, match="no scheduler of Dask at 'nowhere'"):
        run(X, cluster="nowhere")
    with open_client(False) as client:
        assert client is None


@pytest.mark.wide
@pytest.mark.parametrize("name", ["tiles", "sweeps"])
def test_a_killed_worker_loses_nothing(tmp_path, monkeypatch, name):
    """The client that is open is used; its two workers are killed while tiles, or those of sweeps, are computed."""
    what = "add_sum" if name == "sweeps" else "add"
    add, killed, lines = getattr(Journal, what), [], []
    sweeps = {"tile": (9, 11), "two_pass": True, "exact": True, "progress": False}
    net = model(NETS["nested"])
    want = oc.tiled(net, IMAGE, **sweeps) if name == "sweeps" else WHOLE
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        victims = list(client.run(os.getpid).values())

        def kill(self, *line):
            add(self, *line)
            lines.append(line)
            if len(killed) < 2 and len(lines) >= 4:
                killed.append(victims[len(killed)])
                os.kill(killed[-1], signal.SIGKILL)

        monkeypatch.setattr(Journal, what, kill)
        monkeypatch.setattr(CompiledTiles, "__call__", None)  # this process computes nothing
        out = tmp_path / "y.zarr"
        y = oc.tiled(net, IMAGE, out, **sweeps) if name == "sweeps" else run(X, out, tile=(8, 8))
    assert len(killed) == 2
    assert np.array_equal(y[:], want)
