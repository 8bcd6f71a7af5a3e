"""Arguments that several constructors share: sequences, activations, one-axis parts of a kernel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from omniconv.errors import SpecError
from omniconv.integers import read_sequence
from omniconv.spec import Activation, Chain, Conv
from omniconv.spec.arguments import PaddingLike


def each(name: str, value: object) -> tuple[Any, ...]:
    """Check that an argument is a sequence (text is none) and return its items."""
    items = read_sequence(value)
    if items is None:
        raise SpecError(f"{name}={value!r} is not a sequence", need="a tuple or a list")
    return items


def steps_of(activation: Activation | str | None) -> tuple[Activation, ...]:
    """The activation as steps of a chain: none, or one; a name takes its default parameters."""
    if activation is None:
        return ()
    return (Activation.of(activation) if isinstance(activation, str) else activation,)


def restrict(whole: Conv, axes: Collection[int], in_channels: int, out_channels: int, groups: int = 1) -> Conv:
    """The part of ``whole`` that acts on ``axes``: kernel 1, stride 1 and no padding on all others."""
    padding: PaddingLike = whole.padding
    if not isinstance(whole.padding, str):
        padding = [pair if a in axes else (0, 0) for a, pair in enumerate(whole.padding)]
    return Conv.of(
        in_channels,
        out_channels,
        [k if a in axes else 1 for a, k in enumerate(whole.kernel_size)],
        dims=whole.dims,
        stride=[s if a in axes else 1 for a, s in enumerate(whole.stride)],
        dilation=[d if a in axes else 1 for a, d in enumerate(whole.dilation)],
        padding=padding,
        groups=groups,
        padding_mode=whole.padding_mode,
    )


def name_axes(chain: Chain) -> tuple[str, ...]:
    """Names of convolutions that act on one axis each, first axis first."""
    return ("depth", "height", "width")[-chain.dims :]
