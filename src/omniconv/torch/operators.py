r"""The operators ``torch.ops.omniconv``: a convolution and its two gradients, which are the gradients of one another.

.. math::
    y = A_w x + b, \qquad \mathrm{dx} = A_w^* \,\mathrm{dy}, \qquad
    \mathrm{dw} = \partial_w \langle A_w x, \mathrm{dy} \rangle, \qquad
    \mathrm{db}_c = \sum_{n, o} \mathrm{dy}_{n, c, o}

All three are linear in each of their two tensors, so that the gradients of each are the other two, to any order. On
tensors of float32 and float64 in host memory they run as compiled programs (:mod:`omniconv.torch.programs`), which read
the tensors and write the results where they lie; on everything else PyTorch's own operators compute the same
(:mod:`omniconv.torch.plain`).

Autocast: as for PyTorch's convolutions, inputs are cast to the type of the region. That is bfloat16 or float16, so that
PyTorch's operators run there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import torch

from omniconv.spec import Conv, Shape
from omniconv.torch import plain
from omniconv.torch.arguments import check_tensors
from omniconv.torch.calls import LIBRARY, compiles, define, run_program
from omniconv.torch.dispatch import FUNCTIONS, call, call_operator
from omniconv.torch.folding import RULES
from omniconv.torch.gradients import BACKWARD, LAYER_ARGUMENTS, save
from omniconv.torch.layouts import check_strided, empty, is_channels_last, lay
from omniconv.torch.plain import Geometry, Ints
from omniconv.torch.programs import PROGRAMS

_LAYER: Final = (
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups, "
    "bool flip, str padding_mode"
)
_SCHEMAS: Final = {
    "conv": f"(Tensor x, Tensor w, Tensor? b, {_LAYER}) -> Tensor",
    "conv_input_gradient": f"(Tensor dy, Tensor w, SymInt[] size, {_LAYER}, bool channels_last) -> Tensor",
    "conv_weight_gradient": f"(Tensor x, Tensor dy, SymInt[] size, {_LAYER}, bool bias) -> (Tensor, Tensor)",
}
_AUTOCAST: Final = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA", "xpu": "AutocastXPU", "mps": "AutocastMPS"}
"""Devices whose regions of automatic types are followed, and PyTorch's key for each."""


@lru_cache(maxsize=4096)
def find_spec(channels: int, w: Shape, *layer: Any) -> Conv:
    """The layer with weights of shape ``w`` on an input of so many channels."""
    stride, padding, dilation, transposed, output_padding, groups, flip, padding_mode = layer
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    out = w[1] * groups if transposed else w[0]
    return Conv(channels, out, w[2:], stride, dilation, pairs, groups, transposed, output_padding, flip, padding_mode)


def _check_strided(**tensors: torch.Tensor) -> None:
    for name, tensor in tensors.items():
        check_strided(name, tensor)


# Values


def _conv(key: Hashable, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *layer: Any) -> Any:
    """The layer itself."""
    geometry = Geometry(*layer)
    check_tensors(x, w, b, geometry)
    last = is_channels_last(x)
    if not compiles(x, w, b):
        return lay(plain.conv(x, w, b, geometry), channels_last=last)
    spec, shape = find_spec(x.shape[1], tuple(w.shape), *layer), tuple(x.shape)
    what = "forward" if b is None else "forward_bias"
    find = PROGRAMS.reach(what, spec, shape, x.dtype, channels_last=last)
    sizes = geometry.output_sizes(list(x.shape[2:]), list(w.shape[2:]))
    inputs = {"x": (x, last), "w": (w, False)} | ({} if b is None else {"b": (b, False)})
    return run_program(key, find, inputs, {"y": ([x.shape[0], spec.out_channels, *sizes], last)})


def _input_gradient(key: Hashable, dy: torch.Tensor, w: torch.Tensor, size: Ints, *rest: Any) -> Any:
    """The gradient of an input of ``size``, which lies as it is said."""
    layer, last = rest[:LAYER_ARGUMENTS], rest[LAYER_ARGUMENTS]
    _check_strided(dy=dy, w=w)
    if not (compiles(dy, w) and all(size)):
        return lay(plain.input_gradient(dy, w, list(size), Geometry(*layer)), channels_last=last)
    spec = find_spec(size[1], tuple(w.shape), *layer)
    find = PROGRAMS.reach("input_gradient", spec, tuple(size), dy.dtype, channels_last=last)
    return run_program(key, find, {"dy": (dy, last), "w": (w, False)}, {"dx": (size, last)})


def _weight_gradient(key: Hashable, x: torch.Tensor, dy: torch.Tensor, size: Ints, *rest: Any) -> Any:
    """The gradients of weights of ``size`` and of the bias; the latter is empty where there is none."""
    layer, bias = rest[:LAYER_ARGUMENTS], rest[LAYER_ARGUMENTS]
    _check_strided(x=x, dy=dy)
    if not (compiles(x, dy) and all(size)):
        db = dy.sum([0, *range(2, dy.dim())]) if bias else dy.new_empty(0)
        return lay(plain.weight_gradient(x, dy, list(size), Geometry(*layer)), channels_last=False), db
    spec, last = find_spec(x.shape[1], tuple(size), *layer), is_channels_last(x)
    what = "weight_gradient_bias" if bias else "weight_gradient"
    find = PROGRAMS.reach(what, spec, tuple(x.shape), x.dtype, channels_last=last)
    results = {"dw": (size, False), "db": ([spec.out_channels if bias else 0], False)}
    return run_program(key, find, {"x": (x, last), "dy": (dy, last)}, results)


# Shapes alone


def _conv_shape(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *layer: Any) -> torch.Tensor:
    geometry = Geometry(*layer)
    check_tensors(x, w, b, geometry)
    channels = w.shape[1] * geometry.groups if geometry.transposed else w.shape[0]
    sizes = geometry.output_sizes(list(x.shape[2:]), list(w.shape[2:]))
    return empty([x.shape[0], channels, *sizes], x, channels_last=is_channels_last(x))


def _input_gradient_shape(dy: torch.Tensor, _w: torch.Tensor, size: Ints, *rest: Any) -> torch.Tensor:
    return empty(size, dy, channels_last=rest[LAYER_ARGUMENTS])


def _weight_gradient_shape(
    _x: torch.Tensor, dy: torch.Tensor, size: Ints, *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    bias = rest[LAYER_ARGUMENTS]
    return empty(size, dy, channels_last=False), dy.new_empty(dy.shape[1] if bias else 0)


# Automatic types


def _register_autocast(device: str, key: str) -> None:
    """Cast what a convolution reads to the type of the region; gradients follow the types of the forward pass."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))  # noqa: SLF001 - as torch.library does

    def cast(*arguments: Any) -> torch.Tensor:
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(keys):  # noqa: SLF001
            return torch.ops.omniconv.conv(*(_cast(each, dtype) for each in arguments[:3]), *arguments[3:])

    LIBRARY.impl("conv", cast, key)


def _cast(value: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Float64 stays, as in PyTorch's own lists."""
    narrow = value is not None and value.is_floating_point() and value.dtype != torch.float64
    return value.to(dtype) if value is not None and narrow else value


def _function(name: str) -> type[torch.autograd.Function]:
    """What transforms see of an operator."""
    methods: dict[str, Callable[..., Any]] = {
        "forward": lambda *arguments: call(name, *arguments),
        "setup_context": save,
        "backward": BACKWARD[name],
        "vmap": partial(RULES[name], call),
    }
    body = {key: staticmethod(method) for key, method in methods.items()}
    return type(f"Transformed_{name}", (torch.autograd.Function,), body)


def _register() -> None:
    values = {
        "conv": (_conv, _conv_shape),
        "conv_input_gradient": (_input_gradient, _input_gradient_shape),
        "conv_weight_gradient": (_weight_gradient, _weight_gradient_shape),
    }
    for name, (compute, shape) in values.items():
        define(name, _SCHEMAS[name], compute, shape, save, BACKWARD[name])
        torch.library.register_vmap(f"omniconv::{name}", partial(RULES[name], call_operator), lib=LIBRARY)
        FUNCTIONS[name] = _function(name)
    for device, key in _AUTOCAST.items():
        if torch.amp.is_autocast_available(device):
            _register_autocast(device, key)


_register()


def convolve(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, layer: Sequence[Any], axes: int) -> torch.Tensor:
    """One layer, its numbers in tuples, on a batch, or on a single input without the axis of the batch."""
    alone = x.dim() == axes + 1
    x = x.unsqueeze(0) if alone else x
    y: torch.Tensor = call("conv", x, w, b, *layer)
    return y.squeeze(0) if alone else y
