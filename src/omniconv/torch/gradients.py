r"""The gradients of the operators, which are the operators themselves.

.. math::
    \nabla_x \langle A_w x, u \rangle = A_w^* u, \qquad
    \nabla_w \langle A_w x, u \rangle = \partial_w \langle A_w x, u \rangle

All three are linear in each of their two tensors, and complex tensors are conjugated where a gradient reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from omniconv.torch.dispatch import call
from omniconv.torch.layouts import is_channels_last

LAYER_ARGUMENTS: Final = 8
"""How many numbers of a layer the operators take, after the two tensors and a bias or a size."""


def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - by name
    """Keep both tensors that an operator is linear in, where a gradient reads them."""
    first, second = inputs[:2]
    needs = ctx.needs_input_grad
    ctx.save_for_backward(first if needs[1] else None, second if needs[0] else None)
    ctx.sizes = tuple(first.shape), tuple(second.shape)
    ctx.channels_last = is_channels_last(first)
    ctx.layer = tuple([tuple(item) if isinstance(item, list) else item for item in inputs[3 : 3 + LAYER_ARGUMENTS]])
    ctx.rest = tuple(inputs[3 + LAYER_ARGUMENTS :])


def _none(ctx: Any) -> tuple[None, ...]:
    """No gradients for the numbers of the layer and what follows them."""
    return (None,) * (LAYER_ARGUMENTS + len(ctx.rest))


def _conv_backward(ctx: Any, dy: Any) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    needs = ctx.needs_input_grad
    x_size, w_size = ctx.sizes
    dx = dw = db = None
    if needs[0]:
        dx = call("conv_input_gradient", dy, w.conj(), x_size, *ctx.layer, ctx.channels_last)
    if needs[1]:
        dw, total = call("conv_weight_gradient", x.conj(), dy, w_size, *ctx.layer, needs[2])
        db = total if needs[2] else None
    elif needs[2]:
        db = dy.sum([0, *range(2, dy.dim())])
    return dx, dw, db, *_none(ctx)


def _input_gradient_backward(ctx: Any, u: Any) -> tuple[Any, ...]:
    dy, w = ctx.saved_tensors
    needs = ctx.needs_input_grad
    to_dy = call("conv", u, w.conj(), None, *ctx.layer) if needs[0] else None
    to_w = None
    if needs[1]:
        to_w = call("conv_weight_gradient", u, dy.conj(), ctx.sizes[1], *ctx.layer, False)[0]
    return to_dy, to_w, None, *_none(ctx)


def _weight_gradient_backward(ctx: Any, v: Any, v_bias: Any) -> tuple[Any, ...]:
    x, dy = ctx.saved_tensors
    needs = ctx.needs_input_grad
    to_x = to_dy = None
    if needs[0]:
        to_x = call("conv_input_gradient", dy.conj(), v, ctx.sizes[0], *ctx.layer, ctx.channels_last)
    if needs[1]:
        bias = v_bias if ctx.rest[0] else None
        to_dy = call("conv", x.conj(), v, bias, *ctx.layer)
    return to_x, to_dy, None, *_none(ctx)


BACKWARD: Final[dict[str, Callable[..., tuple[Any, ...]]]] = {
    "conv": _conv_backward,
    "conv_input_gradient": _input_gradient_backward,
    "conv_weight_gradient": _weight_gradient_backward,
}
"""The gradient of each operator."""
