"""Time networks from a file to the first answer, in fresh processes with nothing cached.

``bench/cold.py MODEL ... [--rounds N] [--threads N] [--runtime NAME ...]``: every runtime opens each model and runs it
once on images of its declared size (open dimensions are taken as 224), in turn, in processes of their own. Of each the
fastest of the rounds is shown: seconds on the clock, imports included, and the time that all of its threads spent
together, which depends less on who else uses the machine. Of Omniconv also how many kernels were compiled, and how long
a second start takes, which finds them on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from sizes import RUNTIMES, compile_bytecode

REPORT: Final = Path("build/bench/cold.json")
ASSUMED: Final = 224
"""What open dimensions are taken for."""


def run(name: str, path: str, threads: int, shape: tuple[int, ...]) -> None:
    """One runtime in this process; prints its times as JSON."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    start, spent = time.perf_counter(), time.process_time()
    if name == "Omniconv":
        import omniconv as oc

        net = oc.compile(path, threads=threads)
        net(x)
        kernels = net.kernels
    else:
        RUNTIMES[name](path, threads)(x)
        kernels = 0
    found = {"clock": time.perf_counter() - start, "spent": time.process_time() - spent, "kernels": kernels}
    print(json.dumps(found))


def declared(path: str) -> tuple[int, ...]:
    """The shape of the first input."""
    import onnx

    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return tuple(dim.dim_value or (1 if axis == 0 else ASSUMED) for axis, dim in enumerate(dims))


def measure(name: str, path: str, threads: int, shape: tuple[int, ...], cache: str) -> dict[str, Any]:
    """The times of one runtime in a process of its own, which keeps machine code in a folder."""
    words = [path, "--child", name, "--threads", str(threads), "--shape", *map(str, shape)]
    found = subprocess.run(  # noqa: S603 - this file
        [sys.executable, __file__, *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMNICONV_CACHE": cache},
    )
    times: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return times


def main(arguments: list[str]) -> int:
    """Measure all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtime", choices=RUNTIMES, nargs="+", default=[*RUNTIMES])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run(options.child, options.models[0], options.threads, tuple(options.shape))
        return 0
    compile_bytecode()
    records = []
    for path in options.models:
        shape = declared(path)
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for name in options.runtime:
                with tempfile.TemporaryDirectory() as cache:
                    found.setdefault(name, []).append(measure(name, path, options.threads, shape, cache))
                    if name == "Omniconv":
                        again = measure(name, path, options.threads, shape, cache)
                        found.setdefault("Omniconv, again", []).append(again)
        for name, times in found.items():
            clock, spent = (min(each[word] for each in times) for word in ("clock", "spent"))
            kernels = f", {times[0]['kernels']} kernels" if times[0]["kernels"] else ""
            print(f"{Path(path).name}, {name}: {clock:.2f} s, {spent:.2f} s of processors{kernels}", flush=True)
            records.append({"model": Path(path).name, "runtime": name, "threads": options.threads, "rounds": times})
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
