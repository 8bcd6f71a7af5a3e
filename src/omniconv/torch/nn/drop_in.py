"""PyTorch's own convolution layers, computed by Omniconv: the same arguments, keys, initial values and results.

Each is a subclass of the layer that it replaces, so that what looks for ``torch.nn.Conv2d`` finds it.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from omniconv.torch.operators import convolve


class _Plain:
    """What convolutions of any number of axes share."""

    def _conv_forward(self: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # noqa: A002 - its name in PyTorch
        axes = len(self.kernel_size)
        order, nothing = _SIDES[axes]
        sides = self._reversed_padding_repeated_twice
        padding = tuple([sides[place] for place in order])
        numbers = (self.stride, padding, self.dilation, False, nothing, self.groups, False, self.padding_mode)
        return convolve(input, weight, bias, numbers, axes)


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
