r"""What `torch.vmap` makes of the operators: a further axis of B is folded into an axis that they have.

Where the weights are shared, into the batch. Where each of B has its own, into the groups: the channels of x, the first
axis of the weights and the channels of y become B times as many,

.. math:: y_{n, (i, c)} = A_{w_i} x_{n, (i, \cdot)} .

An axis of none is folded as one of zeros, which is left out of the result: groups of none have no sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import torch

Caller: TypeAlias = Callable[..., Any]
"""A function that calls an operator by its name."""

_GROUPS: Final = 5
"""Where among the numbers of a layer the groups stand."""


def _conv(
    call: Caller, many: int, dims: tuple[Any, ...], x: Any, w: Any, b: Any, *layer: Any
) -> tuple[torch.Tensor, int]:
    if dims[1] is None and (b is None or dims[2] is None):
        return _unfold(call("conv", _into_batch(x, dims[0]), w, b, *layer), many), 0
    x, w = _into_channels(x, dims[0], many), _into_first(w, dims[1], many)
    b = None if b is None else _into_first(b, dims[2], many)
    return _unfold_channels(call("conv", x, w, b, *_widen(layer, many)), many), 1


def _input_gradient(
    call: Caller, many: int, dims: tuple[Any, ...], dy: Any, w: Any, size: Any, *rest: Any
) -> tuple[torch.Tensor, int]:
    if dims[1] is None:
        size = (many * size[0], *size[1:])
        return _unfold(call("conv_input_gradient", _into_batch(dy, dims[0]), w, size, *rest), many), 0
    size = (size[0], many * size[1], *size[2:])
    dy, w = _into_channels(dy, dims[0], many), _into_first(w, dims[1], many)
    return _unfold_channels(call("conv_input_gradient", dy, w, size, *_widen(rest, many)), many), 1


def _weight_gradient(
    call: Caller, many: int, dims: tuple[Any, ...], x: Any, dy: Any, size: Any, *rest: Any
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[int, int]]:
    x, dy = _into_channels(x, dims[0], many), _into_channels(dy, dims[1], many)
    size = (many * size[0], *size[1:])
    dw, db = call("conv_weight_gradient", x, dy, size, *_widen(rest, many))
    return (_unfold(dw, many), _unfold(db, many) if rest[-1] else db.new_empty(many, 0)), (0, 0)


def _fold(rule: Callable[..., Any], call: Caller, info: Any, dims: tuple[Any, ...], *arguments: Any) -> Any:
    """What a rule gives, also for an axis of none."""
    if info.batch_size:
        return rule(call, info.batch_size, dims, *arguments)
    given = [_add_one(x, dim) if dim is not None else x for x, dim in zip(arguments, dims, strict=True)]
    found, places = rule(call, 1, dims, *given)
    if isinstance(found, tuple):
        return tuple(y.narrow(place, 0, 0) for y, place in zip(found, places, strict=True)), places
    return found.narrow(places, 0, 0), places


def _add_one(x: Any, axis: Any) -> Any:
    """A tensor with one more entry on an axis: zeros. What is no tensor has no such axis."""
    if not isinstance(x, torch.Tensor):
        return x
    return torch.cat([x, x.new_zeros([1 if i == axis % x.dim() else n for i, n in enumerate(x.shape)])], axis)


RULES: Final[dict[str, Callable[..., Any]]] = {
    "conv": partial(_fold, _conv),
    "conv_input_gradient": partial(_fold, _input_gradient),
    "conv_weight_gradient": partial(_fold, _weight_gradient),
}
"""A rule for each operator: what calls it, then what `torch.library.register_vmap` passes."""


def _into_batch(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.movedim(axis, 0).flatten(0, 1)


def _into_channels(x: torch.Tensor, axis: int | None, many: int) -> torch.Tensor:
    wide = x.unsqueeze(1).expand(x.shape[0], many, *x.shape[1:]) if axis is None else x.movedim(axis, 1)
    return wide.flatten(1, 2)


def _into_first(w: torch.Tensor, axis: int | None, many: int) -> torch.Tensor:
    wide = w.expand(many, *w.shape) if axis is None else w.movedim(axis, 0)
    return wide.flatten(0, 1)


def _unfold(y: torch.Tensor, many: int) -> torch.Tensor:
    return y.unflatten(0, (many, y.shape[0] // many))


def _unfold_channels(y: torch.Tensor, many: int) -> torch.Tensor:
    return y.unflatten(1, (many, y.shape[1] // many))


def _widen(layer: tuple[Any, ...], many: int) -> tuple[Any, ...]:
    return (*layer[:_GROUPS], many * layer[_GROUPS], *layer[_GROUPS + 1 :])
