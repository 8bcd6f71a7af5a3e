"""What the operators check before anything is computed: ranks, channels, types and devices of the tensors."""

from __future__ import annotations

import torch

from omniconv.errors import DataError, ShapeError
from omniconv.torch.layouts import check_strided
from omniconv.torch.plain import Geometry


def check_tensors(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, layer: Geometry) -> None:
    """Refuse tensors that do not belong to one layer. Sizes that the kernel does not fit are refused later.

    Raises:
        ShapeError: a wrong rank, or channels that do not fit the weights.
        DataError: tensors of different types or on different devices, or such that are not strided.
    """
    for name, tensor in (("an input", x), ("weights", w), ("a bias", b)):
        if tensor is not None:
            check_strided(name, tensor)
    axes = len(layer.stride)
    channels = w.shape[0] if layer.transposed else w.shape[1] * layer.groups
    at = f"weights of shape {tuple(w.shape)}, groups={layer.groups}" + (", transposed" if layer.transposed else "")
    if w.dim() != axes + 2:
        raise ShapeError(f"weights of shape {tuple(w.shape)}", need=f"rank {axes + 2} for {axes} axes")
    if x.dim() != axes + 2:
        raise ShapeError(
            f"input of shape {tuple(x.shape)} has rank {x.dim()}",
            need=f"(N, C, *spatial) or (C, *spatial) with {axes} spatial axes",
            fix=f"{(1, channels, *(32,) * axes)}",
            at=at,
        )
    if x.shape[1] != channels:
        raise ShapeError(
            f"input of shape {tuple(x.shape)} has {x.shape[1]} channels",
            need=f"{channels}, those of the weights, on axis 1",
            at=at,
        )
    if b is not None and tuple(b.shape) != (found := w.shape[1] * layer.groups if layer.transposed else w.shape[0],):
        raise ShapeError(f"a bias of shape {tuple(b.shape)}", need=f"({found},), one for each output channel", at=at)
    for name, other in (("weights", w), ("bias", b)):
        if other is None:
            continue
        if other.dtype != x.dtype:
            raise DataError(
                f"{name} of {other.dtype} and an input of {x.dtype}",
                need="one type",
                fix=f"x.to({other.dtype}), or torch.autocast",
                at=at,
            )
        if other.device != x.device:
            raise DataError(
                f"{name} on {other.device} and an input on {x.device}",
                need="one device",
                fix="module.to(x.device)",
                at=at,
            )
