"""Time recurrent layers against all installed runtimes that read ONNX models.

``bench/recurrent.py [--threads N ...] [--rounds N] [--seconds S]``: every layer of :data:`LAYERS` is a model of one
LSTM or GRU with an input and constant weights; the single time also takes and gives its states. Outputs are compared
with the program in float64 first, then all contenders are timed in turns. The ratio is the time of the fastest other
runtime over ours, by medians and by the fastest rounds.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import omniconv as oc
from omniconv.bench.compare import OURS, Comparison, Contender, compare
from omniconv.bench.peers import installed_peers
from omniconv.bench.workload import Workload
from single import make_parser, run_cases

LAYERS: Final = {
    "LSTM of a recogniser of text lines, both ways": ("LSTM", 2, 100, 1, 256, 256),
    "LSTM over 8 sequences": ("LSTM", 1, 32, 8, 512, 256),
    "GRU of a recogniser of text lines, both ways": ("GRU", 2, 25, 1, 512, 96),
    "LSTM, one time with its states": ("LSTM", 1, 1, 1, 128, 128),
}
"""Operator, directions, times, sequences, inputs and hidden units."""

REPORT: Final = Path("build/bench/recurrent.json")


def make_model(op: str, directions: int, times: int, batch: int, inputs: int, hidden: int) -> bytes:
    """One node; weights as PyTorch begins with them."""
    rng = np.random.default_rng(0)
    width = {"LSTM": 4, "GRU": 3}[op] * hidden
    scale = 1 / math.sqrt(hidden)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    constants = {
        "W": draw(directions, width, inputs),
        "R": draw(directions, width, hidden),
        "B": draw(directions, 2 * width),
    }
    states = [name for name in ("h", "c")[: 2 if op == "LSTM" else 1] if times == 1]
    given = {"x": (times, batch, inputs), **dict.fromkeys(states, (directions, batch, hidden))}
    results = ["y", *(f"{name} after" for name in states)]
    more: dict[str, Any] = {"linear_before_reset": 1} if op == "GRU" else {}
    node = helper.make_node(
        op,
        ["x", *constants, *(["", *states] if states else [])],
        results,
        hidden_size=hidden,
        direction="bidirectional" if directions == 2 else "forward",
        **more,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def measure(title: str, layer: tuple[Any, ...], threads: int, settings: dict[str, Any]) -> Comparison:
    """One layer with one number of threads."""
    op, directions, times, batch, width, hidden = layer
    model = make_model(*layer)
    network = oc.compile(model, threads=threads)
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.inputs.items()}
    wide = oc.compile(model, dtype="float64")
    expected = wide.run({name: array.astype(np.float64) for name, array in inputs.items()})
    gates = {"LSTM": 4, "GRU": 3}[op]
    return compare(
        Workload(f"{op} d{directions} t{times} n{batch} i{width} h{hidden}", model, inputs, title=title),
        [Contender(OURS, lambda: lambda: list(network.run(inputs).values()))],
        list(installed_peers(["onnxruntime", "openvino"])),
        threads=threads,
        expected=[array.astype(np.float32) for array in expected.values()],
        macs=directions * times * batch * gates * hidden * (width + hidden),
        turn=0.005,
        **settings,
    )


if __name__ == "__main__":
    sys.exit(run_cases(make_parser(__doc__).parse_args(), LAYERS, measure, REPORT, "layers"))
