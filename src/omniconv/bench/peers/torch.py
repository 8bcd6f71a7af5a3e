"""PyTorch: problem lines only, since nothing here turns an ONNX model into a PyTorch one.

In bfloat16 weights and values are kept in it, in int8 the quantised operators of its x86 engine run; both take and give
float32. Channels last means `torch.channels_last` for input and weights. There is no such order for one axis; such
layers run as two-axis ones of height 1 then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as functional  # noqa: PLR0402

from omniconv.bench.peers import PeerError, TimedCall
from omniconv.bench.precision import BFLOAT16, INT8, IntegerLayer
from omniconv.bench.workload import Array, Workload
from omniconv.spec import Activation, Conv, PixelShuffle, Resize, Shape, Shuffle, Split
from omniconv.spec.chain import ChainStep

NAME: Final = "PyTorch"
PACKAGE: Final = "torch"
LAYOUTS: Final = ("NCHW", "NHWC")
PAD_MODES: Final = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}
ACTIVATIONS: Final[dict[str, Callable[..., Any]]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "clip": torch.clamp,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "hard_sigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1),
    "hard_swish": functional.hardswish,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}

Function = Callable[[Any], Any]


def load(workload: Workload, threads: int, layout: str = "NCHW") -> TimedCall:
    """Prepare a layer or a chain. The number of threads is a setting of the whole process."""
    if workload.spec is None:
        raise PeerError("no converter from ONNX to PyTorch")
    torch.set_num_threads(threads)
    if workload.precision == INT8:
        function = build_integers(workload.layers)
    elif workload.precision == BFLOAT16:
        inner = build(workload, layout, dtype=torch.bfloat16)
        function = lambda x: inner(x.bfloat16()).float()  # noqa: E731
    else:
        function = build(workload, layout)
    x = order_input(workload, layout)
    flat = layout == "NHWC" and len(workload.shape) == 3

    def call() -> Sequence[Array]:
        with torch.inference_mode():
            y = function(x)
            return [(y.squeeze(2) if flat else y).numpy()]

    return call


def order_input(workload: Workload, layout: str) -> Any:
    """The input as a tensor in the given order."""
    x = torch.from_numpy(np.ascontiguousarray(next(iter(workload.inputs.values()))))
    if layout == "NHWC":
        x = x.unsqueeze(2) if x.ndim == 3 else x
        x = x.contiguous(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.channels_last)
    return x


def build_integers(layers: Sequence[IntegerLayer]) -> Function:
    """Convolutions one behind another in its quantised operators; float32 before and behind."""
    if not layers or layers[0].spec.dims == 1:
        raise PeerError("its quantised operators are set up for convolutions along two or three axes alone")
    torch.backends.quantized.engine = "x86"
    operators, make = torch.ops.quantized, torch.ops.aten._make_per_channel_quantized_tensor  # noqa: SLF001
    calls = []
    for layer in layers:
        spec, pads = layer.spec, [axis.padding for axis in layer.spec.axes()]
        if any(before != after for before, after in pads):
            raise PeerError("its quantised operators pad the same amount on both sides")
        scales = torch.from_numpy(np.array(layer.weight_scales, np.float64))
        zeros = torch.zeros(spec.out_channels, dtype=torch.long)
        w = make(torch.from_numpy(layer.weights.copy()), scales, zeros, 0)
        bias = np.zeros(spec.out_channels) if layer.bias is None else layer.bias * layer.x_scale * layer.weight_scales
        settings = [list(spec.stride), [before for before, _ in pads], list(spec.dilation), spec.groups]
        b = torch.from_numpy(np.asarray(bias, np.float32))
        packed = getattr(operators, f"conv{spec.dims}d_prepack")(w, b, *settings)
        calls.append((getattr(operators, f"conv{spec.dims}d"), packed, float(layer.y_scale), layer.y_zero))
    scale, zero = float(layers[0].x_scale), layers[0].x_zero

    def run(x: Any) -> Any:
        x = torch.quantize_per_tensor(x, scale, zero, torch.quint8)
        for call, *arguments in calls:
            x = call(x, *arguments)
        return x.dequantize()

    return run


def build(
    workload: Workload, layout: str, *, order_weights: bool = True, dtype: torch.dtype = torch.float32
) -> Function:
    """A layer or a chain as a function of a tensor; with ``order_weights`` its weights are in that layout too."""
    if workload.spec is None:
        raise PeerError("no converter from ONNX to PyTorch")
    pairs = iter(tuple(None if part is None else read(part, dtype) for part in pair) for pair in workload.weights)
    shape = workload.shape
    steps = (workload.spec,) if isinstance(workload.spec, Conv) else workload.spec.steps
    last = layout == "NHWC"
    if last and len(shape) == 3 and any(isinstance(step, Resize | PixelShuffle) for step in steps):
        raise PeerError("resizing along one axis has no channels-last form")
    functions = []
    for step in steps:
        functions.append(prepare(step, shape, pairs, last, order_weights))
        shape = shape if isinstance(step, Activation) else step.output_shape(shape)

    def run(x: Any) -> Any:
        for function in functions:
            x = function(x)
        return x

    return run


def read(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """Weights as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(dtype)


def prepare(step: ChainStep, shape: Shape, pairs: Any, last: bool = False, order_weights: bool = True) -> Function:
    """One step as a function of a tensor; a convolution takes its weights from ``pairs``."""
    match step:
        case Conv():
            w, b = next(pairs)
            return prepare_conv(step.resolve(shape), w, b, last, order_weights)
        case Split():
            sizes = [branch.in_channels for branch in step.branches]
            shapes = [(shape[0], branch.in_channels, *shape[2:]) for branch in step.branches]
            branches = [prepare(*item, pairs, last, order_weights) for item in zip(step.branches, shapes, strict=True)]

            def split(x: Any) -> Any:
                parts = torch.split(x, sizes, 1)
                return torch.cat([branch(part) for branch, part in zip(branches, parts, strict=True)], 1)

            return split
        case Shuffle():
            return lambda x: functional.channel_shuffle(x, step.groups)
        case PixelShuffle():
            if len(shape) == 4:
                return lambda x: functional.pixel_shuffle(x, step.factor)
            return lambda x: shuffle_pixels(x, step.factor)
        case Resize():
            mode = step.mode if step.mode == "nearest" else {3: "linear", 4: "bilinear", 5: "trilinear"}[len(shape)]
            return lambda x: functional.interpolate(x, scale_factor=step.factor, mode=mode)
        case Activation():
            function, parameters = ACTIVATIONS[step.name], [value for _, value in step.parameters]
            return lambda x: function(x, *parameters)


def prepare_conv(
    spec: Conv, w: torch.Tensor, b: torch.Tensor | None, last: bool = False, order_weights: bool = True
) -> Function:
    """A convolution; padding that its function does not take is a step before it."""
    if spec.flip:
        w = w.flip(tuple(range(2, w.ndim)))
    pads = [axis.padding for axis in spec.axes()]
    even = spec.padding_mode == "zeros" and all(before == after for before, after in pads)
    settings: dict[str, Any] = {
        "stride": spec.stride,
        "padding": tuple(before for before, _ in pads) if even else 0,
        "dilation": spec.dilation,
        "groups": spec.groups,
    }
    if spec.transposed:
        if not even:
            raise PeerError("its transposed convolutions crop the same amount on both sides")
        settings["output_padding"] = spec.output_padding
    dims = spec.dims
    if last:
        if dims == 1:
            dims, w, pads = 2, w.unsqueeze(2), [(0, 0), *pads]
            settings = {key: value if key == "groups" else widen(key, value) for key, value in settings.items()}
        if order_weights:
            w = w.contiguous(memory_format=torch.channels_last_3d if dims == 3 else torch.channels_last)
    function = getattr(functional, f"conv{'_transpose' if spec.transposed else ''}{dims}d")
    if even:
        return lambda x: function(x, w, b, **settings)
    flat = [size for pair in reversed(pads) for size in pair]
    mode = PAD_MODES[spec.padding_mode]
    return lambda x: function(functional.pad(x, flat, mode=mode), w, b, **settings)


def widen(key: str, value: Any) -> Any:
    """A setting for one axis as one for two axes, the first of size 1."""
    neutral = 1 if key in ("stride", "dilation") else 0
    return value if isinstance(value, int) else (neutral, *value)


def shuffle_pixels(x: Any, factor: int) -> Any:
    """Depth to space for one or three axes."""
    batch, channels, *sizes = x.shape
    dims = len(sizes)
    split = x.reshape(batch, channels // factor**dims, *(factor,) * dims, *sizes)
    order = (0, 1, *(axis for i in range(dims) for axis in (2 + dims + i, 2 + i)))
    return split.permute(order).reshape(batch, -1, *(size * factor for size in sizes))
