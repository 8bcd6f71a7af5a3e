"""Run code that is written for ONNX Runtime, as it is, on Omniconv."""

from __future__ import annotations

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import omniconv.ort


def build_model() -> bytes:
    """A small classifier of pictures of any size, with its labels in the metadata."""
    rng = np.random.default_rng(0)
    weights = {
        "w": (rng.standard_normal((8, 3, 3, 3)) / 5).astype(np.float32),
        "dense": rng.standard_normal((8, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "dense"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "cat,dog"})
    content: bytes = model.SerializeToString()
    return content


def classify(model: bytes, images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[str]:
    """Code that knows nothing of Omniconv."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = session.get_modelmeta().custom_metadata_map["names"].split(",")
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: images})
    try:
        session.run(None, {"pictures": images})
    except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
        print(f"InvalidArgument: {error}")
    return [names[index] for index in logits.argmax(1)]


def main() -> None:
    """Classify some noise."""
    images = np.random.default_rng(1).standard_normal((4, 3, 20, 30)).astype(np.float32)
    with omniconv.ort.install():
        print(classify(build_model(), images), "by", sys.modules["onnxruntime"].get_build_info())


if __name__ == "__main__":
    main()
