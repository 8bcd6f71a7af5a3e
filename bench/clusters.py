"""Two workers of Dask against one, on one machine: tiles of an image, and many images, through six layers of 3x3.

They take turns, each worker a process that computes with one thread; medians are compared. Each turn has a cluster of
its own, because workers that have nothing to do take a part of a core too. Imports are done before; what a call sends
and compiles on each worker counts. What the two give is compared.

    python bench/clusters.py [tiled map] [--size 8192] [--images 400] [--rounds 3]
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
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import omniconv as oc

CHANNELS = (1, 32, 32, 32, 32, 32, 2)


def make_ready() -> None:
    """Import what workers need."""
    for name in ("omniconv.tiles.cluster", "omniconv.mapping", "zarr"):
        __import__(name)


def compare(what: str, rounds: int, call: Callable[[int, Client], Any]) -> dict[int, Any]:
    """Call with one worker and with two, in turns, and print one line of JSON with the median times [s]; what the last
    calls gave.
    """
    times: dict[int, list[float]] = {1: [], 2: []}
    given = {}
    for _ in range(rounds):
        for workers, found in times.items():
            cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
            with cluster, Client(cluster, set_as_default=False) as client:
                client.run(make_ready)
                started = time.perf_counter()
                given[workers] = call(workers, client)
                found.append(time.perf_counter() - started)
    one, two = (statistics.median(found) for found in times.values())
    line = {"what": what, "cores": os.cpu_count(), "one": round(one, 3), "two": round(two, 3)}
    print(json.dumps({**line, "ratio": round(one / two, 2)}), flush=True)
    return given


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["tiled", "map"], help="tiled, map")
    parser.add_argument("--size", type=int, default=8192, help="of the image for tiles [pixels]")
    parser.add_argument("--images", type=int, default=400, help="for map, of 256 x 256")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    net = oc.Chain(tuple(oc.Conv.of(a, b, 3, padding=1) for a, b in itertools.pairwise(CHANNELS)))
    weights = oc.random_weights(net, rng)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)

        def tile(workers: int, client: Client) -> Any:
            return oc.tiled(
                net,
                top / "x.npy",
                top / f"{workers}.zarr",
                weights=weights,
                tile=(1024, 1024),
                resume=False,
                progress=False,
                threads=1,
                cluster=client,
            )

        def run(workers: int, client: Client) -> list[Path]:
            return oc.map(
                net,
                top / "in",
                top / f"{workers}",
                weights=weights,
                errors="raise",
                resume=False,
                progress=False,
                threads=1,
                cluster=client,
            ).results

        if "tiled" in options.what:
            np.save(top / "x.npy", rng.standard_normal((1, 1, options.size, options.size), np.float32))
            ys = compare(f"tiled, {options.size} x {options.size} pixels", options.rounds, tile)
            np.testing.assert_array_equal(ys[1][:], ys[2][:])
        if "map" in options.what:
            (top / "in").mkdir()
            for n in range(options.images):
                np.save(top / "in" / f"{n}.npy", rng.standard_normal((1, 256, 256), np.float32))
            paths = compare(f"map, {options.images} images of 256 x 256 pixels", options.rounds, run)
            for one, two in zip(paths[1], paths[2], strict=True):
                np.testing.assert_array_equal(np.load(one), np.load(two))


if __name__ == "__main__":
    main()
