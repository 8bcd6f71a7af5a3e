"""How tensors lie in memory: channels first or last, for any number of axes, and as NumPy arrays over the same memory.

A result lies as the input does. The rules are of strides alone, so that they hold for tensors without data too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from omniconv.errors import DataError

Array: TypeAlias = npt.NDArray[Any]

PLAIN_TYPES: Final = frozenset({torch.Tensor, torch.nn.Parameter})
"""Classes of tensors that nothing but PyTorch knows of."""
_FORMATS: Final = {4: torch.channels_last, 5: torch.channels_last_3d}
"""What PyTorch calls channels last, by the number of axes of a tensor."""
DTYPES: Final = {
    getattr(torch, name): np.dtype(name)
    for name in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
"""Types of tensors that NumPy has too."""


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of ``x`` ``(N, C, *spatial)`` are neighbours in memory, and rows lie one after another.

    Of a tensor without gaps, a map of one channel, or of one position, can be seen both ways: its strides say which way
    was meant. Part of a larger tensor lies as that does.

    Example:
        >>> x = torch.empty(2, 3, 4, 5)
        >>> is_channels_last(x), is_channels_last(x.to(memory_format=torch.channels_last))
        (False, True)
        >>> is_channels_last(torch.empty(2, 4, 3).transpose(1, 2))
        True
        >>> is_channels_last(x.to(memory_format=torch.channels_last)[:, :2])
        True
    """
    if x.dim() < 3:
        return False
    if type(x) in PLAIN_TYPES:
        return _lies_last(x.shape, x.stride())
    return _find_order(x.shape, x.stride())  # sizes may be symbols, which have no hash


def _find_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    first = 1 if shape[0] == 1 else 0
    found = list(strides)[first:]
    if found == strides_of(shape, channels_last=False)[first:]:
        return False
    return found == strides_of(shape, channels_last=True)[first:] or _is_part(shape, strides)


def _is_part(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether each axis, from the channels over the last one to the first, steps over all before it."""
    reach = 1
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if strides[axis] < reach or shape[axis] == 0 or (axis == 0 and reach == strides[1]):
            return False
        reach = strides[axis] * shape[axis]
    return True


_lies_last = lru_cache(maxsize=4096)(_find_order)


def strides_of(shape: Sequence[int], *, channels_last: bool) -> list[int]:
    """Strides of a tensor without gaps [elements], channels first or last."""
    order = [1, *range(len(shape) - 1, 1, -1), 0] if channels_last else list(range(len(shape) - 1, -1, -1))
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step = step * (shape[axis] if shape[axis] != 0 else 1)
    return strides


def empty(shape: Sequence[int], like: torch.Tensor, *, channels_last: bool) -> torch.Tensor:
    """A tensor of any values without gaps, of the type and on the device of ``like``."""
    return like.new_empty_strided(list(shape), strides_of(shape, channels_last=channels_last))


def lay(x: torch.Tensor, *, channels_last: bool) -> torch.Tensor:
    """The values of ``x`` in an order of memory: ``x`` itself where it lies so, else a copy."""
    strides = find_move(x, channels_last=channels_last)
    return x if strides is None else torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)


def find_move(x: torch.Tensor, *, channels_last: bool) -> list[int] | None:
    """Strides that ``x`` has to be copied to for an order of memory; none where it lies so."""
    if (not channels_last or x.dim() in _FORMATS) and x.is_contiguous(
        memory_format=_FORMATS[x.dim()] if channels_last else torch.contiguous_format
    ):
        return None
    strides = strides_of(x.shape, channels_last=channels_last)
    if all(size == 1 or own == step for size, own, step in zip(x.shape, x.stride(), strides, strict=True)):
        return None
    return strides


def check_strided(name: str, x: torch.Tensor) -> None:
    """Refuse a tensor whose values do not lie at strides: a sparse one, or one in a library's own order.

    Raises:
        DataError: it is one.
    """
    if x.layout is not torch.strided:
        fix = "x.to_padded_tensor(0.0)" if x.is_nested else "x.to_dense()"
        raise DataError(f"{name} of layout {x.layout}", need="torch.strided", fix=fix)


def as_array(x: torch.Tensor, *, channels_last: bool = False) -> Array:
    """A tensor as a NumPy array over its memory, without gaps; with ``channels_last`` its axes are in that order.

    Only a tensor that lies otherwise is copied, or one that stands for the negative of what is in its memory.

    Raises:
        DataError: a type that NumPy does not have, or a tensor that is not strided.
    """
    if x.dtype not in DTYPES:  # complex ones among them, so that no memory waits to be conjugated
        raise DataError(f"a tensor of {x.dtype}", need="a type of NumPy", fix="x.float()")
    check_strided("a tensor", x)
    x = lay(x.detach().resolve_neg(), channels_last=channels_last)
    shape = (x.shape[0], *x.shape[2:], x.shape[1]) if channels_last else tuple(x.shape)
    # Not by `Tensor.numpy`, which forbids that the tensor is ever resized, also where others own it.
    memory: Any = (ctypes.c_byte * x.nbytes).from_address(x.data_ptr())
    memory.tensor = x  # lives as long as the array
    return np.ndarray(shape, DTYPES[x.dtype], memory)
