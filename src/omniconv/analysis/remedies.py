"""What to use instead of an uneven transposed convolution, and what each choice costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from omniconv.analysis.cost import cost
from omniconv.analysis.record import Record
from omniconv.analysis.subject import default_shape
from omniconv.errors import SpecError
from omniconv.integers import ceil_div
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.resize_conv import resize_conv
from omniconv.kinds.sub_pixel import sub_pixel
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv, PixelShuffle, Shape, Spec


@dataclass(frozen=True, slots=True)
class Remedy(Record):
    """One way to even an upsampling out.

    Attributes:
        name: ``"kernel"``, ``"resize"``, ``"sub_pixel"`` or ``"smoothing"``.
        advice: in words.
        spec: what replaces the layer.
        parameters, macs: of the replacement, without biases; nominal [MAC].
        parameter_ratio, mac_ratio: over those of the layer as it is.
    """

    name: str
    advice: str
    spec: Spec
    parameters: int
    macs: int
    parameter_ratio: float
    mac_ratio: float


def find_remedies(conv: Conv, shape: Sequence[int] | None = None) -> tuple[Remedy, ...]:
    """Replacements of a transposed convolution that meet every output equally often, cheapest first.

    Args:
        conv: a transposed convolution.
        shape: input shape to cost them for; default 32 positions an axis.
    """
    found: list[tuple[str, str, Spec]] = [_even_kernel(conv)]
    factor, dims = conv.stride[0], conv.dims
    if len(set(conv.stride)) == 1:
        odd = tuple(k | 1 for k in conv.kernel_size)
        resized = resize_conv(
            conv.in_channels, conv.out_channels, odd, factor=factor, padding="same", groups=conv.groups, dims=dims
        )
        found.append(("resize", f"resize by {factor}, then a {_times(odd)} convolution", resized))
    if len(set(conv.stride)) == 1 and conv.groups == 1:
        small = tuple(ceil_div(k, s) | 1 for k, s in zip(conv.kernel_size, conv.stride, strict=True))
        shuffled = sub_pixel(conv.in_channels, conv.out_channels, small, factor=factor, padding="same", dims=dims)
        words = f"{_times(small)} convolution to {factor**dims} times the channels, then a pixel shuffle"
        found.append(("sub_pixel", f"{words}, with ICNR initialisation", shuffled))
    box = depthwise(conv.out_channels, conv.stride, padding="same", dims=dims)
    found.append(("smoothing", f"keep it, and smooth with a {_times(conv.stride)} depthwise mean", Chain((conv, box))))
    size = tuple(shape) if shape is not None else default_shape(conv, 32)
    base = cost(conv, size)
    remedies = []
    for name, advice, spec in found:
        own = cost(spec, size)
        ratios = (own.weights / base.weights, own.macs / base.macs)
        remedies.append(Remedy(name, advice, spec, own.weights, own.macs, *ratios))
    return tuple(sorted(remedies, key=lambda remedy: remedy.macs))


def _times(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _even_kernel(conv: Conv) -> tuple[str, str, Spec]:
    """The next larger kernel that the stride divides, with a dilation coprime to the stride."""
    kernel = tuple(ceil_div(k, s) * s for k, s in zip(conv.kernel_size, conv.stride, strict=True))
    dilation = tuple(d if math.gcd(d, s) == 1 else 1 for d, s in zip(conv.dilation, conv.stride, strict=True))
    free = replace(
        conv, kernel_size=kernel, dilation=dilation, padding=((0, 0),) * conv.dims, output_padding=(0,) * conv.dims
    )
    pairs, extra = [], []
    for old, new in zip(conv.axes(), free.axes(), strict=True):
        surplus = new.extent - (old.extent - sum(old.padding) + old.output_padding)
        before = min(max(old.padding[0] + (new.extent - old.extent + 1) // 2, 0), max(surplus, 0))
        pairs.append((before, max(surplus, 0) - before))
        extra.append(max(-surplus, 0))
    if any(a >= max(s, d) for a, s, d in zip(extra, conv.stride, dilation, strict=True)):
        extra = [0] * conv.dims
    words = f"use a {_times(kernel)} kernel"
    if dilation != conv.dilation:
        words += f" with dilation {_times(dilation)}"
    return "kernel", words, replace(free, padding=tuple(pairs), output_padding=tuple(extra))


def icnr(spec: Chain, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Weights for a `sub_pixel` chain with which all sub-positions of a pixel start equal (ICNR).

    Example:
        >>> chain = sub_pixel(4, 2, 3, factor=2, padding="same")
        >>> w = icnr(chain, np.random.default_rng(0))
        >>> w.shape, bool((w[0:4] == w[0]).all())
        ((8, 4, 3, 3), True)

    Args:
        spec: a chain whose last steps are a convolution and a `PixelShuffle`.
        rng: where the weights are drawn from, normal with variance 2 / (products in each sum).

    Raises:
        SpecError: another chain.

    Sources:
        A. Aitken et al.: Checkerboard artifact free sub-pixel convolution, 2017, arXiv:1707.02937.
    """
    last = [step for step in spec.steps if isinstance(step, Conv | PixelShuffle)][-2:]
    if len(last) < 2 or not isinstance(last[0], Conv) or not isinstance(last[1], PixelShuffle):
        raise SpecError("the chain does not end with a convolution and a pixel shuffle", need="sub_pixel(...)")
    conv, shuffle = last[0], last[1]
    block = shuffle.factor**conv.dims
    shape: Shape = (conv.out_channels // block, *conv.weight_shape[1:])
    scale = math.sqrt(2 / math.prod(shape[1:]))
    return np.repeat((rng.standard_normal(shape) * scale).astype(np.float32), block, axis=0)
