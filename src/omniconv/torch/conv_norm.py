r"""Convolutions, each with the batch norm of its result and the activation behind it, as one function of PyTorch.

.. math::
    z = A_w x + b, \qquad y = f\!\left(\frac{z - m}{\sqrt{v + \epsilon}}\, s + t\right)

where m and v are the moments of z; y is x of the next layer. By themselves they are two functions for each layer, and
three programs on the way back; a small layer takes less time than the calls of these. So a few layers are one program
there, and one back, whose gradients of z never leave the working memory. It is no operator: where somebody is to see
operators, layers run one by one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch

from omniconv.torch.conv_norm_calls import (
    FixedNumbers,
    KeptPair,
    NormedPair,
    run,
    run_back,
    split_moments,
    split_rows,
)
from omniconv.torch.dispatch import call
from omniconv.torch.layouts import is_channels_last
from omniconv.torch.normalise import find_gradient


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
    y: torch.Tensor = run(key, x, pairs, momenta)[2 * (len(pairs) - 1)]
    return y


def _forward(ctx: Any, *arguments: Any) -> Any:
    x, *parameters, (key, pairs, momenta) = arguments
    found = run(key, x, pairs, momenta)
    *inside, y, z, moments = found
    ctx.save_for_backward(x, *parameters, *inside, z, moments)
    ctx.numbers = [pair.numbers for pair in pairs]
    return y


def _backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
    numbers, inner = ctx.numbers, ctx.needs_input_grad[0]
    many = len(numbers)
    x, *saved, z, moments = ctx.saved_tensors
    values = [*saved[4 * many :], None, z]
    kept = [KeptPair(*saved[4 * at : 4 * at + 4], *values[2 * at : 2 * at + 2]) for at in range(many)]
    found = None
    if not torch.is_grad_enabled():
        found = run_back(dy, x, kept, moments, numbers, inner=inner)
    if found is None:
        dx, gradients = _by_parts(dy, x, kept, moments, numbers, inner=inner)
    else:
        dx, gradients = _take_apart(found, kept, inner)
    return dx, *gradients, None


def _take_apart(found: Sequence[torch.Tensor], kept: Sequence[KeptPair], inner: bool) -> tuple[Any, list[Any]]:
    """dx, and the gradients of the parameters in their order."""
    rows = split_rows(found[-1], kept)
    gradients: list[Any] = []
    for index in range(len(kept)):
        dw = found[len(kept) - 1 - index]
        gradients += [dw, rows.get(("db", index)), rows["dscale", index], rows["dshift", index]]
    return found[-2] if inner else None, gradients


def _by_parts(
    dy: Any, x: Any, kept: Sequence[KeptPair], moments: Any, numbers: Sequence[FixedNumbers], *, inner: bool
) -> tuple[Any, list[Any]]:
    """The gradients by the operators of the layers; where these have gradients, from values as x gives them."""
    again = torch.is_grad_enabled()
    inputs, results, statistics = [x], [], split_moments(moments, kept)
    for pair, each in zip(kept, numbers, strict=True):
        z = call("conv", inputs[-1], pair.w, pair.b, *each.layer) if again else pair.z
        results.append(z)
        if len(results) < len(kept):
            rest = (each.epsilon, each.name, each.parameters)
            inputs.append(call("normalise", z, pair.scale, pair.shift, None, None, *rest)[0] if again else pair.y)
    gradients: list[Any] = []
    for index in range(len(kept) - 1, -1, -1):
        pair, each, before = kept[index], numbers[index], inputs[index]
        mean, variance, _ = statistics[index].unbind(0)
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
