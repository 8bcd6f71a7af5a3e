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

size, memory = 4000, 64 * 10**6
net = oc.Chain((oc.Conv.of(3, 16, 3, padding=1), oc.Activation("relu"), oc.Conv.of(16, 16, 3, padding=4, dilation=4),
                oc.Activation("relu"), oc.Conv.of(16, 2, 3, padding=1)))
weights = oc.random_weights(net, np.random.default_rng(0))
how = dict(weights=weights, exact=True, axes="CYX")
x, y = np.full((3, size, size), 7, np.uint8), np.full((2, size, size), 7, np.float32)
plan = oc.plan_tiles(net, x.shape, memory, **how)
compiled = CompiledTiles(plan)
for tile in plan:
    compiled.find(tile)
del compiled
before, peak, done = rss(), [0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], rss())
thread = threading.Thread(target=watch)
thread.start()
oc.tiled(net, x, y, memory=memory, progress=False, **how)
done.set()
thread.join()
print(peak[0] - before, plan.needed, memory, plan.tiles)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_run_keeps_to_its_budget():
    """Arrays of the caller come on top, as does what a format takes to pack and unpack: both are in memory here."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    taken, needed, memory, tiles = map(int, done.stdout.split())
    assert tiles > 20
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
