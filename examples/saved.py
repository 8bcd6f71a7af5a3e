"""Compile a layer once, save it, and hand it to worker processes that compile nothing."""

from __future__ import annotations

import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import omniconv as oc


def work(task: tuple[Any, Any]) -> Any:
    """What a worker does: its network came with the task."""
    net, x = task
    return net(x)


def main() -> None:
    """Save a chain, load it, and run it in another process."""
    spec = oc.depthwise_separable(32, 64, kernel_size=3, stride=2, padding="same")
    shape = (1, 32, 56, 56)
    start = time.perf_counter()
    net = oc.compile(spec, shape, oc.random_weights(spec, 0))
    compiled = time.perf_counter() - start
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    y = net(x)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.oconv"
        net.save(path)
        start = time.perf_counter()
        again = oc.load(path)
        print(
            f"{path.stat().st_size} bytes; compiled in {compiled:.3f} s, loaded in {time.perf_counter() - start:.3f} s"
        )
    if not np.array_equal(again(x), y):
        raise oc.VerificationError("a loaded network has other results", need="the same bits")

    with get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(work, [(net, x)])
    print(f"the worker's result has the same bits: {np.array_equal(found, y)}")
    if not np.array_equal(found, y):
        raise oc.VerificationError("a worker has other results", need="the same bits")


if __name__ == "__main__":
    main()
