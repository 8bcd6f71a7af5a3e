r"""Batch normalisation with the activation behind it: ``torch.ops.omniconv.normalise`` and its gradient.

.. math::
    z = \frac{x - m}{\sqrt{v + \epsilon}} w + b, \qquad y = f(z)

Mean and variance are those of x, or given. The gradient is an operator as well; gradients of it are found by PyTorch,
from the same formula in its own operators.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, cast

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.program.normalise import Norm
from omniconv.spec import Activation
from omniconv.torch.activations import apply, as_activation, pull_back
from omniconv.torch.calls import compiles, define, run_program
from omniconv.torch.dispatch import call, is_transformed
from omniconv.torch.layouts import check_strided, empty, find_move, is_channels_last, lay
from omniconv.torch.prepared import Given
from omniconv.torch.programs import DTYPES, PROGRAMS

_REST: Final = "float epsilon, str activation, float[] parameters"
_NUMBERS: Final = "Tensor? w, Tensor? b, Tensor? mean, Tensor? variance"


def batch_norm(
    input: torch.Tensor,  # noqa: A002 - PyTorch's names and order
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: Activation | None = None,
) -> torch.Tensor:
    """`torch.nn.functional.batch_norm`, and an activation of its result.

    Tensors that no code is compiled for, and calls within PyTorch's transforms, go through PyTorch's own functions.

    Raises:
        ShapeError: moments of a single value for each channel.
    """
    if not _serves(input, running_mean, running_var, weight, bias, training):
        y = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return apply(activation, y)
    if training and input.numel() == input.shape[1]:
        raise ShapeError(
            f"moments of one value for each channel, of an input of shape {tuple(input.shape)}",
            need="more than 1 value per channel when training",
        )
    x = input if _lies_well(input) else lay(input, channels_last=is_channels_last(input))
    name = "" if activation is None else activation.name
    parameters = () if activation is None else tuple([value for _, value in activation.parameters])
    given = (None, None) if training else _keep(running_mean, running_var, x, weight, bias)

    def keep(found: tuple[torch.Tensor, torch.Tensor]) -> None:
        if training and running_mean is not None and running_var is not None:
            keep_statistics(running_mean, running_var, momentum, found[1])

    y, _ = call("normalise", x, weight, bias, *given, eps, name, parameters, then=keep)
    return cast("torch.Tensor", y)


def keep_statistics(mean: torch.Tensor, variance: torch.Tensor, momentum: float, moments: torch.Tensor) -> None:
    """Let running statistics take their part of moments."""
    now, _, unbiased = moments.unbind(0)
    running = [mean, variance]
    torch._foreach_mul_(running, 1 - momentum)  # not `lerp_`, which makes NaN of what is infinite
    torch._foreach_add_(running, [now, unbiased], alpha=momentum)


def _keep(mean: Any, variance: Any, *others: torch.Tensor | None) -> tuple[Any, Any]:
    """Running statistics as a gradient will read them, also where the layer is trained before it is asked for.

    Not in a trace by `torch.jit`, whose graph does not depend on whether gradients are wanted.
    """
    if torch.jit.is_tracing() or not torch.is_grad_enabled():
        return mean, variance
    if any(each is not None and each.requires_grad for each in others):
        return mean.clone(), variance.clone()
    return mean, variance


def _serves(x: Any, mean: Any, variance: Any, w: Any, b: Any, training: bool) -> bool:
    """Whether the operator takes such a call."""
    if not isinstance(x, torch.Tensor) or torch.onnx.is_in_onnx_export():
        return False
    if x.dtype not in DTYPES or x.device.type != "cpu" or x.layout is not torch.strided or not 2 <= x.dim() <= 5:
        return False
    if (mean is None) != (variance is None) or (w is None) != (b is None) or (mean is None and not training):
        return False
    for each in (mean, variance, w, b):
        if each is not None and (each.dtype != x.dtype or each.device.type != "cpu" or each.shape != x.shape[1:2]):
            return False
    if mean is not None and (mean.requires_grad or variance.requires_grad):
        return False
    return x.numel() > 0 and (torch.compiler.is_compiling() or not is_transformed())


def _lies_well(x: torch.Tensor) -> bool:
    """Whether it has no gaps, in either order; else it is copied once, and that copy is kept for the gradient."""
    return find_move(x, channels_last=False) is None or find_move(x, channels_last=True) is None


# Values


def _normalise(
    key: Hashable,
    x: torch.Tensor,
    w: Any,
    b: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    name: str,
    parameters: Sequence[float],
) -> Any:
    """y, and moments ``(3, C)`` where they are those of x, else an empty tensor."""
    activation = as_activation(name, tuple(parameters))
    _check(x, w, b, mean, variance)
    last = is_channels_last(x)
    if not compiles(x, w, b, mean, variance):
        return _plain(x, w, b, mean, variance, epsilon, activation, last=last)
    norm = Norm(w is not None, mean is not None, epsilon, activation)
    find = PROGRAMS.reach("normalise", norm, tuple(x.shape), x.dtype, channels_last=last)
    inputs = {"x": (x, last)} | _numbers(w, b, mean, variance)
    moments = [0] if norm.given else [3, x.shape[1]]
    return run_program(key, find, inputs, {"y": (x.shape, last), "moments": (moments, False)})


def _gradient(
    key: Hashable,
    dy: torch.Tensor,
    x: torch.Tensor,
    w: Any,
    b: Any,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
    name: str,
    parameters: Sequence[float],
    given: bool,
) -> Any:
    """dx, and db and dw as ``(2, C)``."""
    activation = as_activation(name, tuple(parameters))
    _check(x, w, b, mean, variance)
    if dy.shape != x.shape:
        raise ShapeError(f"a gradient of shape {tuple(dy.shape)}", need=f"{tuple(x.shape)}, that of the values")
    last = is_channels_last(x)
    if not compiles(dy, x, w, b, mean, variance):
        dx, sums = plain_gradient(dy, x, w, b, mean, variance, epsilon, activation, given=given)
        return lay(dx, channels_last=last), sums
    norm = Norm(w is not None, given, epsilon, activation)
    find = PROGRAMS.reach("normalise_gradient", norm, tuple(x.shape), x.dtype, channels_last=last)
    inputs = {"dy": (dy, last), "x": (x, last)} | _numbers(w, b, mean, variance)
    return run_program(key, find, inputs, {"dx": (x.shape, last), "sums": ([2, x.shape[1]], False)})


def _numbers(w: Any, b: Any, mean: Any, variance: Any) -> dict[str, Given]:
    """Those numbers of channels that there are, as inputs of a program."""
    named = {"w": w, "b": b, "mean": mean, "variance": variance}
    return {name: (value, False) for name, value in named.items() if value is not None}


def _check(x: torch.Tensor, *numbers: torch.Tensor | None) -> None:
    """Refuse what does not belong together.

    Raises:
        ShapeError, DataError: it does not.
    """
    check_strided("an input", x)
    if not 2 <= x.dim() <= 5:
        raise ShapeError(f"an input of shape {tuple(x.shape)}", need="(N, C, *spatial) with up to 3 spatial axes")
    for name, each in zip(("w", "b", "mean", "variance"), numbers, strict=True):
        if each is not None and each.shape != x.shape[1:2]:
            raise ShapeError(f"{name} of shape {tuple(each.shape)}", need=f"a number for each of {x.shape[1]} channels")
    for one, other in (numbers[:2], numbers[2:]):
        if (one is None) != (other is None):
            raise ShapeError("one of w and b, or of mean and variance, alone", need="both or neither")


# The same by PyTorch's operators


def _along(x: torch.Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _spread(numbers: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return numbers.reshape(1, -1, *[1] * (x.dim() - 2))


def _standardise(x: torch.Tensor, mean: Any, variance: Any, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``(x - mean) r`` and r."""
    root = (variance + epsilon).rsqrt()
    return (x - _spread(mean, x)) * _spread(root, x), root


def _affine(normal: torch.Tensor, w: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor:
    return normal if w is None or b is None else normal * _spread(w, normal) + _spread(b, normal)


def _plain(
    x: torch.Tensor,
    w: Any,
    b: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    activation: Activation | None,
    *,
    last: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    moments = x.new_empty(0)
    if mean is None:
        variance, mean = torch.var_mean(x, _along(x), correction=0)
        size = x.numel() // x.shape[1] if x.shape[1] else 0
        moments = torch.stack([mean, variance, variance * (size / (size - 1) if size > 1 else float("nan"))])
    y = apply(activation, _affine(_standardise(x, mean, variance, epsilon)[0], w, b))
    return lay(y, channels_last=last), moments


def find_gradient(
    dy: torch.Tensor,
    x: torch.Tensor,
    w: Any,
    b: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    name: str,
    parameters: tuple[float, ...],
    *,
    given: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """dx, and db and dw as ``(2, C)``: by the operator; where they are differentiated on, and within transforms, of
    which the operator knows nothing, by PyTorch's.
    """
    if torch.is_grad_enabled() or (is_transformed() and not torch.compiler.is_compiling()):
        return plain_gradient(dy, x, w, b, mean, variance, epsilon, as_activation(name, parameters), given=given)
    dx, sums = call("normalise_gradient", dy, x, w, b, mean, variance, epsilon, name, parameters, given)
    return dx, sums


def plain_gradient(
    dy: torch.Tensor,
    x: torch.Tensor,
    w: Any,
    b: Any,
    mean: Any,
    variance: Any,
    epsilon: float,
    activation: Activation | None,
    *,
    given: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient, to be differentiated on; moments that are not given are taken from x."""
    if not given:
        variance, mean = torch.var_mean(x, _along(x), correction=0)
    normal, root = _standardise(x, mean, variance, epsilon)
    back = pull_back(activation, _affine(normal, w, b), dy)
    db, dw = back.sum(_along(x)), (back * normal).sum(_along(x))
    if not given:
        share = x.shape[1] / x.numel() if x.numel() else 0.0
        back = back - _spread(db * share, x) - normal * _spread(dw * share, x)
    return back * _spread(root if w is None else root * w, x), torch.stack([db, dw])


# Shapes alone, and gradients


def _shape(x: torch.Tensor, w: Any, b: Any, mean: Any, variance: Any, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    _check(x, w, b, mean, variance)
    y = empty(x.shape, x, channels_last=is_channels_last(x))
    return y, x.new_empty(0) if mean is not None else x.new_empty(3, x.shape[1])


def _gradient_shape(_dy: torch.Tensor, x: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return empty(x.shape, x, channels_last=is_channels_last(x)), x.new_empty(2, x.shape[1])


def _save(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, w, b, mean, variance, epsilon, name, parameters = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, w, b, mean, variance, output[1])
    ctx.rest = epsilon, name, tuple(parameters)
    ctx.given = mean is not None


def _backward(ctx: Any, dy: torch.Tensor, _: Any) -> tuple[Any, ...]:
    """All gradients at once.

    Raises:
        UnsupportedError: one of moments that are given.
    """
    if any(ctx.needs_input_grad[3:5]):
        raise UnsupportedError("gradients of given moments", need="moments that need none", fix="mean.detach()")
    x, w, b, mean, variance, moments = ctx.saved_tensors
    if not ctx.given:
        mean, variance, _ = moments.unbind(0)
    dx, sums = find_gradient(dy, x, w, b, mean, variance, *ctx.rest, given=ctx.given)
    db, dw = sums.unbind(0)
    return dx, None if w is None else dw, None if b is None else db, *[None] * 5


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    """Nothing."""


def _refuse(*_: Any) -> Any:
    raise UnsupportedError(
        "gradients of omniconv::normalise_gradient itself",
        need="gradients of omniconv::normalise",
        fix="create_graph=True in its backward pass",
    )


define("normalise", f"(Tensor x, {_NUMBERS}, {_REST}) -> (Tensor, Tensor)", _normalise, _shape, _save, _backward)
define(
    "normalise_gradient",
    "(Tensor dy, Tensor x, Tensor? w, Tensor? b, Tensor mean, Tensor variance, "
    f"{_REST}, bool given) -> (Tensor, Tensor)",
    _gradient,
    _gradient_shape,
    _save_nothing,
    _refuse,
)
