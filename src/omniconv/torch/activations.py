"""PyTorch's activations: which module or function is which of ours, and what computes it and its derivative there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.spec import Activation
from omniconv.spec.activation import FORMULAS

_NAMED: Final = {name: Activation(name) for name, (_, parameters) in FORMULAS.items() if not parameters}
"""Those without numbers, made once: a layer asks for its own at every call."""
MODULES: Final[dict[type[nn.Module], Callable[[Any], Activation]]] = {
    nn.ReLU: lambda _: _NAMED["relu"],
    nn.ReLU6: lambda _: _NAMED["relu6"],
    nn.Hardtanh: lambda m: Activation.of("clip", lo=m.min_val, hi=m.max_val),
    nn.LeakyReLU: lambda m: Activation.of("leaky_relu", alpha=m.negative_slope),
    nn.ELU: lambda m: Activation.of("elu", alpha=m.alpha),
    nn.Sigmoid: lambda _: _NAMED["sigmoid"],
    nn.SiLU: lambda _: _NAMED["silu"],
    nn.Hardsigmoid: lambda _: Activation.of("hard_sigmoid"),
    nn.Hardswish: lambda _: _NAMED["hard_swish"],
    nn.Tanh: lambda _: _NAMED["tanh"],
    nn.GELU: lambda m: _NAMED["gelu" if m.approximate == "none" else "gelu_tanh"],
}
"""A module -> its activation."""


def _hard_sigmoid_back(g: torch.Tensor, z: torch.Tensor, _alpha: float, _beta: float) -> torch.Tensor:
    return torch.where((z > -3) & (z < 3), g / 6, torch.zeros_like(g))


def _hard_swish_back(g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    inside = torch.where(z >= 3, g, g * (z / 3 + 0.5))
    return torch.where(z <= -3, torch.zeros_like(g), inside)


def _silu_back(g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(z)
    return g * (s * (1 + z * (1 - s)))


def _gelu_back(g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    bell = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return g * ((1 + torch.erf(z * math.sqrt(0.5))) / 2 + z * bell)


def _gelu_tanh_back(g: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    factor = math.sqrt(8 / math.pi)
    s = torch.sigmoid(factor * z * (1 + 0.044715 * z * z))
    return g * (s + z * s * (1 - s) * factor * (1 + 3 * 0.044715 * z * z))


_aten: Final = torch.ops.aten
PLAIN: Final[dict[str, tuple[Callable[..., Any], Callable[..., Any]]]] = {
    "relu": (torch.relu, lambda g, z: _aten.threshold_backward(g, z, 0)),
    "relu6": (F.relu6, lambda g, z: _aten.hardtanh_backward(g, z, 0.0, 6.0)),
    "clip": (F.hardtanh, _aten.hardtanh_backward),
    "leaky_relu": (F.leaky_relu, lambda g, z, alpha: _aten.leaky_relu_backward(g, z, alpha, False)),
    "elu": (F.elu, lambda g, z, alpha: _aten.elu_backward(g, alpha, 1.0, 1.0, False, z)),
    "sigmoid": (torch.sigmoid, lambda g, z: _aten.sigmoid_backward(g, torch.sigmoid(z))),
    "silu": (F.silu, _silu_back),
    "hard_sigmoid": (lambda z, _alpha, _beta: F.hardsigmoid(z), _hard_sigmoid_back),
    "hard_swish": (F.hardswish, _hard_swish_back),
    "tanh": (torch.tanh, lambda g, z: _aten.tanh_backward(g, torch.tanh(z))),
    "gelu": (F.gelu, _gelu_back),
    "gelu_tanh": (lambda z: F.gelu(z, approximate="tanh"), _gelu_tanh_back),
}  # fmt: skip
"""The function of each activation, and its derivative times a gradient, which can be differentiated on; the numbers of
the activation follow."""


@lru_cache(maxsize=256)
def as_activation(name: str, parameters: Sequence[float]) -> Activation | None:
    """The activation that an operator is told of by its name, empty for none, and its numbers.

    Raises:
        SpecError: an unknown name, or other numbers than its own.
    """
    if not name:
        return None
    given = dict(zip(FORMULAS.get(name, ("", {}))[1], parameters, strict=True))
    return Activation.of(name, **given)


def apply(activation: Activation | None, z: torch.Tensor) -> torch.Tensor:
    """The activation by PyTorch."""
    if activation is None:
        return z
    found: torch.Tensor = PLAIN[activation.name][0](z, *(value for _, value in activation.parameters))
    return found


def pull_back(activation: Activation | None, z: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Its derivative times ``g`` by PyTorch."""
    if activation is None:
        return g
    found: torch.Tensor = PLAIN[activation.name][1](g, z, *(value for _, value in activation.parameters))
    return found


def _simple(name: str) -> Callable[..., Activation]:
    return lambda _input, inplace=False: Activation(name)  # noqa: ARG005 - PyTorch's names


_FUNCTIONS: Final[dict[Any, Callable[..., Activation]]] = {
    torch.relu: _simple("relu"), F.relu: _simple("relu"), F.relu6: _simple("relu6"), F.silu: _simple("silu"),
    F.hardswish: _simple("hard_swish"), torch.sigmoid: _simple("sigmoid"), torch.tanh: _simple("tanh"),
    F.hardsigmoid: lambda _input, inplace=False: Activation.of("hard_sigmoid"),  # noqa: ARG005
    F.gelu: lambda _input, approximate="none": Activation("gelu" if approximate == "none" else "gelu_tanh"),
    F.leaky_relu: lambda _input, negative_slope=0.01, inplace=False: Activation.of(  # noqa: ARG005
        "leaky_relu", alpha=negative_slope),
    F.hardtanh: lambda _input, min_val=-1.0, max_val=1.0, inplace=False: Activation.clamp(  # noqa: ARG005
        float(min_val), float(max_val)),
}  # fmt: skip


def activation_of_node(node: fx.Node) -> Activation | None:
    """The activation that a node of a graph is, of its first argument; none where it is something else."""
    find = _FUNCTIONS.get(node.target) if node.op == "call_function" else None
    if (
        find is None
        or not node.args
        or any(isinstance(each, fx.Node) for each in (*node.args[1:], *node.kwargs.values()))
    ):
        return None
    return find(*node.args, **node.kwargs)
