"""PyTorch's own convolutions and batch norms, computed by Omniconv, with the same arguments, keys and first values.

Each is a subclass of the layer that it replaces, so that what looks for ``torch.nn.Conv2d`` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
import torch.nn.modules.module as _all
from torch import nn

from omniconv.spec import Activation
from omniconv.torch.activations import MODULES
from omniconv.torch.conv_norm import conv_norms
from omniconv.torch.conv_norm_calls import FixedNumbers, NormedPair, find_call
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

    def normalise(self: Any, input: torch.Tensor, activation: Activation | None) -> torch.Tensor:  # noqa: A002
        """The layer and an activation of its result, in one."""
        self._check_input_dim(input)
        training, mean, variance = self.find_statistics()
        (momentum,) = count_batches([self])
        w, b = self.weight, self.bias
        return batch_norm(input, mean, variance, w, b, training, momentum, self.eps, activation=activation)

    def find_statistics(self: Any) -> tuple[bool, Any, Any]:
        """Whether moments are those of the values, and the running statistics that take part, if there are any."""
        mean, variance = self.running_mean, self.running_var
        training = self.training or (mean is None and variance is None)
        return (training, None, None) if self.training and not self.track_running_stats else (training, mean, variance)

    def find_count(self: Any) -> torch.Tensor | None:
        """The number of batches so far, where one more is to be counted."""
        return self.num_batches_tracked if self.training and self.track_running_stats else None

    def find_momentum(self: Any, count: torch.Tensor | None) -> float:
        """The part of its moments that statistics take from a batch that has been counted."""
        if self.momentum is None:
            return 0.0 if count is None else 1.0 / float(count)
        return float(self.momentum)


def count_batches(norms: Sequence[Any]) -> list[float]:
    """Count one more batch of each norm that does so; the parts of its moments that statistics take."""
    counts = [norm.find_count() for norm in norms]
    counted = [count for count in counts if count is not None]
    if len(counted) > 1:
        torch._foreach_add_(counted, 1)  # half the time of as many additions
    elif counted:
        counted[0].add_(1)
    return [norm.find_momentum(count) for norm, count in zip(norms, counts, strict=True)]


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
    in training, in one call with both, the convolution of ours before it and the next few that are like it.

    That is so where nobody could see what is between them: no hook of any of these modules or of all modules, no
    ``forward`` of their own, and plain tensors. The modules stay as they are, and do by themselves what they did.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """All modules in order."""
        modules = list(self)
        place = 0
        while place < len(modules):
            plain = type(input) in PLAIN_TYPES
            links = find_links(modules, place) if plain else []
            found = run_links(input, links)
            if found is None and len(links) > 1:
                links = links[:1]
                found = run_links(input, links)
            if found is not None:
                input = found  # noqa: A001
                place += sum(2 + (link.activation is not None) for link in links)
                continue
            module = modules[place]
            place += 1
            activation = find_activation(module, modules[place]) if plain and place < len(modules) else None
            input = module(input) if activation is None else module.normalise(input, activation)  # noqa: A001
            place += activation is not None
        return input


class NormedLink(NamedTuple):
    """A convolution, its batch norm, and the activation behind it."""

    conv: Any
    norm: Any
    activation: Activation | None


MOST_LINKS: Final = 4
"""Links that run in one call: in all of them gradients of values are in the working memory at once."""


def find_links(modules: Sequence[nn.Module], place: int) -> list[NormedLink]:
    """The links that begin at a place, one after another: the statistics of each norm take part once in a call."""
    found: list[NormedLink] = []
    while place + 1 < len(modules) and len(found) < MOST_LINKS and goes_along(modules[place], modules[place + 1]):
        norm = modules[place + 1]
        if any(link.norm is norm for link in found):
            break
        place += 2
        activation = find_activation(norm, modules[place]) if place < len(modules) else None
        found.append(NormedLink(modules[place - 2], norm, activation))
        place += activation is not None
    return found


def run_links(input: torch.Tensor, links: Sequence[NormedLink]) -> torch.Tensor | None:  # noqa: A002
    """Links in one call; none where there are none, or they have to run one by one."""
    pairs = []
    for conv, norm, activation in links:
        training, mean, variance = norm.find_statistics()
        if not training:
            return None
        numbers = FixedNumbers.of(conv.list_numbers(), norm.eps, activation)
        pairs.append(NormedPair(conv.weight, conv.bias, norm.weight, norm.bias, mean, variance, numbers))
    key = find_call(input, pairs) if pairs else None
    return None if key is None else conv_norms(key, input, pairs, count_batches([link.norm for link in links]))


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
    own = module.__dict__  # one by one, which takes a third of the time of a loop
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or "_conv_forward" in own
        or any(_HOOKS_OF_ALL)
    )


_HOOKS_OF_ALL: Final = tuple(
    vars(_all)[f"_global_{name}_hooks"] for name in ("forward", "forward_pre", "backward", "backward_pre")
)
"""PyTorch's own dictionaries, which are changed in place."""
_OWN_NORMS: Final = frozenset(NORMS.values())
_NORM_BEHIND: Final[dict[type, type]] = {Conv1d: BatchNorm1d, Conv2d: BatchNorm2d, Conv3d: BatchNorm3d}
"""A convolution, and the batch norm that normalises its results."""
