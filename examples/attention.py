"""Attention, softmax(Q K^T / sqrt(d)) V, as an ONNX graph: both products are of values that are computed.

The heads are split by a reshape and a transpose, which cost nothing here: they are part of how the products read their
sides and write their results. Run it with ``python examples/attention.py``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

import omniconv as oc

BATCH, POSITIONS, HEADS, WIDTH = 2, 50, 4, 16


def make_model() -> ModelProto:
    """Attention over arrays of shape (batch, positions, heads * width)."""
    shape = (BATCH, POSITIONS, HEADS * WIDTH)
    split = numpy_helper.from_array(np.array([BATCH, POSITIONS, HEADS, WIDTH]), "split")
    join = numpy_helper.from_array(np.array(shape), "join")
    scale = numpy_helper.from_array(np.float32(math.sqrt(WIDTH)), "scale")
    nodes = []
    for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        nodes.append(helper.make_node("Reshape", [name, "split"], [f"{name}_split"]))
        nodes.append(helper.make_node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=perm))
    nodes += [
        helper.make_node("MatMul", ["q_heads", "k_heads"], ["products"]),
        helper.make_node("Div", ["products", "scale"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v_heads"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["turned"], perm=(0, 2, 1, 3)),
        helper.make_node("Reshape", ["turned", "join"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("q", "k", "v")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "attention", inputs, outputs, [split, join, scale])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def attend(q: npt.NDArray[Any], k: npt.NDArray[Any], v: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The same in NumPy, in float64."""
    heads = [x.astype(np.float64).reshape(BATCH, POSITIONS, HEADS, WIDTH).swapaxes(1, 2) for x in (q, k, v)]
    scores = heads[0] @ heads[1].swapaxes(-1, -2) / math.sqrt(WIDTH)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = shares / shares.sum(-1, keepdims=True) @ heads[2]
    return np.asarray(mixed.swapaxes(1, 2).reshape(BATCH, POSITIONS, HEADS * WIDTH))


def main() -> None:
    """Compile, run, compare."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((BATCH, POSITIONS, HEADS * WIDTH)).astype(np.float32) for name in "qkv"}
    network = oc.compile(make_model())
    y = network.run(arrays)["y"]
    difference = float(np.abs(y - attend(**arrays)).max())
    print(network.explain())
    print(f"largest difference from NumPy in float64: {difference:.1e}")
    assert difference < 1e-6


if __name__ == "__main__":
    main()
