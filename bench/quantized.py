"""Choices of quantising beside each other: top-1 of page orientation on real pages, and signal to noise of networks.

    python bench/quantized.py pages                 # rotated, noisy, rescaled pages of scikit-image's scan
    python bench/quantized.py network model.onnx    # any network of images, on noise: loads and runs elsewhere

Pages are cut from the scan that scikit-image carries: its left part calibrates, its right part tests. The first columns
are of the report of `omniconv.quantize`, in floats that are rounded as the integers are; "compiled" runs the file in
integers, "ort" in ONNX Runtime, as it is optimised, "7 bits" the file with weights of 7 bits, whose sums of bytes do
not saturate there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import omniconv as oc
from omniconv.demo.orientation import find_network
from omniconv.quantization import QuantOptions, quantize_with_report
from pages import EASY, HARD, Wear, make_pages

Array: TypeAlias = npt.NDArray[Any]


def run_compiled(model: bytes | Path, x: Array, precision: str = "float32") -> Array:
    """The first output of a model that Omniconv compiles, in integers where it is quantised."""
    net = oc.compile(model, shapes={"x": (1, *x.shape[1:])}, precision=precision, strict=True)
    return np.concatenate([np.asarray(net(x[n : n + 1])) for n in range(len(x))])


def run_elsewhere(model: bytes, x: Array) -> Array:
    """The first output of a model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[n : n + 1]})[0] for n in range(len(x))])


def run_openvino(model: bytes, x: Array) -> Array:
    """The first output of a model in OpenVINO."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([np.asarray(compiled([x[n : n + 1]])[0]) for n in range(len(x))])


def snr(wanted: Array, found: Array) -> float:
    """Signal to noise [dB]."""
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def choices() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of what is compared, and the options of each."""
    for ranges in ("minmax", "percentile", "entropy", "mse"):
        yield ranges, {"ranges": ranges}
    yield "mse, no equalisation", {"equalize": False}
    yield "mse, no correction", {"correct_bias": False}
    yield "mse, neither", {"equalize": False, "correct_bias": False}
    yield "mse, one scale a tensor", {"per_channel": False}


def measure_pages(calibrating: int, testing: int, wear: Wear, only: str) -> None:
    """Print top-1 of the orientation network for each choice."""
    x, _ = make_pages(calibrating, 0, test=False, wear=wear)
    y, labels = make_pages(testing, 1, test=True, wear=wear)
    path = find_network()
    exact = run_elsewhere(path.read_bytes(), y)
    print(f"{calibrating} pages calibrate, {testing} test; float32: top-1 {accuracy(exact, labels):.2f} %")
    narrow = run_compiled(path, y, "bfloat16")
    print(f"bfloat16: {snr(exact, narrow):.1f} dB, top-1 {accuracy(narrow, labels):.2f} %")
    print("| ranges | dB | top-1 | compiled | compiled, 7 bits | ort | ort, 7 bits |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, options in choices():
        if only not in name:
            continue
        runs = [
            quantize_with_report(
                path,
                x,
                test=y,
                test_labels=labels,
                shapes={"x": (1, 3, 224, 224)},
                options=QuantOptions(**options, reduce_range=reduce),
            )
            for reduce in (False, True)
        ]
        report = runs[0].report
        ours = (report.accuracy or 0.0) - (report.drop or 0.0)
        files = [run.model.SerializeToString() for run in runs]
        found = [accuracy(run(file, y), labels) for run in (run_compiled, run_elsewhere) for file in files]
        shares = " | ".join(f"{share:.2f}" for share in found)
        print(f"| {name} | {report.snr:.1f} | {ours:.2f} | {shares} |", flush=True)


def accuracy(scores: Array, labels: list[int]) -> float:
    """Samples whose label has the largest score [%]."""
    return 100 * float((scores.argmax(1) == np.array(labels)).mean())


def measure_network(path: Path, only: str) -> None:
    """Print signal to noise on noise for each choice, and of the file in other runtimes."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3, 224, 224), np.float32), rng.standard_normal((4, 3, 224, 224), np.float32)
    elsewhere: dict[str, Callable[[bytes, Array], Array]] = {"ort": run_elsewhere, "openvino": run_openvino}
    exact = run_elsewhere(path.read_bytes(), y)
    print(f"{path.name}\n| ranges | layers | oc dB | ort dB | openvino dB |\n| --- | --- | --- | --- | --- |")
    for name, options in choices():
        if only not in name:
            continue
        found = quantize_with_report(path, x, test=y, options=QuantOptions(reduce_range=True, **options))
        data = found.model.SerializeToString()
        others = " | ".join(f"{snr(exact, run(data, y)):.1f}" for run in elsewhere.values())
        report = found.report
        print(f"| {name} | {len(report.layers)} | {report.snr:.1f} | {others} |", flush=True)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["pages", "network"])
    parser.add_argument("model", nargs="?", type=Path, help="an ONNX file with an input (1, 3, 224, 224)")
    parser.add_argument("--calibrating", type=int, default=96, help="pages")
    parser.add_argument("--testing", type=int, default=240, help="pages")
    parser.add_argument("--hard", action="store_true", help="pages that the network gets wrong now and then")
    parser.add_argument("--only", default="", help="choices whose name holds this")
    arguments = parser.parse_args()
    if arguments.what == "pages":
        measure_pages(arguments.calibrating, arguments.testing, HARD if arguments.hard else EASY, arguments.only)
    elif arguments.model is None:
        parser.error("network needs a model")
    else:
        measure_network(arguments.model, arguments.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
