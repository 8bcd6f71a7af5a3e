"""PyTorch's own convolutions and batch norms, computed by Omniconv, with the same arguments, keys and first values.

Each is a subclass of the layer that it replaces, so that what looks for ``torch.nn.Conv2d`` finds it.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.modules.module as _all
from torch import nn

from omniconv.spec import Activation
from omniconv.torch.activations import MODULES
from omniconv.torch.conv_norm import FixedNumbers, Running, conv_norm, find_call
from omniconv.torch.layouts import PLAIN_TYPES
from omniconv.torch.normalise import batch_norm
from omniconv.torch.operators import convolve


class _Plain:
    """What convolutions of any number of axes share."""

    def _conv_forward(self: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # noqa: A002 - its name in PyTorch
        return convolve(input, weight, bias, self.list_numbers(), len(self.kernel_size))

    def list_numbers(self: Any) -> tuple[Any, ...]:
        """The numbers of the layer, as operators take them."""
        order, nothing = _SIDES[len(self.kernel_size)]
        sides = self._reversed_padding_repeated_twice
        padding = tuple([sides[place] for place in order])
        return self.stride, padding, self.dilation, False, nothing, self.groups, False, self.padding_mode


_SIDES: Final = {
    axes: (tuple(2 * (axes - 1 - axis) + side for axis in range(axes) for side in (0, 1)), (0,) * axes)
    for axes in (1, 2, 3)
}
"""Number of axes -> where the padding before and after each axis stands in PyTorch's order, and zeros for the axes."""


class _Transposed:
    """What transposed convolutions of any number of axes share."""

    def forward(self: Any, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:  # noqa: A002
        """The layer; ``output_size`` chooses among the sizes that a stride leaves open, as in PyTorch."""
        axes = len(self.kernel_size)
        extra = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, axes, self.dilation
        )
        padding = tuple([side for side in self.padding for _ in (0, 1)])
        numbers = (self.stride, padding, self.dilation, True, tuple(extra), self.groups, False, "zeros")
        return convolve(input, self.weight, self.bias, numbers, axes)


class Conv1d(_Plain, nn.Conv1d):  # type: ignore[misc] # untyped for a checker without PyTorch
    """`torch.nn.Conv1d`, computed by Omniconv."""


class Conv2d(_Plain, nn.Conv2d):  # type: ignore[misc]
    """`torch.nn.Conv2d`, computed by Omniconv."""


class Conv3d(_Plain, nn.Conv3d):  # type: ignore[misc]
    """`torch.nn.Conv3d`, computed by Omniconv."""


class ConvTranspose1d(_Transposed, nn.ConvTranspose1d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose1d`, computed by Omniconv."""


class ConvTranspose2d(_Transposed, nn.ConvTranspose2d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose2d`, computed by Omniconv."""


class ConvTranspose3d(_Transposed, nn.ConvTranspose3d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose3d`, computed by Omniconv."""


DROP_INS: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.ConvTranspose1d: ConvTranspose1d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}
"""PyTorch's layer -> the one that replaces it."""


class _Norm:
    """What batch norms of any number of axes share."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """The layer."""
        return self.normalise(input, None)

    def normalise(
        self: Any,
        input: torch.Tensor,  # noqa: A002
        activation: Activation | None,
        before: Any = None,
    ) -> torch.Tensor:
        """The layer and an activation of its result, in one; and a convolution ``before``, if they can."""
        key, numbers = None, None
        mean, variance, w, b = self.running_mean, self.running_var, self.weight, self.bias
        training = self.training or (mean is None and variance is None)
        if self.training and not self.track_running_stats:
            mean = variance = None
        if before is not None:
            numbers = FixedNumbers.of(before.list_numbers(), self.eps, activation)
            if training:
                key = find_call(input, before.weight, before.bias, w, b, mean, variance, numbers)
            if key is None:
                input = before(input)  # noqa: A001
        if key is None:
            self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        if key is not None and numbers is not None:
            running = None if mean is None else Running(mean, variance, factor)
            return conv_norm(key, input, before.weight, before.bias, w, b, numbers, running)
        return batch_norm(input, mean, variance, w, b, training, factor, self.eps, activation=activation)


class BatchNorm1d(_Norm, nn.BatchNorm1d):  # type: ignore[misc]
    """`torch.nn.BatchNorm1d`, computed by Omniconv."""


class BatchNorm2d(_Norm, nn.BatchNorm2d):  # type: ignore[misc]
    """`torch.nn.BatchNorm2d`, computed by Omniconv."""


class BatchNorm3d(_Norm, nn.BatchNorm3d):  # type: ignore[misc]
    """`torch.nn.BatchNorm3d`, computed by Omniconv."""


NORMS: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}
"""PyTorch's batch norm -> the one that replaces it."""
LAZY_NORMS: Final = (nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d)
"""What becomes one of these when it first runs; unlike lazy convolutions, they are not derived from it."""


class Sequential(nn.Sequential):  # type: ignore[misc]
    """`torch.nn.Sequential`, in which a batch norm of ours and the activation behind it are computed in one pass, and
    in training, in one call with both, the convolution of ours before it.

    That is so where nobody could see what is between them: no hook of either module or of all modules, no ``forward``
    of their own, and plain tensors. The modules stay as they are, and do by themselves what they did.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """All modules in order."""
        modules = list(self)
        place = 0
        while place < len(modules):
            module = modules[place]
            place += 1
            before = None
            plain = place < len(modules) and type(input) in PLAIN_TYPES
            if plain and goes_along(module, modules[place]):
                before, module = module, modules[place]
                place += 1
                plain = place < len(modules)
            activation = find_activation(module, modules[place]) if plain else None
            if activation is None and before is None:
                input = module(input)  # noqa: A001
            else:
                input = module.normalise(input, activation, before)  # noqa: A001
                place += activation is not None
        return input


def goes_along(conv: nn.Module | None, behind: nn.Module | None) -> bool:
    """Whether a convolution and the batch norm behind it may be one call, as a `Sequential` runs them."""
    return (
        conv is not None
        and behind is not None
        and _NORM_BEHIND.get(type(conv)) is type(behind)
        and not (_is_seen(conv) or _is_seen(behind))
    )


def find_activation(norm: nn.Module | None, behind: nn.Module | None) -> Activation | None:
    """The activation that a batch norm takes along, as a `Sequential` runs them; none where it does not."""
    find = MODULES.get(type(behind)) if type(norm) in _OWN_NORMS else None
    return None if find is None or _is_seen(norm) or _is_seen(behind) else find(behind)


def _is_seen(module: nn.Module) -> bool:
    """Whether a call of a module may do more than its class says."""
    return any(map(module.__dict__.get, _SEEN)) or any(map(vars(_all).get, _SEEN_BY_ALL))


_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SEEN: Final = (*_HOOKS, "forward", "_conv_forward")
_SEEN_BY_ALL: Final = tuple(f"_global{name}" for name in _HOOKS)
_OWN_NORMS: Final = frozenset(NORMS.values())
_NORM_BEHIND: Final[dict[type, type]] = {Conv1d: BatchNorm1d, Conv2d: BatchNorm2d, Conv3d: BatchNorm3d}
"""A convolution, and the batch norm that normalises its results."""
