"""ncnn: Winograd, GEMM and packing as it chooses; problem lines only.

Layers are written as its own parameter and weight files, an activation that follows a convolution folded into it as its
optimiser would. ``packed`` gives and takes arrays in its blocks of channels, so that no conversion is timed. In
bfloat16 it keeps values so. In int8 it gets the same integer weights, and rounds values to scales without zero points,
as its own tools do.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from omniconv.bench.peers import PeerError, TimedCall
from omniconv.bench.precision import BFLOAT16, INT8, IntegerLayer
from omniconv.bench.workload import Array, Workload
from omniconv.spec import Activation, Conv, PixelShuffle, Shape, Shuffle

ncnn: Any = import_module("ncnn")  # it carries no types

NAME: Final = "ncnn"
PACKAGE: Final = "ncnn"
LAYOUTS: Final = ("NCHW", "packed")

PROMISES: Final = {INT8: 0.1}
"""Its scales have no zero points, so that each layer is a step of 127 off, and those behind add to it."""

SUFFIXES: Final = {1: "1D", 2: "", 3: "3D"}
AXIS_KEYS: Final = {  # of w, h, d
    "kernel": (1, 11, 21),
    "dilation": (2, 12, 22),
    "stride": (3, 13, 23),
    "before": (4, 14, 24),
    "after": (15, 16, 17),
    "extra": (18, 19, 20),
}
ACTIVATIONS: Final = {"sigmoid": "Sigmoid", "tanh": "TanH", "silu": "Swish", "exp": "Exp", "abs": "AbsVal"}
FLOAT32: Final = b"\0\0\0\0"
"""The mark in front of an array of plain float32 weights."""
BYTES: Final = (0x000D4B38).to_bytes(4, "little")
"""The mark in front of weights of 8 bits."""


def load(workload: Workload, threads: int, layout: str = "NCHW") -> TimedCall:
    """Write the layer or the chain in its format and read it back."""
    if workload.spec is None:
        raise PeerError("no converter from ONNX to ncnn")
    x = np.ascontiguousarray(next(iter(workload.inputs.values())))
    if x.shape[0] != 1:
        raise PeerError("its arrays have no batch axis")
    convs = [workload.spec] if isinstance(workload.spec, Conv) else list(workload.spec.convs)
    if workload.precision == BFLOAT16 and any(1 < conv.groups < conv.in_channels for conv in convs):
        raise PeerError("its groups of several channels are wrong in bfloat16")
    if layout == "packed" and workload.precision != "float32":
        raise PeerError("its blocks hold other numbers then")
    text, content = write_integers(workload.layers) if workload.precision == INT8 else write_network(workload)
    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(options, f"use_{name}", workload.precision == BFLOAT16 and name.startswith("bf16"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.bin")
        file.write_bytes(content)
        if net.load_param_mem(text) or net.load_model(str(file)):
            raise PeerError("it refuses the layer")
    plain = np.ascontiguousarray(x[0])
    given = ncnn.Mat(plain)
    if layout == "packed":
        given = ncnn.convert_packing(given, widest_block(x.shape[1]), options)
    kind = 1 if layout == "packed" else 0

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("x", given)
        code, mat = extractor.extract("y", kind)
        if code:
            raise PeerError(f"it fails with code {code}")
        return mat

    expected = workload.spec.output_shape(x.shape)
    mat = run()
    if mat.elempack * mat.elemsize == 0 or mat.elemsize != 4 * mat.elempack:
        raise PeerError("it does not compute in float32")

    if mat.elempack == 1:

        def call(_held: Array = plain) -> Sequence[Array]:  # the matrix only points to it
            return [np.asarray(run()).reshape(expected)]

        return call
    return Unpacking(run, options, expected, plain)


class Unpacking:
    """A call whose result is brought into the common order only when it is looked at."""

    def __init__(self, run: Any, options: Any, shape: Shape, keeps: Array) -> None:
        self.run, self.options, self.shape, self.keeps = run, options, shape, keeps

    def __call__(self) -> Sequence[Array]:
        """Compute; the list knows how to unpack its array."""
        return Packed(self.run(), self.options, self.shape)


class Packed(Sequence[Array]):
    """One output in blocks of channels."""

    def __init__(self, mat: Any, options: Any, shape: Shape) -> None:
        self.mat, self.options, self.shape = mat, options, shape

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index != 0:
            raise IndexError(index)
        return np.array(ncnn.convert_packing(self.mat, 1, self.options)).reshape(self.shape)


def widest_block(channels: int) -> int:
    """Channels in one block, as it chooses them itself."""
    return next(size for size in (16, 8, 4, 1) if channels % size == 0)


def write_network(workload: Workload) -> tuple[str, bytes]:
    """Parameter text and weight file of a layer or a chain."""
    assert workload.spec is not None
    steps = [workload.spec] if isinstance(workload.spec, Conv) else list(workload.spec.steps)
    pairs = iter(workload.weights)
    lines, blocks = ["Input in 0 1 x"], [b""]
    shape, value = workload.shape, "x"
    index = 0
    while index < len(steps):
        step = steps[index]
        index += 1
        name = "y" if index == len(steps) else f"v{index}"
        match step:
            case Conv():
                words, block = write_conv(step.resolve(shape), *next(pairs))
                shape = step.output_shape(shape)
                follower = steps[index] if index < len(steps) else None
                if isinstance(follower, Activation) and follower.name in ("relu", "relu6"):
                    index += 1
                    name = "y" if index == len(steps) else f"v{index}"
                    words += " 9=1" if follower.name == "relu" else " 9=3 -23310=2,0.0,6.0"
                kind, parameters = words.split(" ", 1)
                blocks.append(block)
            case Shuffle():
                kind, parameters = "ShuffleChannel", f"0={step.groups} 1=0"
            case PixelShuffle() if len(shape) == 4:
                kind, parameters = "PixelShuffle", f"0={step.factor} 1=0"
                shape = step.output_shape(shape)
            case Activation(name="relu"):
                kind, parameters = "ReLU", "0=0.0"
            case Activation(name="relu6"):
                kind, parameters = "Clip", "0=0.0 1=6.0"
            case Activation(name=word) if word in ACTIVATIONS:
                kind, parameters = ACTIVATIONS[word], ""
            case _:
                raise PeerError(
                    f"no translation of {step.name if isinstance(step, Activation) else type(step).__name__}"
                )
        lines.append(f"{kind} l{index} 1 1 {value} {name} {parameters}")
        value = name
    head = f"7767517\n{len(lines)} {len(lines)}\n"
    return head + "\n".join(lines) + "\n", b"".join(blocks)


def write_integers(layers: Sequence[IntegerLayer]) -> tuple[str, bytes]:
    """The same for convolutions in integers, all but the last one of which round their results."""
    if not layers or layers[0].spec.dims != 2:
        raise PeerError("its integers are set up for convolutions along two axes alone")
    lines, blocks, value = ["Input in 0 1 x"], [b""], "x"
    for index, layer in enumerate(layers):
        last = index == len(layers) - 1
        words, _ = write_conv(layer.spec, layer.weights, layer.bias)
        kind, parameters = words.split(" ", 1)
        parameters += {"relu": " 9=1", "relu6": " 9=3 -23310=2,0.0,6.0", "": ""}[layer.activation]
        name = "y" if last else f"v{index}"
        lines.append(f"{kind} l{index} 1 1 {value} {name} {parameters} 8={1 if last else 101}")
        value = name
        block = BYTES + layer.weights.tobytes()
        block += b"\0" * (-len(block) % 4)
        if layer.bias is not None:
            block += (layer.bias * layer.x_scale * layer.weight_scales).astype(np.float32).tobytes()
        scales = layer.weight_scales if layer.spec.groups == 1 else layer.weight_scales.reshape(layer.spec.groups, -1)
        blocks.append(block + write_scales(layer, scales, last))
    head = f"7767517\n{len(lines)} {len(lines)}\n"
    return head + "\n".join(lines) + "\n", b"".join(blocks)


def write_scales(layer: IntegerLayer, scales: Array, last: bool) -> bytes:
    """How many of its steps one is, of weights, of what comes in, and of what goes out."""
    if scales.ndim > 1 and (scales != scales[:, :1]).any():
        raise PeerError("its groups have one scale of weights each")
    weights = scales if scales.ndim == 1 else scales[:, 0]
    given = [127 / (layer.x_scale * max(layer.x_zero, 255 - layer.x_zero))]
    made = [] if last else [127 / (layer.y_scale * max(layer.y_zero, 255 - layer.y_zero))]
    return np.array([*(1 / weights), *given, *made], np.float32).tobytes()


def write_conv(spec: Conv, kernel: Array, bias: Array | None) -> tuple[str, bytes]:
    """Type and parameters of a convolution, and its block in the weight file."""
    if spec.padding_mode != "zeros":
        raise PeerError(f"its convolutions have no {spec.padding_mode} padding")
    if spec.flip:
        kernel = np.flip(kernel, tuple(range(2, kernel.ndim)))
    groups = spec.groups
    if spec.transposed:  # (in, out / g, *k) -> (g, out / g, in / g, *k)
        split = kernel.reshape(groups, spec.in_channels // groups, *kernel.shape[1:])
        kernel = np.swapaxes(split, 1, 2)
    base = "Deconvolution" if spec.transposed else "Convolution"
    words = [f"{base}{'DepthWise' if groups > 1 else ''}{SUFFIXES[spec.dims]}", f"0={spec.out_channels}"]
    for place, axis in enumerate(reversed(spec.axes())):
        values = {
            "kernel": axis.kernel,
            "dilation": axis.dilation,
            "stride": axis.stride,
            "before": axis.padding[0],
            "after": axis.padding[1],
        }
        if spec.transposed:
            values["extra"] = axis.output_padding
        words += [f"{AXIS_KEYS[key][place]}={number}" for key, number in values.items()]
    words += [f"5={int(bias is not None)}", f"6={math.prod(kernel.shape)}"]
    if groups > 1:
        words.append(f"7={groups}")
    block = FLOAT32 + np.ascontiguousarray(kernel, np.float32).tobytes()
    if bias is not None:
        block += np.ascontiguousarray(bias, np.float32).tobytes()
    return " ".join(words), block
