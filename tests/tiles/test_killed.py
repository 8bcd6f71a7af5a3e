"""Runs that are killed again and again, at moments that chance chooses: in sweeps, and between two outputs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = [pytest.mark.wide, pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")]
KILLS = int(os.environ.get("OMNICONV_KILLS", "3"))
"""How often a run is killed; more is a run of its own."""
RUN = """
import os, random, signal, sys, time
import numpy as np
import omniconv as oc
from omniconv.tiles.journal import Journal

name, folder, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(5)
if name == "sweeps":
    from tests.tiles.test_two_pass import NETS, X, model
    net, x, how = model(NETS["nested"]), X, {"two_pass": True, "tile": (4, 5)}
    outs = {"y.npy": f"{folder}/y.npy"}
    out = outs["y.npy"]
else:
    from tests.tiles.test_several import NET as net, EVEN as x
    how = {"tile": (4, 6)}
    outs = out = {"full": f"{folder}/full.npy", "half": f"{folder}/half.zarr"}

def run():
    oc.tiled(net, x, out, exact=True, progress=False, **how)

chance, killed, lines = random.Random(name), 0, 0
for turn in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        for what in ("add", "add_sum"):
            def slow(self, *line, add=getattr(Journal, what)):
                add(self, *line)
                os.write(write, b".")
                time.sleep(0.01)
            setattr(Journal, what, slow)
        run()
        os._exit(0)
    os.close(write)
    for _ in range(chance.randint(1, 3)):
        lines += len(os.read(read, 1))
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    os.close(read)
    assert not any(os.path.exists(path) for path in outs.values())
run()
print(killed, lines)
"""


@pytest.mark.parametrize("name", ["sweeps", "two outputs"])
def test_kills_leave_the_same_bytes(tmp_path, name):
    folders = tmp_path / "killed", tmp_path / "whole"
    for folder, kills in zip(folders, (KILLS, 0), strict=True):
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", RUN, name, str(folder), str(kills)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        killed, lines = map(int, done.stdout.split())
        assert killed == kills
        assert lines >= kills  # each got further
    found, want = (sorted(path for path in folder.rglob("*") if path.is_file()) for folder in folders)
    assert [path.relative_to(folders[0]) for path in found] == [path.relative_to(folders[1]) for path in want]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(found, want, strict=True))
    assert np.isfinite(np.load(next(path for path in found if path.suffix == ".npy"))).all()
