"""Time images of many sizes, one after the other, in a cold process: what a detector of text meets.

``bench/sizes.py MODEL ... [--count N] [--smallest N] [--largest N] [--step N] [--threads N ...] [--runtime NAME ...]``:
every runtime opens the model in a process of its own with nothing cached (but the bytecode of an installation), and
gets one image of each size. "Omniconv again" is the second process of a user, which finds the machine code of the first
on the disk. The total counts the opening, also as the time that its threads spent together, which
depends less on who else uses the machine; the worst call leaves out the first. Then some sizes come
twice more, and the second of these counts as the steady state. The first outputs are compared with those of the first
runtime.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
REPORT: Final = Path("build/bench/sizes.json")
COMPARED: Final = 4
"""Sizes whose outputs are compared."""


def open_omniconv(path: str, threads: int) -> Callable[[Array], Array]:
    """Omniconv, with kernels that take any size."""
    import omniconv as oc

    net = oc.compile(path, threads=threads)
    return lambda x: np.asarray(net(x))


def open_onnxruntime(path: str, threads: int) -> Callable[[Array], Array]:
    """ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def open_openvino(path: str, threads: int) -> Callable[[Array], Array]:
    """OpenVINO with dynamic shapes, in float32."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda x: np.array(next(iter(request.infer([x]).values())))


AGAIN: Final = "Omniconv again"
RUNTIMES: Final = {
    "ONNX Runtime": open_onnxruntime,
    "OpenVINO": open_openvino,
    "Omniconv": open_omniconv,
    AGAIN: open_omniconv,
}


def compile_bytecode() -> None:
    """What an installation leaves beside the sources, and a checkout may lack."""
    import omniconv

    compileall.compile_dir(Path(omniconv.__file__).parent, quiet=1)


def draw(options: argparse.Namespace) -> list[tuple[int, int]]:
    """Different sizes in an order of their own, always the same."""
    rng = np.random.default_rng(0)
    steps = np.arange(options.smallest, options.largest + 1, options.step)
    every = [(int(h), int(w)) for h in steps for w in steps]
    rng.shuffle(every)
    return every[: options.count]


def run(name: str, path: str, threads: int, options: argparse.Namespace, folder: str) -> None:
    """One runtime in this process; prints its times as JSON."""
    start, spent = time.perf_counter(), time.process_time()
    call = RUNTIMES[name](path, threads)
    opened = time.perf_counter() - start
    rng, first, again = np.random.default_rng(1), [], []
    sizes = draw(options)
    for number, (height, width) in enumerate(sizes):
        x = rng.standard_normal((1, 3, height, width), dtype=np.float32)
        start = time.perf_counter()
        result = call(x)
        first.append(time.perf_counter() - start)
        if number < COMPARED:
            np.save(Path(folder) / f"{number}.npy", result)
    spent = time.process_time() - spent
    for height, width in sizes[:: max(1, len(sizes) // 8)]:
        x = rng.standard_normal((1, 3, height, width), dtype=np.float32)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            call(x)
            times.append(time.perf_counter() - start)
        again.append(times[-1])
    print(json.dumps({"open": opened, "first": first, "again": again, "cpu": spent}))


def measure(name: str, path: str, threads: int, arguments: list[str]) -> tuple[dict[str, Any], list[Array]]:
    """The times and the first outputs of one runtime, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        words = [path, *arguments, "--child", name, "--folder", folder, "--threads", str(threads)]
        for _ in range(2 if name == AGAIN else 1):
            found = subprocess.run(  # noqa: S603 - this file
                [sys.executable, __file__, *words],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"OMNICONV_CACHE": cache if name == AGAIN else "off"},
            )
        outputs = [np.load(file) for file in sorted(Path(folder).glob("*.npy"))]
    return json.loads(found.stdout.splitlines()[-1]), outputs


def main(arguments: list[str]) -> int:
    """Measure all models on all numbers of threads; 1 where outputs disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--smallest", type=int, default=320)
    parser.add_argument("--largest", type=int, default=960)
    parser.add_argument("--step", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runtime", choices=RUNTIMES, nargs="+", default=list(RUNTIMES))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run(options.child, options.models[0], options.threads[0], options, options.folder)
        return 0
    compile_bytecode()
    sizes = [f"--{word}={getattr(options, word)}" for word in ("count", "smallest", "largest", "step")]
    records, agrees = [], True
    for path in options.models:
        for threads in options.threads:
            expected: list[Array] = []
            for name in options.runtime:
                found, outputs = measure(name, path, threads, sizes)
                expected = expected or outputs
                same = all(
                    np.allclose(got, want, rtol=1e-3, atol=1e-4 * float(np.abs(want).max()))
                    for got, want in zip(outputs, expected, strict=True)
                )
                agrees = agrees and same
                total, worst = found["open"] + sum(found["first"]), max(found["first"][1:])
                print(
                    f"{Path(path).name}, {threads} threads, {name}: {len(found['first'])} sizes in {total:.2f} s "
                    f"({found['cpu']:.2f} s of processors), "
                    f"first {found['open'] + found['first'][0]:.2f} s, worst of the others {worst * 1e3:.0f} ms, "
                    f"median {np.median(found['first'][1:]) * 1e3:.1f} ms, "
                    f"steady {np.median(found['again']) * 1e3:.1f} ms" + ("" if same else "; OUTPUTS DISAGREE"),
                    flush=True,
                )
                records.append({"model": Path(path).name, "threads": threads, "runtime": name, **found})
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(records, indent=1))
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
