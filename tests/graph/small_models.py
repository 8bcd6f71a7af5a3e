"""Small valid ONNX models that together use most operators; tests run them, damage them and count what they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Builds a model node by node; every method returns value names."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset, self.rng = opset, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *dims: int | str | None, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(dims)))
        return name

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def random(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> str:
        return self.const(self.rng.standard_normal(shape) * scale + shift)

    def node(self, op: str, *inputs: str, name: str | None = None, count: int = 1, **attributes: Any) -> Any:
        first = name or f"v{len(self.nodes)}"
        outputs = [first] if count == 1 else [f"{first}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, f"n{len(self.nodes)}", **attributes))
        return first if count == 1 else outputs

    def conv(self, x: str, oc: int, ic: int, k: int = 3, **attributes: Any) -> str:
        attributes.setdefault("pads", [k // 2] * 4)
        group = attributes.get("group", 1)
        w = self.random(oc, ic // group, k, k, scale=(k * k * ic / group) ** -0.5)
        return self.node("Conv", x, w, self.random(oc), **attributes)

    def norm(self, x: str, channels: int) -> str:
        scale, mean = self.random(channels, shift=1.0), self.random(channels)
        variance = self.const(self.rng.uniform(0.5, 2.0, channels))
        return self.node("BatchNormalization", x, scale, self.random(channels), mean, variance)

    def model(
        self, *outputs: str, shapes: Sequence[Sequence[int | str] | None] | None = None, **types: int
    ) -> onnx.ModelProto:
        """The model; outputs are floats where no type is given for them by name."""
        dims = shapes or [None] * len(outputs)
        infos = [
            helper.make_tensor_value_info(y, types.get(y, TensorProto.FLOAT), d)
            for y, d in zip(outputs, dims, strict=True)
        ]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in self.nodes} - {""})]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 20 else 10)


def residual() -> onnx.ModelProto:
    """Convolutions with batch norm, a residual addition, pools and a classifier."""
    g = Graph()
    x = g.input("x", 1, 3, 12, 12)
    stem = g.node("Relu", g.norm(g.conv(x, 8, 3), 8))
    stem = g.node("MaxPool", stem, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inner = g.node("Relu", g.norm(g.conv(stem, 8, 8, group=8), 8))
    out = g.node("Relu", g.node("Add", g.norm(g.conv(inner, 8, 8, 1), 8), stem))
    out = g.node("AveragePool", out, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1)
    flat = g.node("Flatten", g.node("GlobalAveragePool", out))
    dense = g.node("Gemm", flat, g.random(10, 8), g.random(10), transB=1, alpha=0.5)
    return g.model(g.node("Softmax", dense, name="y", axis=-1), shapes=[[1, 10]])


def shuffle() -> onnx.ModelProto:
    """ShuffleNet's block: a split with computed bounds, a concatenation and a shuffle; symbolic batch."""
    g = Graph()
    x = g.input("x", "batch", 8, 6, 6)
    size = g.node("Gather", g.node("Shape", x), g.ints(1), axis=0)
    half = g.node("Div", size, g.ints(2))
    left = g.node("Slice", x, g.ints(0), half, g.ints(1))
    right = g.node("Slice", x, half, size, g.ints(1))
    joined = g.node("Concat", left, g.node("Relu", g.conv(right, 4, 4)), axis=1)
    batch = g.node("Gather", g.node("Shape", joined), g.ints(0), axis=0)
    shape = g.node("Concat", batch, g.ints(2, 4, 6, 6), axis=0)
    view = g.node("Transpose", g.node("Reshape", joined, shape), perm=[0, 2, 1, 3, 4])
    mixed = g.node("Reshape", view, g.node("Concat", batch, g.ints(-1, 6, 6), axis=0))
    a, b = g.node("Split", mixed, g.ints(3, 5), count=2, axis=1)
    return g.model(
        g.node("Neg", a, name="y"), g.node("Abs", b, name="z"), shapes=[["batch", 3, 6, 6], ["batch", 5, 6, 6]]
    )


def upsampling() -> onnx.ModelProto:
    """Transposed convolution, resize, pads, space and depth, local response normalisation."""
    g = Graph()
    x = g.input("x", 2, 4, 5, 7)
    up = g.node("ConvTranspose", x, g.random(4, 3, 4, 4), g.random(6), group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    up = g.node("Resize", up, "", "", g.ints(2, 6, 12, 9), mode="linear", coordinate_transformation_mode="half_pixel")
    padded = g.node("Pad", up, g.ints(0, 0, 1, 1, 0, 0, 1, 2), mode="reflect")
    deep = g.node("SpaceToDepth", g.node("LRN", padded, size=3, alpha=0.1), blocksize=2)
    wide = g.node("DepthToSpace", deep, blocksize=2, mode="CRD")
    cut = g.node("Pad", wide, g.ints(0, 0, -1, 2, 0, 0, 3, -1), g.const(0.5))
    return g.model(g.node("InstanceNormalization", cut, g.random(6), g.random(6), name="y"), shapes=[[2, 6, 16, 13]])


def activations() -> onnx.ModelProto:
    """Activations written out, and elementwise operations with several operands."""
    g = Graph()
    x = g.input("x", 1, 6, 4, 4)
    a = g.conv(x, 6, 6, 1)
    silu = g.node("Mul", a, g.node("Sigmoid", a))
    b = g.conv(silu, 6, 6, 1)
    inner = g.node("Erf", g.node("Div", b, g.const(np.sqrt(2.0))))
    gelu = g.node("Mul", g.node("Mul", b, g.node("Add", inner, g.const(1.0))), g.const(0.5))
    clipped = g.node("Clip", g.node("Add", gelu, g.const(3.0)), g.const(0.0), g.const(6.0))
    swish = g.node("Div", g.node("Mul", gelu, clipped), g.const(6.0))
    slope = g.node("PRelu", swish, g.random(6, 1, 1))
    mean = g.node("ReduceMean", slope, axes=[2, 3], keepdims=1)
    gate = g.node("HardSigmoid", mean, alpha=0.3, beta=0.4)
    total = g.node("Sum", g.node("Mul", slope, gate), x, g.random(1, 6, 1, 1))
    return g.model(g.node("Max", total, g.node("Tanh", x), g.const(-0.5), name="y"), shapes=[[1, 6, 4, 4]])


def folding() -> onnx.ModelProto:
    """Weights and shapes that are computed: fills, ranges, casts, comparisons."""
    g = Graph(13)
    x = g.input("x", 2, 4, 3)
    fill = numpy_helper.from_array(np.array([0.25], np.float32))
    w = g.node("ConstantOfShape", g.ints(5, 4, 1), value=fill)
    steps = g.node("Cast", g.node("Range", *(g.const(v, np.int64) for v in (0, 5, 1))), to=TensorProto.FLOAT)
    bias = g.node("Tile", g.node("Unsqueeze", steps, g.ints(0)), g.ints(1, 1))
    y = g.node("Conv", x, w, g.node("Squeeze", bias, g.ints(0)))
    mask = g.node("Where", g.node("Equal", g.ints(1, -1), g.ints(1, 1)), g.ints(2, 2), g.ints(5, 5))
    grown = g.node("Expand", g.const(2.0), g.node("Concat", mask, g.ints(1), axis=0))
    scaled = g.node("Mul", y, grown)
    dense = g.node("MatMul", scaled, g.random(3, 2))
    root = g.node("Sqrt", g.node("Pow", dense, g.const(2.0)))
    return g.model(g.node("LogSoftmax", g.node("Add", root, g.random(2)), name="y", axis=1), shapes=[[2, 5, 2]])


def opset9() -> onnx.ModelProto:
    """What older opsets wrote with attributes."""
    g = Graph(9)
    x = g.input("x", 1, 4, 6, 6)
    y = g.norm(g.node("Conv", x, g.random(4, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]), 4)
    y = g.node("Mul", y, g.node("Unsqueeze", g.random(4), axes=[1, 2]))
    y = g.node("Dropout", g.node("Clip", y, min=-1.0, max=2.0), ratio=0.4)
    y = g.node("Upsample", y, g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")
    y = g.node("Pad", y, pads=[0, 0, 1, 0, 0, 0, 1, 2], mode="edge")
    a, b = g.node("Split", g.node("Slice", y, axes=[2, 3], starts=[1, 0], ends=[9, -2]), count=2, axis=1, split=[1, 3])
    y = g.node("Concat", a, g.node("Elu", b, alpha=0.7), axis=1)
    y = g.node("ReduceMax", y, axes=[2, 3], keepdims=0)
    return g.model(g.node("Softmax", g.node("Reshape", y, g.ints(0, 2, 2)), name="y", axis=1), shapes=[[1, 2, 2]])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    make.__name__: make for make in (residual, shuffle, upsampling, activations, folding, opset9)
}


def input_shapes(model: onnx.ModelProto, symbols: dict[str, int] | None = None) -> dict[str, tuple[int, ...]]:
    """The declared shape of each input, symbols replaced (2 where none is given)."""
    named = symbols or {}
    return {
        info.name: tuple(dim.dim_value or named.get(dim.dim_param, 2) for dim in info.type.tensor_type.shape.dim)
        for info in model.graph.input
    }


def draw_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 inputs."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in input_shapes(model).items()}
