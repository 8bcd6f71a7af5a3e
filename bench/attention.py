"""Time networks with attention or recurrence against all installed runtimes that read ONNX models.

``bench/attention.py [NAME ...] [--folder DIR] [--threads N ...] [--rounds N] [--seconds S]``: the networks of
:data:`NETWORKS`, or those that are named. Those of timm and the one in this file are exported by PyTorch with random
weights, see ``bench/families.py``; the others are trained ones, which stand in the folder as NAME.onnx, or are
left out. Outputs are compared with PyTorch, or the program, in float64; then all contenders are timed in turns. The
ratio is the time of the fastest other runtime over ours, by medians and by the fastest rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

import omniconv as oc
from families import export
from judging import ALLOWANCE
from omniconv.bench.compare import DEFAULT_TOLERANCE as TOLERANCE
from omniconv.bench.compare import OURS, Comparison, Contender, compare
from omniconv.bench.peers import installed_peers
from omniconv.bench.workload import Array, Workload, max_difference, max_magnitude
from single import choose_cases, run_cases

FOLDER: Final = Path("build/attention")
REPORT: Final = Path("build/bench/attention.json")


@dataclass(frozen=True, slots=True)
class Network:
    """Where a network comes from.

    Attributes:
        source: module and name of one that PyTorch builds; ``None`` for a trained one, which must stand in the folder.
        shapes: of the inputs of a trained one.
        rates: inputs that are whole numbers, such as a sampling rate.
    """

    source: tuple[str, str] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rates: Mapping[str, int] = field(default_factory=dict)


def _from_timm(name: str) -> Network:
    return Network(("timm", name))


NETWORKS: Final = {
    "ViT-tiny": _from_timm("vit_tiny_patch16_224"),
    "Swin-tiny": _from_timm("swin_tiny_patch4_window7_224"),
    "LeViT-128S": _from_timm("levit_128s"),
    "MobileViT-XXS": _from_timm("mobilevit_xxs"),
    "EfficientViT-B0": _from_timm("efficientvit_b0"),
    "EfficientViT-M0": _from_timm("efficientvit_m0"),
    "PVTv2-B0": _from_timm("pvt_v2_b0"),
    "CoAtNet-nano": _from_timm("coatnet_nano_rw_224"),
    "PoolFormer-S12": _from_timm("poolformer_s12"),
    "ConvFormer-S18": _from_timm("convformer_s18"),
    "CRNN": Network(("text.crnn", "crnn")),
    "PP-OCRv4-rec": Network(shapes={"x": (1, 3, 48, 320)}),
    "PP-OCRv5-rec": Network(shapes={"x": (1, 3, 48, 320)}),
    "Silero-VAD": Network(shapes={"input": (1, 576), "state": (2, 1, 128)}, rates={"sr": 16000}),
}
"""By name; NAME.onnx in the folder is the model."""


def prepare(title: str, folder: Path) -> tuple[Path, dict[str, Array], list[Array] | None, float]:
    """The model, its inputs, what PyTorch computes in float64 where it made the model, and the error allowed."""
    path, network = folder / f"{title}.onnx", NETWORKS[title]
    if network.source is None:
        rng = np.random.default_rng(1)
        inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.shapes.items()}
        return path, {**inputs, **{name: np.array(rate) for name, rate in network.rates.items()}}, None, TOLERANCE
    if not path.with_suffix(".npz").exists():
        facts = export(*network.source, path)
        if "reason" in facts:
            raise RuntimeError(f"{title} is not exported: {facts['reason']}")
    held = np.load(path.with_suffix(".npz"))
    exact, single = ([held[key] for key in sorted(held) if key.startswith(kind)] for kind in ("double", "single"))
    peer = max_difference(exact, single) / max(max_magnitude(exact), 1.0)
    outputs = [array.astype(np.float32) for array in exact]
    return path, {name_input(path): held["x0"]}, outputs, max(TOLERANCE, ALLOWANCE * peer)


def measure(folder: Path, title: str, _: Network, threads: int, settings: dict[str, Any]) -> Comparison:
    """One network with one number of threads."""
    path, inputs, expected, tolerance = prepare(title, folder)
    shapes = {name: array.shape for name, array in inputs.items()}
    if expected is None:
        single = [name for name, array in inputs.items() if array.dtype == np.float32]
        wide = {**inputs, **{name: inputs[name].astype(np.float64) for name in single}}
        exact = oc.compile(path, shapes=shapes, dtype="float64").run(wide)
        expected = [array.astype(np.float32) for array in exact.values()]
    network = oc.compile(path, shapes=shapes, threads=threads)
    return compare(
        Workload(title, path, inputs),
        [Contender(OURS, lambda: lambda: list(network.run(inputs).values()))],
        list(installed_peers(["onnxruntime", "openvino"])),
        threads=threads,
        expected=expected,
        tolerance=tolerance,
        macs=sum(layer.macs for layer in network.layers),
        turn=0.005,
        **settings,
    )


def name_input(path: Path) -> str:
    """The one input of a model."""
    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


def main() -> int:
    """Measure the networks that are asked for and there."""
    options, cases = choose_cases(__doc__, NETWORKS, FOLDER)
    for title, network in tuple(cases.items()):
        if network.source is None and not (options.folder / f"{title}.onnx").exists():
            print(f"{title}: no {title}.onnx in {options.folder}")
            del cases[title]
    return run_cases(options, cases, partial(measure, options.folder), REPORT, "networks")


if __name__ == "__main__":
    sys.exit(main())
