"""What a run takes, in a process of its own, beside what the plan says; and the bench, on a small image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wide
RUN = """
import resource, sys, threading, time
import numpy as np
import omniconv as oc
from omniconv.tiles.compiled import CompiledTiles

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

kind, size, memory = sys.argv[1], 2400, 48 * 10**6
net = oc.Chain((oc.Conv.of(3, 16, 3, padding=1), oc.Activation("relu"), oc.Conv.of(16, 16, 3, padding=4, dilation=4),
                oc.Activation("relu"), oc.Conv.of(16, 2, 3, padding=1)))
weights = oc.random_weights(net, np.random.default_rng(0))
how = dict(weights=weights, exact=True, axes="CYX", memory=memory, progress=False)
if kind == "npy":
    x = np.lib.format.open_memmap("x.npy", "w+", np.uint8, (3, size, size))
    x[:] = 7
    del x
elif kind == "zarr":
    import zarr
    array = zarr.create_array("x.zarr", shape=(3, size, size), chunks=(3, 1024, 1024), dtype="u1")
    for top in range(0, size, 1024):
        array[:, top : top + 1024] = np.random.default_rng(top).integers(0, 256, array[:, top : top + 1024].shape, "u1")
paths = f"x.{kind}", f"y.{kind}"
x, y = paths if kind else (np.full((3, size, size), 7, np.uint8), np.full((2, size, size), 7, np.float32))
# The compiler, and what packages take when they are first used, are not of the budget.
oc.tiled(net, np.zeros((3, 600, 600), np.uint8), "small.zarr" if kind == "zarr" else None, **(how | {"memory": "9MB"}))
before, peak, done = rss(), [0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], rss())
thread = threading.Thread(target=watch)
thread.start()
seen = []
call = CompiledTiles.__call__
CompiledTiles.__call__ = lambda self, *a: (seen.append(self.plan.needed), call(self, *a))[1]
oc.tiled(net, x, y, **how)
done.set()
thread.join()
print(peak[0] - before, seen[0], memory, len(seen))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["", "npy", "zarr"])
def test_a_run_keeps_to_its_budget(tmp_path, kind):
    """Arrays of the caller come on top; files and chunks do not."""
    if kind == "zarr":
        pytest.importorskip("zarr")
    done = subprocess.run([sys.executable, "-c", RUN, kind], capture_output=True, text=True, check=True, cwd=tmp_path)
    taken, needed, memory, tiles = map(int, done.stdout.split())
    assert tiles > 15
    assert needed <= memory
    assert taken <= 1.1 * memory


def test_the_bench_runs(tmp_path):
    for name in ("zarr", "torch", "skimage", "dask"):
        pytest.importorskip(name)
    script = Path(__file__).parents[2] / "bench" / "tiles.py"
    command = [sys.executable, str(script), "--size", "600", "--whole", "600", "--memory", "8MB", "--nets", "unet"]
    done = subprocess.run(
        [*command, "--ways", "tiles", "overlap"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["way"] for row in rows] == ["tiles", "overlap"]
    assert rows[0]["planned"] <= rows[0]["budget"]
    assert rows[0]["error"] < 1e-5
    assert "failed" not in rows[1]
