"""Arguments that several constructors share: number of axes, activations, one-axis parts of a kernel."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from omniconv.errors import SpecError
from omniconv.spec import Activation, Conv
from omniconv.spec.conv import IntOrTuple, PaddingLike, per_axis


def resolve_dims(dims: int | None, *values: IntOrTuple | PaddingLike, default: int = 2) -> int:
    """Number of axes: ``dims`` where given, else the one length of the sequences among ``values``, else ``default``.

    Raises:
        SpecError: not 1, 2 or 3.
    """
    if dims is None:
        lengths = {len(value) for value in values if isinstance(value, Sequence) and not isinstance(value, str)}
        dims = lengths.pop() if len(lengths) == 1 else default
    if type(dims) is not int or dims not in {1, 2, 3}:
        raise SpecError(f"dims={dims!r} is out of range", need="1, 2 or 3 spatial axes")
    return dims


def count(name: str, value: int) -> int:
    """Check one positive integer argument and return it."""
    return per_axis(name, value, 1, 1)[0]


def each(name: str, value: object) -> tuple[Any, ...]:
    """Check that an argument is a sequence (text is none) and return its items."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SpecError(f"{name}={value!r} is not a sequence", need="a tuple or a list")
    return tuple(value)


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
