"""Two workers of Dask against one, on one machine: tiles of an image, and many images, through six layers of 3x3.

Both clusters are open at once and take turns, each worker a process that computes with one thread; medians are
compared. Imports are done before; what a call sends and compiles on each worker counts. What the two give is compared
first.

    python bench/clusters.py [tiled map] [--size 3072] [--images 400] [--rounds 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import omniconv as oc

CHANNELS = (1, 32, 32, 32, 32, 32, 2)


def compare(what: str, rounds: int, call: Callable[[int], Any]) -> None:
    """Call with one worker and with two, in turns, and print one line of JSON with the median times [s]."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in times.items():
            started = time.perf_counter()
            call(workers)
            found.append(time.perf_counter() - started)
    one, two = (statistics.median(found) for found in times.values())
    line = {"what": what, "cores": os.cpu_count(), "one": round(one, 3), "two": round(two, 3)}
    print(json.dumps({**line, "ratio": round(one / two, 2)}), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["tiled", "map"], help="tiled, map")
    parser.add_argument("--size", type=int, default=3072, help="of the image for tiles [pixels]")
    parser.add_argument("--images", type=int, default=400, help="for map, of 256 x 256")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    net = oc.Chain(tuple(oc.Conv.of(a, b, 3, padding=1) for a, b in itertools.pairwise(CHANNELS)))
    weights = oc.random_weights(net, rng)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        top, clients = Path(folder), {}
        for workers in (1, 2):
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            clients[workers] = stack.enter_context(Client(stack.enter_context(cluster), set_as_default=False))

        def tile(workers: int) -> Any:
            out, client = top / f"{workers}.zarr", clients[workers]
            return oc.tiled(
                net,
                top / "x.npy",
                out,
                weights=weights,
                tile=(512, 512),
                resume=False,
                progress=False,
                threads=1,
                cluster=client,
            )

        def run(workers: int) -> list[Path]:
            out, client = top / f"{workers}", clients[workers]
            return oc.map(
                net,
                top / "in",
                out,
                weights=weights,
                errors="raise",
                resume=False,
                progress=False,
                threads=1,
                cluster=client,
            ).results

        if "tiled" in options.what:
            np.save(top / "x.npy", rng.standard_normal((1, 1, options.size, options.size), np.float32))
            np.testing.assert_array_equal(tile(1)[0, 0], tile(2)[0, 0])
            compare(f"tiled, {options.size} x {options.size} pixels", options.rounds, tile)
        if "map" in options.what:
            (top / "in").mkdir()
            for n in range(options.images):
                np.save(top / "in" / f"{n}.npy", rng.standard_normal((1, 256, 256), np.float32))
            for one, two in zip(run(1), run(2), strict=True):
                np.testing.assert_array_equal(np.load(one), np.load(two))
            compare(f"map, {options.images} images of 256 x 256 pixels", options.rounds, run)


if __name__ == "__main__":
    main()
