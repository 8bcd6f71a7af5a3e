"""A spec as an ONNX model, so that every runtime that reads ONNX can compute a problem line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from omniconv.bench.workload import Array, Weights
from omniconv.spec import Activation, Conv, PixelShuffle, Resize, Shape, Shuffle, Spec, Split
from omniconv.spec.conv import PAD_WORDS

OPSET: Final = 20
ACTIVATIONS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": "alpha"}),
    "elu": ("Elu", {"alpha": "alpha"}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": "alpha", "beta": "beta"}),
    "hard_swish": ("HardSwish", {}),
    "tanh": ("Tanh", {}),
    "exp": ("Exp", {}),
    "sqrt": ("Sqrt", {}),
    "abs": ("Abs", {}),
    "neg": ("Neg", {}),
    "gelu": ("Gelu", {}),
}


class _Builder:
    """Collects nodes and initialisers under fresh names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.count = 0

    def constant(self, array: Array) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = []
        for _ in range(outputs):
            self.count += 1
            names.append(f"v{self.count}")
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def conv(self, x: str, spec: Conv, shape: Shape, weights: tuple[Array, Array | None]) -> str:
        spec = spec.resolve(shape)
        kernel, bias = weights
        if spec.flip:
            kernel = np.flip(kernel, tuple(range(2, kernel.ndim)))
        pads = [axis.padding for axis in spec.axes()]
        flat = [pair[0] for pair in pads] + [pair[1] for pair in pads]
        if spec.padding_mode != "zeros":
            full = [0, 0, *flat[: spec.dims], 0, 0, *flat[spec.dims :]]
            (x,) = self.node("Pad", x, self.constant(np.array(full, np.int64)), mode=PAD_WORDS[spec.padding_mode])
            flat = [0] * len(flat)
        inputs = [x, self.constant(kernel.astype(np.float32))]
        if bias is not None:
            inputs.append(self.constant(bias.astype(np.float32)))
        settings: dict[str, Any] = {
            "kernel_shape": spec.kernel_size,
            "strides": spec.stride,
            "dilations": spec.dilation,
            "group": spec.groups,
            "pads": flat,
        }
        if spec.transposed:
            settings["output_padding"] = spec.output_padding
        return self.node("ConvTranspose" if spec.transposed else "Conv", *inputs, **settings)[0]

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.node("Reshape", x, self.constant(np.array(shape, np.int64)))[0]

    def resize(self, x: str, step: Resize, shape: Shape) -> str:
        scales = self.constant(np.array([1, 1, *(step.factor,) * (len(shape) - 2)], np.float32))
        settings: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        if step.mode == "nearest":
            settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", x, "", scales, **settings)[0]

    def activation(self, x: str, step: Activation) -> str:
        if step.name in ("relu6", "clip"):
            low, high = (0.0, 6.0) if step.name == "relu6" else (step["lo"], step["hi"])
            bounds = [self.constant(np.array(bound, np.float32)) for bound in (low, high)]
            return self.node("Clip", x, *bounds)[0]
        if step.name == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x)[0])[0]
        if step.name == "gelu_tanh":
            return self.node("Gelu", x, approximate="tanh")[0]
        op, names = ACTIVATIONS[step.name]
        settings: dict[str, Any] = {key: step[name] for key, name in names.items()}
        return self.node(op, x, **settings)[0]


def export_onnx(spec: Spec, shape: Shape, weights: Weights) -> bytes:
    """Write ``spec`` for inputs of ``shape`` as a serialised ONNX model with input ``x`` and output ``y``."""
    builder = _Builder()
    steps = (spec,) if isinstance(spec, Conv) else spec.steps
    value, current, used = "x", tuple(shape), 0
    for step in steps:
        match step:
            case Conv():
                value = builder.conv(value, step, current, weights[used])
                used += 1
            case Split():
                sizes = builder.constant(np.array([branch.in_channels for branch in step.branches], np.int64))
                parts = builder.node("Split", value, sizes, outputs=len(step.branches), axis=1)
                done = []
                for part, branch in zip(parts, step.branches, strict=True):
                    done.append(
                        builder.conv(part, branch, (current[0], branch.in_channels, *current[2:]), weights[used])
                    )
                    used += 1
                (value,) = builder.node("Concat", *done, axis=1)
            case Shuffle():
                split = (current[0], step.groups, current[1] // step.groups, *current[2:])
                order = (0, 2, 1, *range(3, len(split)))
                (value,) = builder.node("Transpose", builder.reshape(value, split), perm=order)
                value = builder.reshape(value, current)
            case PixelShuffle():
                dims, factor = len(current) - 2, step.factor
                produced = step.output_shape(current)
                value = builder.reshape(value, (current[0], produced[1], *(factor,) * dims, *current[2:]))
                order = (0, 1, *(axis for i in range(dims) for axis in (2 + dims + i, 2 + i)))
                (value,) = builder.node("Transpose", value, perm=order)
                value = builder.reshape(value, produced)
            case Activation():
                value = builder.activation(value, step)
            case Resize():
                value = builder.resize(value, step, current)
        if not isinstance(step, Activation):
            current = step.output_shape(current)
    builder.nodes.append(helper.make_node("Identity", [value], ["y"]))
    graph = helper.make_graph(
        builder.nodes,
        "problem",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(current))],
        builder.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="omniconv")
    model.ir_version = 9
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
