r"""Convolutions, each with the batch norm of its result and the activation behind it, as one function of PyTorch.

.. math::
    z = A_w x + b, \qquad y = f\!\left(\frac{z - m}{\sqrt{v + \epsilon}}\, s + t\right)

where m and v are the moments of z; y is x of the next layer. By themselves they are two functions for each layer, and
three programs on the way back; a small layer takes less time than the calls of these. So a few layers are one program
there, and one back, whose gradients of z never leave the working memory. It is no operator: where somebody is to see
operators, layers run one by one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
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
from omniconv.torch.prepared import Given, PreparedCall, Returned
from omniconv.torch.programs import PROGRAMS

TRACKED: Final = ("running_mean", "running_variance")
"""Inputs of a program that it writes anew."""


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


class NormedPair(NamedTuple):
    """A convolution and its batch norm.

    Attributes:
        w, b: weights and bias of the convolution.
        scale, shift: weight and bias of the batch norm.
        mean, variance: running statistics that take their part of the moments; none where there are none.
        numbers: the rest.
    """

    w: Any
    b: Any
    scale: Any
    shift: Any
    mean: Any
    variance: Any
    numbers: FixedNumbers

    @property
    def parameters(self) -> list[torch.Tensor]:
        """What has gradients."""
        found = [self.w, self.scale, self.shift]
        return found if self.b is None else [*found, self.b]


class _Kept(NamedTuple):
    """What the way back needs of a pair."""

    w: Any
    b: Any
    scale: Any
    shift: Any
    y: Any
    z: Any
    moments: Any


@lru_cache(maxsize=256)
def _make_shares(momentum: float, dtype: torch.dtype) -> torch.Tensor:
    """What running statistics keep of themselves, and the part of the moments that they take."""
    return torch.tensor([1 - momentum, momentum], dtype=dtype, device="cpu")


def find_call(x: Any, pairs: Sequence[NormedPair]) -> Hashable | None:
    """The key of a call that runs as one; none for one whose layers run one by one.

    That is one that somebody sees, tensors that no code is compiled for or that do not fit one another (which the
    layers themselves refuse), gradients of some of the parameters alone, and such of running statistics.
    """
    if not isinstance(x, torch.Tensor):
        return None
    given: list[Any] = []
    for pair in pairs:
        if pair.scale is None or pair.shift is None or (pair.mean is None) != (pair.variance is None):
            return None
        if pair.mean is not None and (pair.mean.requires_grad or pair.variance.requires_grad):
            return None
        given += pair
    if torch.is_grad_enabled():
        wanted = [each.requires_grad for pair in pairs for each in pair.parameters]
        if not all(wanted) and (any(wanted) or x.requires_grad):
            return None
    key = find_direct("conv_norms", x, *given)
    if key is None or PROGRAMS.recall(key) is not None:
        return key
    return key if _fit(x, pairs) else None


def _fit(x: torch.Tensor, pairs: Sequence[NormedPair]) -> bool:
    """Whether all belong together, and there is more than one value of each channel."""
    rows = [[each for each in pair[1:6] if each is not None] for pair in pairs]
    tensors = [x, *(pair.w for pair in pairs), *(each for row in rows for each in row)]
    if not compiles(*tensors) or len({each.dtype for each in tensors}) > 1:
        return False
    shape: tuple[int, ...] = tuple(x.shape)
    for pair, row in zip(pairs, rows, strict=True):
        w = pair.w
        if len(shape) != w.dim() or any(each.shape != w.shape[:1] for each in row):
            return False
        try:
            conv = find_spec(shape[1], tuple(w.shape), *pair.numbers.layer)
            shape = conv.output_shape(conv.check_input(shape))
        except OmniconvError:
            return False
        if conv.weight_shape != tuple(w.shape) or math.prod(shape) // shape[1] < 2:
            return False
    return True


def conv_norms(key: Hashable, x: Any, pairs: Sequence[NormedPair], momenta: Sequence[float]) -> torch.Tensor:
    """y of the last pair. Statistics have taken their part before anything is saved for the way back: a checkpoint ends
    its second forward pass there, and they take part in both.

    Args:
        key: of :func:`find_call` for these.
        x: input of the first convolution.
        pairs: convolutions and their batch norms.
        momenta: the part of the moments that the statistics of each pair take.
    """
    if torch.is_grad_enabled() and pairs[0].w.requires_grad:
        parameters = [each for pair in pairs for each in pair[:4]]
        found: torch.Tensor = _apply(x, *parameters, (key, pairs, momenta))
        return found
    y: torch.Tensor = _run(key, x, pairs, momenta)[3 * (len(pairs) - 1)]
    return y


def _layers_of(x: torch.Tensor, pairs: Iterable[tuple[Any, Any, FixedNumbers, bool]]) -> tuple[ConvNorm, ...]:
    """The layers of weights, biases, numbers and whether statistics are tracked."""
    channels, found = x.shape[1], []
    for w, b, numbers, tracked in pairs:
        activation = as_activation(numbers.name, numbers.parameters)
        conv = find_spec(channels, tuple(w.shape), *numbers.layer)
        found.append(ConvNorm(conv, b is not None, numbers.epsilon, activation, tracked))
        channels = w.shape[0]
    return tuple(found)


def _run(key: Hashable, x: Any, pairs: Sequence[NormedPair], momenta: Sequence[float]) -> Any:
    """y, z and moments of each pair."""
    tensors = [x]
    for pair, momentum in zip(pairs, momenta, strict=True):
        tensors += [pair.w, pair.scale, pair.shift] if pair.b is None else pair[:4]
        if pair.mean is not None:
            tensors += [pair.mean, pair.variance, _make_shares(momentum, x.dtype)]
    prepared = PROGRAMS.recall(key)
    if prepared is None:
        prepared = _prepare(x, pairs, tensors)
        PROGRAMS.remember(key, prepared)
    return prepared.run(tensors)


def _prepare(x: torch.Tensor, pairs: Sequence[NormedPair], tensors: Sequence[torch.Tensor]) -> PreparedCall:
    layers = _layers_of(x, [(pair.w, pair.b, pair.numbers, pair.mean is not None) for pair in pairs])
    last = is_channels_last(x)
    find = PROGRAMS.reach("conv_norms", layers, tuple(x.shape), x.dtype, channels_last=last)
    names, over = ["x"], []
    results: dict[str, Returned] = {}
    shape: tuple[int, ...] = tuple(x.shape)
    for index, layer in enumerate(layers):
        own = ["w", *(["b"] if layer.bias else []), "scale", "shift"]
        own += [*TRACKED, "shares"] if layer.tracked else []
        names += [f"{name}{index}" for name in own]
        over += [f"{name}{index}" for name in TRACKED if layer.tracked]
        shape = layer.conv.output_shape(shape)
        results |= {f"y{index}": (shape, last), f"z{index}": (shape, last)}
        results |= {f"moments{index}": ((3, shape[1]), False)}
    inputs = {name: (each, last and name == "x") for name, each in zip(names, tensors, strict=True)}
    return PreparedCall(find, inputs, results, over)


def _run_back(dy: Any, x: Any, kept: Sequence[_Kept], numbers: Sequence[FixedNumbers], *, inner: bool) -> Any:
    """dscale, dshift, dw and db where there is a bias of each pair, the last one first, and of inner layers dx; none
    for a call that somebody sees.
    """
    what = "conv_norms_gradient" if inner else "first_conv_norms_gradient"
    tensors = [dy, x]
    for index in range(len(kept) - 1, -1, -1):
        pair = kept[index]
        tensors += [pair.z, kept[index - 1].y] if index else [pair.z]
        tensors += [pair.w, pair.scale, pair.shift, pair.moments]
    key = find_direct(what, *tensors, *numbers, *[pair.b is not None for pair in kept])
    if key is None:
        return None
    prepared = PROGRAMS.recall(key)
    if prepared is None:
        prepared = _prepare_back(what, x, kept, numbers, tensors, inner=inner)
        PROGRAMS.remember(key, prepared)
    return prepared.run(tensors)


def _prepare_back(
    what: str,
    x: torch.Tensor,
    kept: Sequence[_Kept],
    numbers: Sequence[FixedNumbers],
    tensors: Sequence[torch.Tensor],
    *,
    inner: bool,
) -> PreparedCall:
    layers = _layers_of(x, [(pair.w, pair.b, each, False) for pair, each in zip(kept, numbers, strict=True)])
    last = is_channels_last(x)
    find = PROGRAMS.reach(what, layers, tuple(x.shape), x.dtype, channels_last=last)
    names = ["dy", "x"]
    results: dict[str, Returned] = {}
    for index in range(len(kept) - 1, -1, -1):
        pair = kept[index]
        names += [f"z{index}", f"y{index - 1}"] if index else [f"z{index}"]
        names += [f"{name}{index}" for name in ("w", "scale", "shift", "moments")]
        results |= {f"{name}{index}": ((pair.w.shape[0],), False) for name in ("dscale", "dshift")}
        results |= {f"dw{index}": (tuple(pair.w.shape), False)}
        results |= {} if pair.b is None else {f"db{index}": (tuple(pair.b.shape), False)}
    results |= {"dx0": (tuple(x.shape), last)} if inner else {}
    values = ("dy", "x", "y", "z")
    inputs: dict[str, Given] = {
        name: (each, last and name.rstrip("0123456789") in values) for name, each in zip(names, tensors, strict=True)
    }
    return PreparedCall(find, inputs, results)


def _forward(ctx: Any, *arguments: Any) -> Any:
    x, *parameters, (key, pairs, momenta) = arguments
    found = _run(key, x, pairs, momenta)
    *inside, y, z, moments = found
    ctx.save_for_backward(x, *parameters, *inside, z, moments)
    ctx.numbers = [pair.numbers for pair in pairs]
    return y


def _backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
    numbers, inner = ctx.numbers, ctx.needs_input_grad[0]
    many = len(numbers)
    x, *saved = ctx.saved_tensors
    parameters, values = saved[: 4 * many], [*saved[4 * many : -2], None, *saved[-2:]]
    kept = [_Kept(*parameters[4 * index : 4 * index + 4], *values[3 * index : 3 * index + 3]) for index in range(many)]
    found = None
    if not torch.is_grad_enabled():
        found = _run_back(dy, x, kept, numbers, inner=inner)
    dx, gradients = _by_parts(dy, x, kept, numbers, inner=inner) if found is None else _take_apart(found, kept, inner)
    return dx, *gradients, None


def _take_apart(found: Sequence[torch.Tensor], kept: Sequence[_Kept], inner: bool) -> tuple[Any, list[Any]]:
    """dx, and the gradients of the parameters in their order."""
    gradients: list[Any] = []
    place = 0
    for pair in reversed(kept):
        ds, dt, dw = found[place : place + 3]
        biased = pair.b is not None
        gradients[:0] = [dw, found[place + 3] if biased else None, ds, dt]
        place += 3 + biased
    return found[place] if inner else None, gradients


def _by_parts(
    dy: Any, x: Any, kept: Sequence[_Kept], numbers: Sequence[FixedNumbers], *, inner: bool
) -> tuple[Any, list[Any]]:
    """The gradients by the operators of the layers; where these have gradients, from values as x gives them."""
    again = torch.is_grad_enabled()
    inputs, results = [x], []
    for pair, each in zip(kept, numbers, strict=True):
        z = call("conv", inputs[-1], pair.w, pair.b, *each.layer) if again else pair.z
        results.append(z)
        if len(results) < len(kept):
            rest = (each.epsilon, each.name, each.parameters)
            inputs.append(call("normalise", z, pair.scale, pair.shift, None, None, *rest)[0] if again else pair.y)
    gradients: list[Any] = []
    for index in range(len(kept) - 1, -1, -1):
        pair, each, before = kept[index], numbers[index], inputs[index]
        mean, variance, _ = pair.moments.unbind(0)
        rest = (each.epsilon, each.name, each.parameters)
        dz, sums = find_gradient(dy, results[index], pair.scale, pair.shift, mean, variance, *rest, given=False)
        dt, ds = sums.unbind(0)
        dw, db = call("conv_weight_gradient", before, dz, tuple(pair.w.shape), *each.layer, pair.b is not None)
        gradients[:0] = [dw, None if pair.b is None else db, ds, dt]
        if index or inner:
            dy = call("conv_input_gradient", dz, pair.w, tuple(before.shape), *each.layer, is_channels_last(before))
    return dy if inner else None, gradients


_function = type(
    "ConvNorms", (torch.autograd.Function,), {"forward": staticmethod(_forward), "backward": staticmethod(_backward)}
)
_apply: Any = super(torch.autograd.Function, _function).apply  # without the part in Python, as for operators
