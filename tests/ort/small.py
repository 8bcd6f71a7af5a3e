"""Small models of every form that sessions meet, and code in the style of packages that run them."""

from __future__ import annotations

import ast

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.graph.small_models import Graph


def two_inputs(*, ir_version: int = 8) -> onnx.ModelProto:
    """Open and fixed sizes, integers beside floats, a constant that may be given, and all that is said of a model."""
    g = Graph()
    x, k = g.input("x", "n", 3, None, "w"), g.input("k", 2, dtype=TensorProto.INT64)
    g.constants.append(onnx.numpy_helper.from_array(np.float32([2]), "scale"))
    g.input("scale", 1)
    g.node("Mul", x, "scale", name="y")
    g.node("Identity", k, name="kk")
    model = g.model("y", "kk", shapes=[["n", 3, None, "w"], [2]], kk=TensorProto.INT64)
    model.ir_version = ir_version
    model.producer_name, model.doc_string, model.domain, model.model_version = "me", "of use", "here", 7
    model.graph.doc_string = "a graph"
    helper.set_model_props(model, {"character": "a\nb", "names": "{0: 'cat', 1: 'dog'}", "stride": "32"})
    return model


def conv_net(*dims: int | str | None) -> onnx.ModelProto:
    """A convolution and its pool, for inputs of any sizes that are asked for."""
    g = Graph()
    x = g.node("Relu", g.conv(g.input("x", *dims), 5, 3))
    g.node("GlobalAveragePool", x, name="pooled")
    g.node("Identity", x, name="y")
    return g.model("y", "pooled")


def face_detector() -> onnx.ModelProto:
    """Scores, boxes and key points at three strides, as detectors of faces have them (SCRFD)."""
    g = Graph()
    x = g.input("input.1", 1, 3, "?", "?")
    outputs: list[str] = []
    heads: dict[str, list[str]] = {"score": [], "bbox": [], "kps": []}
    x = g.node("Relu", g.conv(x, 8, 3, strides=[2, 2]))
    x = g.node("Relu", g.conv(x, 8, 8, strides=[2, 2]))
    for stride in (8, 16, 32):
        x = g.node("Relu", g.conv(x, 8, 8, strides=[2, 2]))
        for name, width in (("score", 1), ("bbox", 4), ("kps", 10)):
            rows = g.node("Transpose", g.conv(x, 2 * width, 8), perm=[2, 3, 0, 1])
            rows = g.node("Reshape", rows, g.ints(-1, width))
            last = g.node("Sigmoid", rows, name=f"{name}_{stride}") if name == "score" else None
            heads[name].append(last or g.node("Identity", rows, name=f"{name}_{stride}"))
    for name in ("score", "bbox", "kps"):
        outputs += heads[name]
    widths = {"score": 1, "bbox": 4, "kps": 10}
    return g.model(*outputs, shapes=[["?", widths[name.partition("_")[0]]] for name in outputs])


class FaceDetector:
    """As insightface's SCRFD asks a session, down to the anchors that it keeps."""

    def __init__(self, session) -> None:
        self.session = session
        self.session.set_providers(["CPUExecutionProvider"])
        shape = self.session.get_inputs()[0].shape
        self.input_size = None if isinstance(shape[2], str) else tuple(shape[2:4][::-1])
        self.input_name = self.session.get_inputs()[0].name
        outputs = self.session.get_outputs()
        self.batched = len(outputs[0].shape) == 3
        self.output_names = [item.name for item in outputs]
        self.use_kps = len(outputs) == 9

    def detect(self, image: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        blob = ((image.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None][:, ::-1]
        found = self.session.run(self.output_names, {self.input_name: blob})
        rows = []
        for index, stride in enumerate((8, 16, 32)):
            scores, boxes, points = found[index], found[index + 3] * stride, found[index + 6] * stride
            height, width = blob.shape[2] // stride, blob.shape[3] // stride
            centres = np.stack(np.mgrid[:height, :width][::-1], -1).astype(np.float32)
            centres = (centres * stride).reshape(-1, 2).repeat(2, 0)
            keep = np.where(scores >= threshold)[0]
            corners = [centres - boxes[:, :2], centres + boxes[:, 2:]]
            rows.append(np.concatenate([*corners, scores, points + np.tile(centres, 5)], 1)[keep])
        return np.concatenate(rows)


def embedder() -> onnx.ModelProto:
    """Faces of 112x112 to vectors, as ArcFace has them, for any number of faces."""
    g = Graph()
    x = g.node("PRelu", g.conv(g.input("data", "None", 3, 112, 112), 8, 3, strides=[4, 4]), g.random(8, 1, 1))
    x = g.node("Relu", g.conv(x, 8, 8, strides=[4, 4]))
    flat = g.node("Flatten", x)
    g.node("Gemm", flat, g.random(16, 8 * 7 * 7, scale=0.05), g.random(16), transB=1, name="fc1")
    return g.model("fc1", shapes=[["None", 16]])


def yolo() -> onnx.ModelProto:
    """A detector as Ultralytics exports it: fixed sizes, and what it found written into the metadata."""
    g = Graph()
    x = g.conv(g.input("images", 1, 3, 32, 32), 8, 3, strides=[2, 2])
    x = g.node("Mul", x, g.node("Sigmoid", x))
    x = g.conv(x, 6, 8, strides=[4, 4])
    g.node("Reshape", x, g.ints(1, 6, 16), name="output0")
    model = g.model("output0", shapes=[[1, 6, 16]])
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}", "stride": "8", "imgsz": "[32, 32]"})
    return model


class Yolo:
    """As Ultralytics asks a session: metadata, fixed sizes, and bound memory."""

    def __init__(self, ort, model) -> None:
        self.session = ort.InferenceSession(model, ort.SessionOptions(), providers=["CPUExecutionProvider"])
        self.output_names = [item.name for item in self.session.get_outputs()]
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.names, self.stride = ast.literal_eval(metadata["names"]), int(metadata["stride"])
        self.dynamic = isinstance(self.session.get_outputs()[0].shape[0], str)
        self.fp16 = "float16" in self.session.get_inputs()[0].type
        self.binding, self.results = self.session.io_binding(), []
        for item in self.session.get_outputs():
            room = np.empty(item.shape, np.float32)
            self.binding.bind_output(
                name=item.name,
                device_type="cpu",
                device_id=0,
                element_type=np.float32,
                shape=tuple(room.shape),
                buffer_ptr=room.ctypes.data,
            )
            self.results.append(room)

    def plain(self, x: np.ndarray) -> list[np.ndarray]:
        return self.session.run(self.output_names, {self.session.get_inputs()[0].name: x})

    def bound(self, x: np.ndarray) -> list[np.ndarray]:
        self.binding.bind_input(
            name=self.session.get_inputs()[0].name,
            device_type="cpu",
            device_id=0,
            element_type=np.float16 if self.fp16 else np.float32,
            shape=tuple(x.shape),
            buffer_ptr=x.ctypes.data,
        )
        self.session.run_with_iobinding(self.binding)
        return self.results
