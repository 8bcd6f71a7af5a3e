"""Time networks from a file to the first answer in fresh processes, then a new and a known shape, and their memory.

``bench/cold.py MODEL ... [--rounds N] [--threads N] [--runtime NAME ...]``: MODEL is an ONNX file, or the name of a
model of torchvision (``resnet50``, ``densenet121``), which is exported with random weights. Every runtime opens each
model and runs it on an image of its declared size (open dimensions are taken as 224), in turn, in processes of their
own with nothing cached; of Omniconv also a second start, which finds its machine code on the disk. Of each the fastest
of the rounds is shown:

- *cold*: seconds on the clock to import, load and optimise, and of the first call; and the time that all of its threads
  spent together, which depends less on who else uses the machine;
- *known*: a call with a shape that came before, the median of several;
- *new*: the call with a shape that did not, the median of several, of the same model with height and width open, after
  a first shape; none where the model's nodes want the one size;
- *memory*: the most that the process ever held, Python and NumPy included; 0 where the system does not tell.
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
EXPORTS: Final = Path("build/bench/models")
ASSUMED: Final = 224
"""What open dimensions are taken for."""
CALLS: Final = 9
"""With a known shape."""
NEW: Final = ((256, 192), (160, 288), (320, 224), (192, 352), (288, 256))
"""Sizes of images that come after one of another size."""


def run(name: str, path: str, threads: int, shapes: list[tuple[int, ...]]) -> None:
    """One runtime in this process: the first shape, known then, and others; prints its times as JSON."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shapes[0]).astype(np.float32)
    start, spent = time.perf_counter(), time.process_time()
    call = RUNTIMES[name](path, threads)
    opened = time.perf_counter()
    call(x)
    first, spent = time.perf_counter(), time.process_time() - spent
    from omniconv.bench.memory import read_peak  # only now, so that it counts as nothing of a runtime

    memory = read_peak() or 0
    known = [time_call(call, x) for _ in range(CALLS)]
    try:
        new = [time_call(call, rng.standard_normal(shape).astype(np.float32)) for shape in shapes[1:]]
    except Exception:  # noqa: BLE001 - each runtime has its own; nodes of the model want the one size
        new = []
    found = {"open": opened - start, "first": first - opened, "cold": first - start, "spent": spent, "memory": memory}
    print(json.dumps(found | {"known": float(np.median(known)), "new": float(np.median(new)) if new else None}))


def time_call(call: Any, x: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call(x)
    return time.perf_counter() - start


def export(name: str) -> Path:
    """The file of a model of torchvision, made where it is not there."""
    path = EXPORTS / f"{name}.onnx"
    if not path.exists():
        import torch

        from networks import draw_weights, import_torchvision

        model = getattr(import_torchvision().models, name)(weights=None).eval()
        draw_weights(model)
        EXPORTS.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(model, torch.zeros(1, 3, ASSUMED, ASSUMED), str(path), dynamo=False, input_names=["x"])
    return path


def declare(path: Path) -> tuple[int, ...]:
    """The shape of the first input."""
    import onnx

    dims = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return tuple(dim.dim_value or (1 if axis == 0 else ASSUMED) for axis, dim in enumerate(dims))


def open_sizes(path: Path, folder: str) -> Path:
    """The same model with the height and the width of images open, and what follows from them unsaid."""
    import onnx

    model = onnx.load(path)
    for dim, word in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("h", "w"), strict=True):
        dim.dim_param = word
    model.graph.ClearField("value_info")
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    opened = Path(folder) / path.name
    onnx.save(model, opened)
    return opened


def measure(name: str, path: Path, threads: int, shapes: list[tuple[int, ...]], cache: str) -> dict[str, Any]:
    """The times of one runtime in a process of its own, which keeps machine code in a folder."""
    words = [str(path), "--child", name, "--threads", str(threads), "--shapes", json.dumps(shapes)]
    found = subprocess.run(  # noqa: S603 - this file
        [sys.executable, __file__, *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMNICONV_CACHE": cache},
    )
    times: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return times


def describe(times: list[dict[str, Any]]) -> str:
    """The best of some rounds."""
    best = {word: min(each[word] for each in times) for word in times[0] if times[0][word] is not None}
    new = f", new {1e3 * best['new']:.0f} ms" if "new" in best else ""
    return (
        f"cold {best['cold']:.2f} s ({best['spent']:.2f} s of processors), known {1e3 * best['known']:.1f} ms{new}, "
        f"memory {best['memory'] / 2**20:.0f} MiB"
    )


def main(arguments: list[str]) -> int:
    """Measure all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtime", choices=RUNTIMES, nargs="+", default=[*RUNTIMES])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--shapes", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run(options.child, options.models[0], options.threads, [tuple(shape) for shape in options.shapes])
        return 0
    compile_bytecode()
    records = []
    for model in options.models:
        path = Path(model) if Path(model).suffix == ".onnx" else export(model)
        shape = declare(path)
        found: dict[str, list[dict[str, Any]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            opened = open_sizes(path, folder)
            for _ in range(options.rounds):
                for name in options.runtime:
                    with tempfile.TemporaryDirectory() as cache:
                        times = measure(name, path, options.threads, [shape], cache)
                        if name == "Omniconv":
                            again = measure(name, path, options.threads, [shape], cache)
                            found.setdefault("Omniconv, again", []).append(again)
                        shapes = [shape, *((*shape[:2], *size) for size in NEW)]
                        times["new"] = measure(name, opened, options.threads, shapes, cache)["new"]
                    found.setdefault(name, []).append(times)
        for name, rounds in found.items():
            print(f"{path.name}, {name}: {describe(rounds)}", flush=True)
            records.append({"model": path.name, "runtime": name, "threads": options.threads, "rounds": rounds})
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
