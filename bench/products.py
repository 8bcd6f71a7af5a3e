"""Time products of two computed values against all installed runtimes that read ONNX models.

``bench/products.py [--threads N ...] [--rounds N] [--seconds S]``: every product of :data:`PRODUCTS` is a model of one
MatMul whose two sides are inputs. Outputs are compared with NumPy in float64 first, then all contenders are timed in
turns. The ratio is the time of the fastest other runtime over ours, by medians and by the fastest rounds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

import omniconv as oc
from omniconv.bench.compare import OURS, Comparison, Contender, compare
from omniconv.bench.peers import installed_peers
from omniconv.bench.workload import Workload
from single import make_parser, run_cases

PRODUCTS: Final = {
    "attention of ViT-B/16, scores": ((8, 64, 197, 64), (8, 64, 64, 197)),
    "attention over 40 positions, values": ((1, 12, 40, 40), (1, 12, 40, 32)),
    "attention over windows of 49 positions": ((1, 4, 3136, 16), (1, 4, 16, 49)),
    "projection by an input": ((16, 1, 77, 512), (512, 512)),
}
"""Shapes of both sides."""

REPORT: Final = Path("build/bench/products.json")


def make_model(left: tuple[int, ...], right: tuple[int, ...]) -> bytes:
    """One MatMul of two inputs."""
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("a", left), ("b", right))]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", sides, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def measure(title: str, shapes: tuple[Any, Any], threads: int, settings: dict[str, Any]) -> Comparison:
    """One product with one number of threads."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    expected = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.float32)
    model = make_model(*shapes)
    inputs = {"a": left, "b": right}
    network = oc.compile(model, threads=threads)
    return compare(
        Workload(f"{shapes[0]} x {shapes[1]}", model, inputs, title=title),
        [Contender(OURS, lambda: lambda: list(network.run(inputs).values()))],
        list(installed_peers(["onnxruntime", "openvino"])),
        threads=threads,
        expected=[expected],
        macs=expected.size * left.shape[-1],
        turn=0.005,
        **settings,
    )


if __name__ == "__main__":
    sys.exit(run_cases(make_parser(__doc__).parse_args(), PRODUCTS, measure, REPORT, "products"))
