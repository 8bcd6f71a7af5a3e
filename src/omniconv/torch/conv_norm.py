r"""A convolution and the batch norm of its result, with the activation behind it, as one function of PyTorch.

.. math::
    z = A_w x + b, \qquad y = f\!\left(\frac{z - m}{\sqrt{v + \epsilon}}\, s + t\right)

where m and v are the moments of z. By themselves they are two functions, and three programs on the way back; a small
layer takes less time than the calls of these. So they are one program there, and one back, whose gradient of z never
leaves the working memory. It is no operator: where somebody is to see operators, layers run one by one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import torch

from omniconv.errors import OmniconvError
from omniconv.program.normalise import ConvNorm
from omniconv.spec import Activation
from omniconv.torch.activations import as_activation
from omniconv.torch.calls import compiles
from omniconv.torch.dispatch import call, find_direct
from omniconv.torch.layouts import is_channels_last
from omniconv.torch.normalise import find_gradient
from omniconv.torch.operators import find_spec
from omniconv.torch.prepared import PreparedCall
from omniconv.torch.programs import PROGRAMS

OVER: Final = ("running_mean", "running_variance")
"""Inputs of the program that it writes anew."""


class Running(NamedTuple):
    """Running statistics, and the part of the moments that a call gives them."""

    mean: torch.Tensor
    variance: torch.Tensor
    momentum: float


@lru_cache(maxsize=256)
def _make_shares(momentum: float, dtype: torch.dtype) -> torch.Tensor:
    """What running statistics keep of themselves, and the part of the moments that they take."""
    return torch.tensor([1 - momentum, momentum], dtype=dtype, device="cpu")


class FixedNumbers(NamedTuple):
    """What a layer and its norm have beside tensors, all of it with a hash."""

    layer: tuple[Any, ...]
    epsilon: float
    name: str
    parameters: tuple[float, ...]

    @classmethod
    def of(cls, layer: tuple[Any, ...], epsilon: float, activation: Activation | None) -> FixedNumbers:
        """The activation by its name and numbers, as operators take it."""
        if activation is None:
            return cls(layer, epsilon, "", ())
        return cls(layer, epsilon, activation.name, tuple([value for _, value in activation.parameters]))


def find_call(
    x: Any, w: Any, b: Any, scale: Any, shift: Any, mean: Any, variance: Any, numbers: FixedNumbers
) -> Hashable | None:
    """The key of a call that runs as one; none for one whose layers run one by one.

    That is one that somebody sees, tensors that no code is compiled for or that do not fit one another (which the
    layers themselves refuse), gradients of some of the parameters alone, and such of running statistics.
    """
    if scale is None or shift is None or not isinstance(x, torch.Tensor):
        return None
    if (mean is None) != (variance is None) or (mean is not None and (mean.requires_grad or variance.requires_grad)):
        return None
    if torch.is_grad_enabled():
        wanted = [each.requires_grad for each in (w, scale, shift)]
        if b is not None:
            wanted.append(b.requires_grad)
        if not all(wanted) and (any(wanted) or x.requires_grad):
            return None
    key = find_direct("conv_norm", x, w, b, scale, shift, mean, variance, numbers)
    if key is None or PROGRAMS.recall(key) is not None:
        return key
    rows = [each for each in (b, scale, shift, mean, variance) if each is not None]
    return key if _fits(x, w, rows, numbers) else None


def _fits(x: torch.Tensor, w: torch.Tensor, rows: list[torch.Tensor], numbers: FixedNumbers) -> bool:
    """Whether all belong together, also rows with a number for each channel, and there is more than one value of it."""
    tensors = [x, w, *rows]
    if x.dim() != w.dim() or not compiles(*tensors) or len({each.dtype for each in tensors}) > 1:
        return False
    if any(each.shape != w.shape[:1] for each in rows):
        return False
    try:
        conv = find_spec(x.shape[1], tuple(w.shape), *numbers.layer)
        images, _, *sizes = conv.output_shape(conv.check_input(tuple(x.shape)))
    except OmniconvError:
        return False
    return conv.weight_shape == tuple(w.shape) and images * math.prod(sizes) > 1


def conv_norm(
    key: Hashable, x: Any, w: Any, b: Any, scale: Any, shift: Any, numbers: FixedNumbers, running: Running | None
) -> torch.Tensor:
    """y. Statistics have taken their part before anything is saved for the way back: a checkpoint ends its second
    forward pass there, and they take part in both.

    Args:
        key: of :func:`find_call` for these.
        x, w, b: input, weights and bias of the convolution.
        scale, shift: weight and bias of the batch norm.
        numbers: the rest.
        running: statistics that take part, those of :func:`find_call`; none where there are none, or they stay.
    """
    if torch.is_grad_enabled() and w.requires_grad:
        found: torch.Tensor = _apply(x, w, b, scale, shift, numbers, key, running)
        return found
    y: torch.Tensor = _run(key, x, w, b, scale, shift, numbers, running)[0]
    return y


def _layer_of(x: torch.Tensor, w: torch.Tensor, b: Any, numbers: FixedNumbers, *, tracked: bool = False) -> ConvNorm:
    activation = as_activation(numbers.name, numbers.parameters)
    spec = find_spec(x.shape[1], tuple(w.shape), *numbers.layer)
    return ConvNorm(spec, b is not None, numbers.epsilon, activation, tracked)


def _run(
    key: Hashable, x: Any, w: Any, b: Any, scale: Any, shift: Any, numbers: FixedNumbers, running: Running | None
) -> Any:
    """y, z and moments."""
    tracked = running is not None
    tensors = [x, w, scale, shift] if b is None else [x, w, b, scale, shift]
    if running is not None:
        tensors += [running.mean, running.variance, _make_shares(running.momentum, x.dtype)]
    prepared = PROGRAMS.recall(key)
    if prepared is None:
        layer, last = _layer_of(x, w, b, numbers, tracked=tracked), is_channels_last(x)
        find = PROGRAMS.reach("conv_norm", layer, tuple(x.shape), x.dtype, channels_last=last)
        names = ["x", "w", *([] if b is None else ["b"]), "scale", "shift", *(OVER if tracked else ())]
        names += ["shares"] if tracked else []
        inputs = {name: (each, last and name == "x") for name, each in zip(names, tensors, strict=True)}
        result, channels = layer.conv.output_shape(tuple(x.shape)), layer.conv.out_channels
        results = {"y": (result, last), "z": (result, last), "moments": ((3, channels), False)}
        prepared = PreparedCall(find, inputs, results, OVER if tracked else ())
        PROGRAMS.remember(key, prepared)
    return prepared.run(tensors)


def _run_back(
    dy: Any, z: Any, x: Any, w: Any, b: Any, scale: Any, shift: Any, moments: Any, numbers: FixedNumbers, *, inner: bool
) -> Any:
    """sums, dw, db where there is a bias and, of an inner layer, dx; none for a call that somebody sees."""
    what = "conv_norm_gradient" if inner else "first_conv_norm_gradient"
    tensors = [dy, z, x, w, scale, shift, moments]
    key = find_direct(what, *tensors, numbers, b is not None)
    if key is None:
        return None
    prepared = PROGRAMS.recall(key)
    if prepared is None:
        layer, last = _layer_of(x, w, b, numbers), is_channels_last(x)
        find = PROGRAMS.reach(what, layer, tuple(x.shape), x.dtype, channels_last=last)
        names = ("dy", "z", "x", "w", "scale", "shift", "moments")
        inputs = {name: (each, last and name in ("dy", "z", "x")) for name, each in zip(names, tensors, strict=True)}
        results = {"sums": ((2, layer.conv.out_channels), False), "dw": (tuple(w.shape), False)}
        results |= {} if b is None else {"db": (tuple(b.shape), False)}
        results |= {"dx": (tuple(x.shape), last)} if inner else {}
        prepared = PreparedCall(find, inputs, results)
        PROGRAMS.remember(key, prepared)
    return prepared.run(tensors)


def _forward(ctx: Any, *arguments: Any) -> Any:
    x, w, b, scale, shift, numbers, key, running = arguments
    y, z, moments = _run(key, x, w, b, scale, shift, numbers, running)
    ctx.save_for_backward(x, w, b, scale, shift, z, moments)
    ctx.numbers = numbers
    return y


def _backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
    x, w, b, scale, shift, z, moments = ctx.saved_tensors
    numbers, inner = ctx.numbers, ctx.needs_input_grad[0]
    found = None
    if not torch.is_grad_enabled():
        found = _run_back(dy, z, x, w, b, scale, shift, moments, numbers, inner=inner)
    if found is None:
        return (*_by_parts(dy, z, x, w, b, scale, shift, moments, numbers, inner=inner), *[None] * 3)
    sums, dw, *rest = found
    dt, ds = sums.unbind(0)
    dx = rest[-1] if inner else None
    return dx, dw, None if b is None else rest[0], ds, dt, *[None] * 3


def _by_parts(
    dy: Any, z: Any, x: Any, w: Any, b: Any, scale: Any, shift: Any, moments: Any, numbers: FixedNumbers, *, inner: bool
) -> tuple[Any, ...]:
    """The gradients by the operators of both layers; where they have gradients themselves, from z as x gives it."""
    if torch.is_grad_enabled():
        z = call("conv", x, w, b, *numbers.layer)
    mean, variance, _ = moments.unbind(0)
    rest = (numbers.epsilon, numbers.name, numbers.parameters)
    dz, sums = find_gradient(dy, z, scale, shift, mean, variance, *rest, given=False)
    dt, ds = sums.unbind(0)
    dx = None
    if inner:
        dx = call("conv_input_gradient", dz, w, tuple(x.shape), *numbers.layer, is_channels_last(x))
    dw, db = call("conv_weight_gradient", x, dz, tuple(w.shape), *numbers.layer, b is not None)
    return dx, dw, None if b is None else db, ds, dt


_function = type(
    "ConvNorm", (torch.autograd.Function,), {"forward": staticmethod(_forward), "backward": staticmethod(_backward)}
)
_apply: Any = super(torch.autograd.Function, _function).apply  # without the part in Python, as for operators
