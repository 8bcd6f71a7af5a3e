"""Build a small ONNX network, compile it, run it, and see what each layer took."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import omniconv as oc


def build_model() -> onnx.ModelProto:
    """Two convolutions with activations, global pooling and a classifier; the batch is left open."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((16, 3, 3, 3)) / 5,
        "w2": rng.standard_normal((16, 1, 3, 3)) / 3,
        "w3": rng.standard_normal((10, 16)) / 4,
        "b3": rng.standard_normal(10),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "w1"], ["a"], name="stem", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node(
            "Conv", ["b", "w2"], ["c"], name="depthwise", group=16, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("HardSwish", ["c"], ["d"], name="hard_swish"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"], name="classifier", transB=1),
        helper.make_node("Softmax", ["g"], ["y"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def main() -> None:
    """Compile and run the network."""
    network = oc.compile(build_model(), shapes={"x": (1, 3, 64, 64)})
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32)
    y = network(x)
    print("probabilities:", np.round(y[0], 3))
    for step in network.profile(x):
        print(f"{step.name:<12} {step.kind:<14} {step.seconds * 1e6:8.1f} us {step.macs:>10} MAC")
    if abs(float(y.sum()) - 1.0) > 1e-5:
        raise oc.VerificationError(f"probabilities add up to {y.sum()}", need="1")


if __name__ == "__main__":
    main()
