"""Specs out as ONNX: `export` writes a `Conv` or `Chain` as a model of opset 17 that any runtime reads.

What ONNX has no operator for is written with those it has: padding modes as Pad (circular as Slice and Concat), a true
convolution with its kernel reversed, a channel shuffle as Reshape-Transpose-Reshape, GELU by its formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from omniconv.records import dataclass
from omniconv.reference import Weights, check_weights
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shape, Shuffle, Spec, Split
from omniconv.spec.conv import PAD_WORDS

OPSET: Final = 17
IR_VERSION: Final = 8

_SIMPLE: Final = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "hard_swish": "HardSwish",
    "tanh": "Tanh",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "hard_sigmoid": "HardSigmoid",
}


@dataclass(slots=True)
class _Writer:
    """Nodes and initialisers so far."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Add an initialiser; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def scalar(self, value: float) -> str:
        """Add an initialiser of one value without axes."""
        return self.constant(np.float32(value).reshape(()))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; returns the output's name."""
        return self.split(op, *inputs, count=1, **attributes)[0]

    def split(self, op: str, *inputs: str, count: int, **attributes: Any) -> list[str]:
        """Add a node of ``count`` outputs."""
        names = [f"v{len(self.nodes)}_{index}" if count > 1 else f"v{len(self.nodes)}" for index in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), names, f"n{len(self.nodes)}", **attributes))
        return names


def export(spec: Spec, shape: Sequence[int], weights: Weights) -> onnx.ModelProto:
    """Write a layer or a chain as an ONNX model with input ``x`` and output ``y``.

    Example:
        >>> import numpy as np
        >>> model = export(Conv.of(3, 8, 3, padding=1), (1, 3, 16, 16), (np.ones((8, 3, 3, 3), np.float32), None))
        >>> [node.op_type for node in model.graph.node], model.opset_import[0].version
        (['Conv'], 17)

    Args:
        spec: what to write.
        shape: the input shape ``(N, C, *spatial)``.
        weights: one ``(w, b)`` or ``(w, None)``, for a chain one pair for each convolution; written as float32.

    Raises:
        ShapeError: a shape or weights that the spec does not take.
    """
    chain = spec if isinstance(spec, Chain) else Chain((spec,))
    pairs = iter(check_weights(spec, weights))
    write = _Writer()
    shapes = chain.shapes(shape)
    name = "x"
    for step, size in zip(chain.steps, shapes, strict=False):
        match step:
            case Conv():
                name = _write_conv(write, step, name, size, next(pairs))
            case Split():
                parts = write.split(
                    "Split",
                    name,
                    write.constant([b.in_channels for b in step.branches], np.int64),
                    count=len(step.branches),
                    axis=1,
                )
                results = [
                    _write_conv(write, branch, part, (size[0], branch.in_channels, *size[2:]), next(pairs))
                    for branch, part in zip(step.branches, parts, strict=True)
                ]
                name = write.node("Concat", *results, axis=1)
            case Activation():
                name = _write_activation(write, step, name)
            case Shuffle():
                name = _write_rearrange(
                    write,
                    name,
                    (size[0], step.groups, -1, *size[2:]),
                    (0, 2, 1, *range(3, len(size) + 1)),
                    size,
                )
            case PixelShuffle():
                name = _write_pixel_shuffle(write, step, name, size)
            case Resize():
                name = _write_resize(write, step, name, size)
    write.nodes[-1].output[0] = "y"
    return _finish(write, shapes[0], shapes[-1], spec.text(shape))


def _finish(write: _Writer, first: Shape, last: Shape, text: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        write.nodes,
        "omniconv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(first))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(last))],
        write.constants,
        doc_string=text,
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="omniconv"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _write_conv(write: _Writer, spec: Conv, x: str, shape: Shape, pair: tuple[Any, Any]) -> str:
    spec = spec.resolve(shape)
    w, b = pair
    pairs = [axis.padding for axis in spec.axes()]
    if spec.padding_mode != "zeros" and any(map(any, pairs)):
        x = _write_pad(write, x, shape, pairs, spec.padding_mode)
        pairs = [(0, 0)] * spec.dims
    if spec.flip:
        w = np.flip(w, tuple(range(2, 2 + spec.dims)))
    more = {"output_padding": list(spec.output_padding)} if any(spec.output_padding) else {}
    return write.node(
        "ConvTranspose" if spec.transposed else "Conv",
        x,
        write.constant(w),
        *(() if b is None else (write.constant(b),)),
        kernel_shape=list(spec.kernel_size),
        strides=list(spec.stride),
        dilations=list(spec.dilation),
        group=spec.groups,
        pads=[before for before, _ in pairs] + [after for _, after in pairs],
        **more,
    )


def _write_pad(write: _Writer, x: str, shape: Shape, pairs: Sequence[tuple[int, int]], mode: str) -> str:
    if mode in ("reflect", "replicate"):
        pads = [0, 0, *(before for before, _ in pairs), 0, 0, *(after for _, after in pairs)]
        return write.node("Pad", x, write.constant(pads, np.int64), mode=PAD_WORDS[mode])
    for axis, (size, (before, after)) in enumerate(zip(shape[2:], pairs, strict=True), 2):
        cuts = [(size - before, size), None, (0, after)]
        parts = [
            x if cut is None else write.node("Slice", x, *(write.constant([v], np.int64) for v in (*cut, axis)))
            for cut in cuts
            if cut is None or cut[0] < cut[1]
        ]
        if len(parts) > 1:
            x = write.node("Concat", *parts, axis=axis)
    return x


def _write_rearrange(write: _Writer, x: str, split: Shape, perm: Shape, shape: Shape) -> str:
    x = write.node("Reshape", x, write.constant(split, np.int64))
    x = write.node("Transpose", x, perm=list(perm))
    return write.node("Reshape", x, write.constant(shape, np.int64))


def _write_pixel_shuffle(write: _Writer, step: PixelShuffle, x: str, shape: Shape) -> str:
    dims, f = len(shape) - 2, step.factor
    result = step.output_shape(shape)
    if dims == 2:
        return write.node("DepthToSpace", x, blocksize=f, mode="CRD")
    split = (shape[0], result[1], *(f,) * dims, *shape[2:])
    perm = (0, 1, *(axis for index in range(dims) for axis in (2 + dims + index, 2 + index)))
    return _write_rearrange(write, x, split, perm, result)


def _write_resize(write: _Writer, step: Resize, x: str, shape: Shape) -> str:
    sizes = write.constant(step.output_shape(shape), np.int64)
    if step.mode == "nearest":
        return write.node(
            "Resize",
            x,
            "",
            "",
            sizes,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    return write.node("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")


def _write_activation(write: _Writer, f: Activation, x: str) -> str:
    if f.name in _SIMPLE:
        return write.node(_SIMPLE[f.name], x, **dict(f.parameters))
    match f.name:
        case "relu6":
            return write.node("Clip", x, write.scalar(0.0), write.scalar(6.0))
        case "clip":
            bounds = [write.scalar(f[key]) if math.isfinite(f[key]) else "" for key in ("lo", "hi")]
            return write.node("Clip", x, *bounds)
        case "silu":
            return write.node("Mul", x, write.node("Sigmoid", x))
        case "gelu":
            inner = write.node("Erf", write.node("Div", x, write.scalar(math.sqrt(2.0))))
        case "gelu_tanh":
            cube = write.node("Mul", write.node("Pow", x, write.scalar(3.0)), write.scalar(0.044715))
            scaled = write.node("Mul", write.node("Add", x, cube), write.scalar(math.sqrt(2.0 / math.pi)))
            inner = write.node("Tanh", scaled)
        case _:
            raise NotImplementedError(f"activation {f.name} has no ONNX form here")
    one = write.node("Add", inner, write.scalar(1.0))
    return write.node("Mul", write.node("Mul", x, one), write.scalar(0.5))
