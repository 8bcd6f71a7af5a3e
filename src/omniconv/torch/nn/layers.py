"""`ConvNd` and `ChainNd`: a convolution, and a chain of steps, as modules whose weights can be trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from omniconv.choices import check_instance
from omniconv.errors import SpecError
from omniconv.integers import as_flag, as_integer
from omniconv.spec import Activation, Chain, ChainStep, Conv, PixelShuffle, Split
from omniconv.spec.geometry import count_extent
from omniconv.torch.nn.names import name_convs, name_move
from omniconv.torch.operators import convolve
from omniconv.torch.steps import module_of


class ConvNd(nn.Module):  # type: ignore[misc] # untyped for a checker without PyTorch
    """One convolution, with parameters ``weight`` and ``bias`` in the shapes of its spec.

    Example:
        >>> layer = ConvNd(Conv.of(4, 8, 3, stride=2, padding=1))
        >>> layer(torch.ones(1, 4, 6, 6)).shape
        torch.Size([1, 8, 3, 3])

    Args:
        spec: the convolution.
        bias: whether it adds one.
        block: so many neighbouring output channels begin alike.
        device, dtype: of the parameters.
    """

    spec: Conv
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self, spec: Conv, *, bias: bool = True, block: int = 1, device: Any = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        check_instance("spec", spec, Conv, need="one convolution", fix="ChainNd for a Chain")
        self.spec = spec
        self._block = as_integer("block", block)
        if spec.out_channels // spec.groups % self._block or (spec.transposed and self._block > 1):
            raise SpecError(
                f"blocks of {block} channels", need="a divisor of the output channels of a group", at=spec.text()
            )
        self.weight = nn.Parameter(torch.empty(spec.weight_shape, device=device, dtype=dtype))
        b = torch.empty(spec.out_channels, device=device, dtype=dtype) if as_flag("bias", bias) else None
        self.register_parameter("bias", None if b is None else nn.Parameter(b))
        named = isinstance(spec.padding, str)
        self._padding = () if isinstance(spec.padding, str) else tuple(side for pair in spec.padding for side in pair)
        self._lower = named and spec.padding == "same_lower"
        self._extents = [count_extent(k, d) for k, d in zip(spec.kernel_size, spec.dilation, strict=True)]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias uniformly within ``1 / sqrt(fan in)``, as the layers of `torch.nn` do."""
        block = self._block
        with torch.no_grad():
            w = torch.empty_like(self.weight[::block], memory_format=torch.contiguous_format)
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))
            self.weight.copy_(w.repeat_interleave(block, 0))
            if self.bias is not None:
                bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
                b = torch.empty_like(self.bias[::block])
                nn.init.uniform_(b, -bound, bound)
                self.bias.copy_(b.repeat_interleave(block, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer on a batch ``(N, C, *spatial)``, or on one input ``(C, *spatial)``."""
        spec = self.spec
        padding = self._padding or self._same(x.shape[x.dim() - spec.dims :])
        numbers = (
            spec.stride,
            padding,
            spec.dilation,
            spec.transposed,
            spec.output_padding,
            spec.groups,
            spec.flip,
            spec.padding_mode,
        )
        return convolve(x, self.weight, self.bias, numbers, spec.dims)

    def _same(self, sizes: Any) -> tuple[Any, ...]:
        """Padding for as many outputs as strides begin inside the input; the odd position goes after, or before."""
        sides = []
        for size, extent, stride in zip(sizes, self._extents, self.spec.stride, strict=True):
            total = torch.sym_max((-(-size // stride) - 1) * stride + extent - size, 0)
            small = total // 2
            sides += [total - small, small] if self._lower else [small, total - small]
        return tuple(sides)

    def layers(self) -> Iterator[ConvNd]:
        """This one."""
        yield self

    def extra_repr(self) -> str:
        """The problem line."""
        return self.spec.text() + ("" if self.bias is not None else ", bias=False")


class ChainNd(nn.Module):  # type: ignore[misc]
    """The steps of a chain one after another, each convolution under a name that says what it is.

    Example:
        >>> import omniconv as oc
        >>> stack = ChainNd(oc.depthwise_separable(4, 8, 3, padding=1, activation="relu"))
        >>> list(stack.state_dict())
        ['depthwise.weight', 'depthwise.bias', 'pointwise.weight', 'pointwise.bias']

    Args:
        spec: the chain.
        names: of its convolutions; default: what they are, see :func:`name_convs`.
        bias: whether its convolutions add one.
        device, dtype: of the parameters.
    """

    spec: Chain

    def __init__(
        self,
        spec: Chain,
        names: Sequence[str] | None = None,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_instance("spec", spec, Chain, need="a chain", fix="ConvNd for a Conv")
        self.spec = spec
        given = name_convs(spec) if names is None else tuple(names)
        if len(set(given)) != len(spec.convs):
            raise SpecError(f"names={given} for {len(spec.convs)} convolutions", need="one for each", at=spec.text())
        left = iter(given)
        self._plan: list[tuple[list[str], list[int]]] = []
        for index, step in enumerate(spec.steps):
            convs = _convs(step)
            if convs:
                called = [next(left) for _ in convs]
                for name, conv in zip(called, convs, strict=True):
                    block = self._find_block(index, conv)
                    self.add_module(name, ConvNd(conv, bias=bias, block=block, device=device, dtype=dtype))
            else:
                called = [name_move(step, self._modules)]
                self.add_module(called[0], module_of(step, spec.dims))
            self._plan.append((called, [conv.in_channels for conv in convs]))

    def reset_parameters(self) -> None:
        """Draw the parameters of each convolution by its own fan in.

        The channels that a pixel shuffle lays out side by side begin alike, so that the first output is an enlarged
        image without a checkerboard (ICNR), where no block of them reaches over two groups.
        """
        for layer in self.layers():
            layer.reset_parameters()

    def _find_block(self, index: int, conv: Conv) -> int:
        """Channels that one pixel of the convolution of step ``index`` is laid out to."""
        for step in self.spec.steps[index + 1 :]:
            if isinstance(step, PixelShuffle):
                block = step.factor**self.spec.dims
                return 1 if conv.transposed or conv.out_channels // conv.groups % block else block
            if not isinstance(step, Activation):
                break
        return 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All steps on a batch ``(N, C, *spatial)``, or on one input ``(C, *spatial)``."""
        if x.dim() == self.spec.dims + 1:
            return self(x.unsqueeze(0)).squeeze(0)
        for names, channels in self._plan:
            if len(names) == 1:
                x = self._modules[names[0]](x)
            else:
                parts = torch.split(x, channels, 1)
                x = torch.cat([self._modules[name](part) for name, part in zip(names, parts, strict=True)], 1)
        return x

    def layers(self) -> Iterator[ConvNd]:
        """The convolutions, in the order of ``spec.convs``."""
        return (module for module in self.children() if isinstance(module, ConvNd))


def _convs(step: ChainStep) -> tuple[Conv, ...]:
    """The convolutions of a step."""
    return (step,) if isinstance(step, Conv) else step.branches if isinstance(step, Split) else ()
