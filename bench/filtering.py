"""Time networks of many kinds of filtered layers against all installed runtimes, and measure what filtering costs.

``bench/filtering.py [NAME ...] [--folder DIR] [--threads N ...] [--rounds N] [--seconds S]``: the networks of
:data:`filtered_models.SUBJECTS`, or those that are named, are exported by PyTorch with random weights. The largest
errors against PyTorch in float64, relative to the largest output, are printed with filtering and without it
(``exact=True``). Then Omniconv, ONNX Runtime, OpenVINO and PyTorch itself are timed in turns, PyTorch with channels
last. The ratio is the time of the fastest other runtime over ours, by medians and by the fastest rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import omniconv as oc
from filtered_models import SUBJECTS, Subject
from judging import ALLOWANCE
from omniconv.bench.compare import DEFAULT_TOLERANCE as TOLERANCE
from omniconv.bench.compare import OURS, Comparison, Contender, compare
from omniconv.bench.machine import find_version
from omniconv.bench.peers import Peer, TimedCall, installed_peers
from omniconv.bench.workload import Array, Workload, max_difference, max_magnitude
from single import choose_cases, run_cases

FOLDER: Final = Path("build/filtering")
REPORT: Final = Path("build/bench/filtering.json")


def export(title: str, subject: Subject, folder: Path) -> tuple[Path, Array, Array, Array]:
    """The model, its input, and what PyTorch computes of it in float64 and in float32."""
    path = folder / f"{title}.onnx"
    held = path.with_suffix(".npz")
    if not held.exists():
        model, x = subject.draw()
        with torch.inference_mode():
            single = model(x).numpy()
            torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, verbose=False)
            double = model.double()(x.double()).numpy()
        np.savez(held, x=x.numpy(), double=double, single=single)
    arrays = np.load(held)
    return path, arrays["x"], arrays["double"], arrays["single"]


def load_torch(subject: Subject, _: Workload, threads: int) -> TimedCall:
    """The network in PyTorch, channels last."""
    torch.set_num_threads(threads)
    model, x = subject.draw()
    order = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    model, x = model.to(memory_format=order), x.contiguous(memory_format=order)

    def call() -> Sequence[Array]:
        with torch.inference_mode():
            return [model(x).numpy()]

    return call


def measure(folder: Path, title: str, subject: Subject, threads: int, settings: dict[str, Any]) -> Comparison:
    """One network with one number of threads."""
    path, x, double, single = export(title, subject, folder)
    network = oc.compile(path, threads=threads)
    errors = {
        "filtered": max_difference([double], [network(x)]),
        "exact": max_difference([double], [oc.compile(path, threads=threads, exact=True)(x)]),
        "PyTorch": max_difference([double], [single]),
    }
    scale = max_magnitude([double])
    print(f"{title}: error " + ", ".join(f"{name} {error / scale:.1e}" for name, error in errors.items()))
    return compare(
        Workload(title, path, {next(iter(network.inputs)): x}),
        [Contender(OURS, lambda: lambda: [network(x)])],
        [
            *installed_peers(["onnxruntime", "openvino"]),
            Peer("PyTorch", find_version("torch") or "", partial(load_torch, subject), layout="NHWC"),
        ],
        threads=threads,
        expected=[double.astype(np.float32)],
        tolerance=max(TOLERANCE, ALLOWANCE * errors["PyTorch"] / max(scale, 1.0)),
        macs=sum(layer.macs for layer in network.layers),
        **settings,
    )


def main() -> int:
    """Measure the networks that are asked for."""
    options, cases = choose_cases(__doc__, SUBJECTS, FOLDER)
    return run_cases(options, cases, partial(measure, options.folder), REPORT, "networks")


if __name__ == "__main__":
    sys.exit(main())
