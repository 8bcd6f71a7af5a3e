"""The calls that :mod:`omniconv.torch.conv_norm` consists of: which convolutions and batch norms run as one, and how
their tensors become inputs and outputs of a program.

What is one number for each channel lies in one tensor for all layers of a call: moments, and on the way back the
gradients of scales, shifts and biases. PyTorch takes longer to make a tensor than to fill a small one.
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
from omniconv.torch.dispatch import find_direct
from omniconv.torch.layouts import is_channels_last
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


class KeptPair(NamedTuple):
    """What the way back needs of a pair."""

    w: Any
    b: Any
    scale: Any
    shift: Any
    y: Any
    z: Any


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


def _layers_of(x: torch.Tensor, pairs: Iterable[tuple[Any, Any, FixedNumbers, bool]]) -> tuple[ConvNorm, ...]:
    """The layers of weights, biases, numbers and whether statistics are tracked."""
    channels, found = x.shape[1], []
    for w, b, numbers, tracked in pairs:
        activation = as_activation(numbers.name, numbers.parameters)
        conv = find_spec(channels, tuple(w.shape), *numbers.layer)
        found.append(ConvNorm(conv, b is not None, numbers.epsilon, activation, tracked))
        channels = w.shape[0]
    return tuple(found)


def run(key: Hashable, x: Any, pairs: Sequence[NormedPair], momenta: Sequence[float]) -> Any:
    """y and z of each pair, and the moments of all."""
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
    moments = {}
    shape: tuple[int, ...] = tuple(x.shape)
    for index, layer in enumerate(layers):
        own = ["w", *(["b"] if layer.bias else []), "scale", "shift"]
        own += [*TRACKED, "shares"] if layer.tracked else []
        names += [f"{name}{index}" for name in own]
        over += [f"{name}{index}" for name in TRACKED if layer.tracked]
        shape = layer.conv.output_shape(shape)
        results |= {f"y{index}": (shape, last), f"z{index}": (shape, last)}
        moments[f"moments{index}"] = (3, shape[1])
    inputs = {name: (each, last and name == "x") for name, each in zip(names, tensors, strict=True)}
    return PreparedCall(find, inputs, results, over, joining=moments)


def run_back(
    dy: Any, x: Any, kept: Sequence[KeptPair], moments: Any, numbers: Sequence[FixedNumbers], *, inner: bool
) -> Any:
    """dw of each pair, the last one first, of inner layers dx, and what :func:`split_rows` takes apart; none for a call
    that somebody sees.
    """
    what = "conv_norms_gradient" if inner else "first_conv_norms_gradient"
    tensors = [dy, x]
    for index in range(len(kept) - 1, -1, -1):
        pair = kept[index]
        tensors += [pair.z, kept[index - 1].y] if index else [pair.z]
        tensors += [pair.w, pair.scale, pair.shift]
    tensors.append(moments)
    key = find_direct(what, *tensors, *numbers, *[pair.b is not None for pair in kept])
    if key is None:
        return None
    prepared = PROGRAMS.recall(key)
    if prepared is None:
        prepared = _prepare_back(what, x, kept, numbers, tensors, inner=inner)
        PROGRAMS.remember(key, prepared)
    return prepared.run(tensors)


def split_moments(moments: torch.Tensor, kept: Sequence[KeptPair]) -> list[torch.Tensor]:
    """Those of each pair, ``(3, C)``: mean, variance, and n / (n - 1) times the variance."""
    parts = moments.split([3 * pair.w.shape[0] for pair in kept])
    return [part.view(3, -1) for part in parts]


def _prepare_back(
    what: str,
    x: torch.Tensor,
    kept: Sequence[KeptPair],
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
        names += [f"{name}{index}" for name in ("w", "scale", "shift")]
        results |= {f"dw{index}": (tuple(pair.w.shape), False)}
    results |= {"dx0": (tuple(x.shape), last)} if inner else {}
    values = ("dy", "x", "y", "z")
    inputs: dict[str, Given] = {
        name: (each, last and name.rstrip("0123456789") in values)
        for name, each in zip(names, tensors[:-1], strict=True)
    }
    moments = {f"moments{index}": (3, layer.conv.out_channels) for index, layer in enumerate(layers)}
    rows = _list_rows([pair.b is not None for pair in kept])
    joining = {f"{name}{index}": (layers[index].conv.out_channels,) for name, index in rows}
    return PreparedCall(find, inputs, results, joined=(tensors[-1], moments), joining=joining)


def _list_rows(biased: Sequence[bool]) -> list[tuple[str, int]]:
    """The gradients that are one number for each channel, and their layers, in the order of memory."""
    places = range(len(biased))
    return [
        *[("dscale", index) for index in places],
        *[("dshift", index) for index in places],
        *[("db", index) for index in places if biased[index]],
    ]


def split_rows(block: torch.Tensor, kept: Sequence[KeptPair]) -> dict[tuple[str, int], torch.Tensor]:
    """The gradients that :func:`run_back` gives in one tensor, each by itself."""
    rows = _list_rows([pair.b is not None for pair in kept])
    # Each has a count of changes of its own, unlike views.
    parts = torch.unsafe_split_with_sizes(block, [kept[index].w.shape[0] for _, index in rows])
    return dict(zip(rows, parts, strict=True))
