"""As much of Keras as the code of the page uses, after its documentation: channels last, computed by PyTorch."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np

try:
    import torch
    from torch.nn import functional
except ImportError:  # the tests that use this are skipped
    torch = functional = None


def _first(x):
    return torch.movedim(x, -1, 1)


def _last(x):
    return torch.movedim(x, 1, -1)


def _each(value, dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)


class Layer:
    """A layer that is built at its first call."""

    def __init__(self):
        self.weights: list = []
        self.parts: list[Layer] = []

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name in ("layers", "branches"):
            self.parts = list(value)

    def __call__(self, x):
        return self.call(x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x, np.float32)))

    def get_weights(self):
        return [w.numpy() for w in self.weights] + [w for part in self.parts for w in part.get_weights()]

    def set_weights(self, values):
        values = list(values)
        for i in range(len(self.weights)):
            self.weights[i] = torch.from_numpy(np.ascontiguousarray(values.pop(0)))
        for part in self.parts:
            count = len(part.get_weights())
            part.set_weights(values[:count])
            values = values[count:]
        assert not values

    def build(self, *shapes):
        if not self.weights:
            self.weights = [torch.zeros(shape) for shape in shapes]


class Sequential(Layer):
    def __init__(self, layers):
        super().__init__()
        self.layers = [layer for layer in layers if not isinstance(layer, tuple)]

    def call(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Activation(Layer):
    def __init__(self, function):
        super().__init__()
        named = {
            "hard_silu": functional.hardswish,
            "sigmoid": torch.sigmoid,
            "silu": functional.silu,
            "tanh": torch.tanh,
        }
        self.function = named[function] if isinstance(function, str) else function

    def call(self, x):
        return self.function(x)


class Conv(Layer):
    """Padding "same" is that of TensorFlow: ceil(size / stride) outputs, the odd zero after."""

    dims = 2
    own = "filters"

    def __init__(self, *words, strides=1, padding="valid", dilation_rate=1, groups=1, depth_multiplier=1):
        super().__init__()
        self.filters = words[0] if self.own == "filters" else None
        self.kernel = _each(words[-1], self.dims)
        self.strides, self.dilation = _each(strides, self.dims), _each(dilation_rate, self.dims)
        if max(self.strides) > 1 and max(self.dilation) > 1:
            raise ValueError("strides > 1 not supported in conjunction with dilation_rate > 1")
        self.padding, self.groups, self.multiplier = padding, groups, depth_multiplier

    def pad(self, x):
        pairs = []
        for size, kernel, stride, dilation in zip(x.shape[2:], self.kernel, self.strides, self.dilation, strict=True):
            extent = dilation * (kernel - 1) + 1
            total = {"valid": 0, "causal": extent - 1}.get(self.padding)
            if total is None:
                total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            before = total if self.padding == "causal" else total // 2
            pairs.append((before, total - before))
        return functional.pad(x, list(itertools.chain(*reversed(pairs))))

    def convolve(self, x, kernel, bias, groups):
        function = getattr(functional, f"conv{self.dims}d")
        weight = kernel.permute(-1, -2, *range(self.dims))
        return function(self.pad(x), weight, bias, self.strides, 0, self.dilation, groups)

    def call(self, x):
        self.build((*self.kernel, x.shape[-1] // self.groups, self.filters), (self.filters,))
        return _last(self.convolve(_first(x), *self.weights, self.groups))


class DepthwiseConv(Conv):
    own = "kernel"

    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        assert len(set(self.strides)) == 1, "strides of a depthwise layer are equal"

    def call(self, x):
        channels = x.shape[-1]
        self.build((*self.kernel, channels, self.multiplier), (channels * self.multiplier,))
        kernel, bias = self.weights
        return _last(self.convolve(_first(x), kernel.reshape(*self.kernel, 1, -1), bias, channels))


class SeparableConv(Conv):
    def call(self, x):
        inner = x.shape[-1] * self.multiplier
        one = (1,) * self.dims
        self.build((*self.kernel, x.shape[-1], self.multiplier), (*one, inner, self.filters), (self.filters,))
        depthwise, pointwise, bias = self.weights
        y = self.convolve(_first(x), depthwise.reshape(*self.kernel, 1, -1), None, x.shape[-1])
        return _last(y) @ pointwise.reshape(inner, self.filters) + bias


class ConvTranspose(Conv):
    """ "valid" has n s + max(extent - s, 0) outputs, "same" n s of them, from half of the surplus on."""

    def call(self, x):
        self.build((*self.kernel, self.filters, x.shape[-1]), (self.filters,))
        kernel, bias = self.weights
        function = getattr(functional, f"conv_transpose{self.dims}d")
        y = function(_first(x), kernel.permute(-1, -2, *range(self.dims)), None, self.strides, dilation=self.dilation)
        for axis, (stride, size, k, d) in enumerate(
            zip(self.strides, x.shape[1:-1], self.kernel, self.dilation, strict=True), 2
        ):
            surplus = max(d * (k - 1) + 1 - stride, 0)
            missing = size * stride + surplus - y.shape[axis]
            if missing:
                y = torch.cat([y, torch.zeros_like(y.narrow(axis, 0, 1)).repeat_interleave(missing, axis)], axis)
            if self.padding == "same":
                y = y.narrow(axis, surplus // 2, size * stride)
        return _last(y) + bias


class Padding(Layer):
    """Zeros around every axis, or crops of it."""

    dims, sign = 2, 1

    def __init__(self, padding):
        super().__init__()
        self.pairs = (padding,) if self.dims == 1 else padding
        assert len(self.pairs) == self.dims

    def call(self, x):
        flat = [self.sign * n for pair in reversed(self.pairs) for n in pair]
        return _last(functional.pad(_first(x), flat))


class UpSampling(Layer):
    dims = 2

    def __init__(self, size, interpolation="nearest"):
        super().__init__()
        self.size, self.mode = size, interpolation

    def call(self, x):
        more = {} if self.mode == "nearest" else {"align_corners": False}
        return _last(functional.interpolate(_first(x), scale_factor=self.size, mode=self.mode, **more))


def _named(base, name: str) -> dict:
    return {name.format(dims): type(name.format(dims), (base,), {"dims": dims}) for dims in (1, 2, 3)}


class _Crop(Padding):
    sign = -1


layers = SimpleNamespace(
    Layer=Layer,
    Activation=Activation,
    ReLU=lambda max_value=None: Activation(lambda x: x.clamp(0, max_value)),
    LeakyReLU=lambda negative_slope: Activation(lambda x: functional.leaky_relu(x, negative_slope)),
    ELU=lambda alpha: Activation(lambda x: functional.elu(x, alpha)),
    **_named(Conv, "Conv{}D"),
    **{name: cls for name, cls in _named(DepthwiseConv, "DepthwiseConv{}D").items() if "3" not in name},
    **{name: cls for name, cls in _named(SeparableConv, "SeparableConv{}D").items() if "3" not in name},
    **_named(ConvTranspose, "Conv{}DTranspose"),
    **_named(Padding, "ZeroPadding{}D"),
    **_named(_Crop, "Cropping{}D"),
    **_named(UpSampling, "UpSampling{}D"),
)


def _take(x, place, axis):
    return torch.index_select(x, axis, torch.from_numpy(np.asarray(place, np.int64)))


ops = SimpleNamespace(
    **{name: getattr(torch, name, None) for name in "zeros zeros_like reshape exp sqrt abs negative".split()},
    take=_take,
    concatenate=getattr(torch, "cat", None),
    transpose=getattr(torch, "permute", None),
    clip=getattr(torch, "clamp", None),
    convert_to_tensor=getattr(torch, "from_numpy", None),
)
activations = SimpleNamespace(
    gelu=lambda x, approximate: functional.gelu(x, approximate="tanh" if approximate else "none")
)


def Input(shape):
    """The shape of an input, which is no layer."""
    return tuple(shape)
