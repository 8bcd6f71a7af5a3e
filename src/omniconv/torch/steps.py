"""The steps of a chain that have no weights, as modules: PyTorch's own, and small ones where it has none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

import torch
from torch import nn

from omniconv.errors import UnsupportedError
from omniconv.spec import Activation, ChainStep, PixelShuffle, Resize, Shuffle

LINEAR: Final = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""PyTorch's names of linear interpolation, by the number of axes."""

_TO_MODULE: Final[dict[str, Callable[[Activation], nn.Module]]] = {
    "relu": lambda _: nn.ReLU(),
    "relu6": lambda _: nn.ReLU6(),
    "clip": lambda a: nn.Hardtanh(a["lo"], a["hi"]),
    "leaky_relu": lambda a: nn.LeakyReLU(a["alpha"]),
    "elu": lambda a: nn.ELU(a["alpha"]),
    "sigmoid": lambda _: nn.Sigmoid(),
    "silu": lambda _: nn.SiLU(),
    "hard_swish": lambda _: nn.Hardswish(),
    "tanh": lambda _: nn.Tanh(),
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU(approximate="tanh"),
}


def module_of_step(step: ChainStep, dims: int, *, at: str = "") -> nn.Module:
    """PyTorch's module for a step without weights.

    Raises:
        UnsupportedError: it has none.
    """
    match step:
        case Activation() if step.name in _TO_MODULE:
            return _TO_MODULE[step.name](step)
        case Activation() if step == Activation.of("hard_sigmoid"):
            return nn.Hardsigmoid()
        case Shuffle():
            return nn.ChannelShuffle(step.groups)
        case PixelShuffle() if dims == 2:
            return nn.PixelShuffle(step.factor)
        case Resize(mode="nearest"):
            return nn.Upsample(scale_factor=step.factor)
        case Resize():
            return nn.Upsample(scale_factor=step.factor, mode=LINEAR[dims], align_corners=False)
    raise UnsupportedError(
        f"PyTorch has no module for {step}",
        need=f"other steps, activations among {', '.join(_TO_MODULE)}",
        at=at,
    )


class Elementwise(nn.Module):  # type: ignore[misc] # untyped for a checker without PyTorch
    """An activation that PyTorch has no module for.

    Example:
        >>> Elementwise(Activation("neg"))(torch.tensor([1.0, -2.0])).tolist()
        [-1.0, 2.0]

    Args:
        activation: one of exp, sqrt, abs, neg and hard_sigmoid.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self._numbers = dict(activation.parameters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The function of every element."""
        match self.activation.name:
            case "exp":
                return torch.exp(x)
            case "sqrt":
                return torch.sqrt(x)
            case "abs":
                return torch.abs(x)
            case "neg":
                return -x
        return torch.clamp(self._numbers["alpha"] * x + self._numbers["beta"], 0.0, 1.0)

    def extra_repr(self) -> str:
        """Name and parameters."""
        return ", ".join([self.activation.name, *(f"{key}={value}" for key, value in self._numbers.items())])


class PixelShuffleNd(nn.Module):  # type: ignore[misc]
    """Depth to space over any number of axes; see :class:`omniconv.spec.PixelShuffle`.

    Example:
        >>> PixelShuffleNd(2)(torch.arange(4.0).reshape(1, 4, 1))[0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]

    Args:
        factor: enlargement of every axis.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Channels to positions."""
        axes = x.dim() - 2
        if axes == 2 and x.shape[0]:  # of no images PyTorch refuses the gradient
            return nn.functional.pixel_shuffle(x, self.factor)
        channels = x.shape[1] // self.factor**axes
        split = x.reshape(x.shape[0], channels, *[self.factor] * axes, *x.shape[2:])
        order = list(chain.from_iterable((2 + axes + axis, 2 + axis) for axis in range(axes)))
        sizes = [size * self.factor for size in x.shape[2:]]
        return split.permute(0, 1, *order).reshape(x.shape[0], channels, *sizes)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


OWN: Final = ("exp", "sqrt", "abs", "neg", "hard_sigmoid")
"""Activations that need a module of this package."""


def module_of(step: ChainStep, dims: int) -> nn.Module:
    """A module for a step without weights."""
    if isinstance(step, Activation) and step.name in OWN and step != Activation.of("hard_sigmoid"):
        return Elementwise(step)
    if isinstance(step, PixelShuffle):
        return PixelShuffleNd(step.factor)
    return module_of_step(step, dims)
