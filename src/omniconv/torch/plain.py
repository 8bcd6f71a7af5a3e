"""A convolution and its gradients by PyTorch's own operators: for devices and types that no code is compiled for.

They compute the same as the compiled programs. PyTorch pads both ends of an axis alike; what is left is padded before,
and cropped from the result of a transposed layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.choices import as_choice
from omniconv.errors import SpecError
from omniconv.program.steps.pad import source_positions
from omniconv.records import dataclass
from omniconv.spec.conv import PAD_WORDS, PADDING_MODES

Pairs: TypeAlias = list[tuple[int, int]]
Ints: TypeAlias = Sequence[int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The numbers of a layer as its operators take them.

    Attributes:
        stride, dilation, output_padding, groups, transposed, flip, padding_mode: as in :class:`omniconv.spec.Conv`.
        padding: before and after each axis in turn.

    Raises:
        SpecError: a padding mode that is unknown, or other than zeros where the layer is transposed.
    """

    stride: Ints
    padding: Ints
    dilation: Ints
    transposed: bool
    output_padding: Ints
    groups: int
    flip: bool
    padding_mode: str

    def __post_init__(self) -> None:
        as_choice("padding_mode", self.padding_mode, PADDING_MODES)
        if self.transposed and self.padding_mode != "zeros":
            raise SpecError(f"padding_mode={self.padding_mode!r} with transposed=True", need='padding_mode="zeros"')

    @property
    def pairs(self) -> Pairs:
        """Padding as one pair for each axis."""
        return list(zip(self.padding[::2], self.padding[1::2], strict=True))

    def output_sizes(self, sizes: Ints, kernel: Ints) -> Ints:
        """Spatial sizes of the result, as in :meth:`omniconv.spec.Axis.infer_output`; they may be symbols."""
        found = []
        for n, k, s, d, (before, after), extra in zip(
            sizes, kernel, self.stride, self.dilation, self.pairs, self.output_padding, strict=True
        ):
            extent, total = d * (k - 1) + 1, before + after
            found.append((n - 1) * s + extent - total + extra if self.transposed else (n + total - extent) // s + 1)
        return found


def conv(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, layer: Geometry) -> torch.Tensor:
    """The layer itself."""
    if x.is_complex():
        y = _by_parts(lambda x, w: conv(x, w, None, layer), x, w)
        return y if b is None else y + b.reshape(-1, *[1] * len(layer.stride))
    x, w, both, rest = _split(x, w, layer)
    y = torch.convolution(
        x, w, b, layer.stride, both, layer.dilation, layer.transposed, layer.output_padding, layer.groups
    )
    return F.pad(y, _sides([(-before, -after) for before, after in rest])) if layer.transposed and _any(rest) else y


def input_gradient(dy: torch.Tensor, w: torch.Tensor, size: Ints, layer: Geometry) -> torch.Tensor:
    """The gradient of an input of ``size``."""
    if dy.is_complex():
        return _by_parts(lambda dy, w: input_gradient(dy, w, size, layer), dy, w)
    pads = layer.pairs
    inner = layer if layer.padding_mode == "zeros" else _without_padding(layer)
    padded = size if inner is layer else _padded(size, pads)
    x = dy.new_empty(1).expand(padded)
    dx = _backward(x, dy, w, inner, (True, False))[0]
    if inner is layer:
        return dx
    for axis, (n, pair) in enumerate(zip(size[2:], pads, strict=True), 2):
        found = source_positions(n, *pair, PAD_WORDS[layer.padding_mode])
        sources = torch.from_numpy(found).to(dy.device)
        dx = dx.new_zeros((*dx.shape[:axis], n, *dx.shape[axis + 1 :])).index_add_(axis, sources, dx)
    return dx


def weight_gradient(x: torch.Tensor, dy: torch.Tensor, size: Ints, layer: Geometry) -> torch.Tensor:
    """The gradient of weights of ``size``."""
    if x.is_complex():
        return _by_parts(lambda x, dy: weight_gradient(x, dy, size, layer), x, dy)
    w = dy.new_empty(1).expand(size)
    dw = _backward(x, dy, w, layer, (False, True))[1]
    return dw.flip(_spatial(dw)) if layer.flip else dw


def _by_parts(product: Callable[..., torch.Tensor], a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What is linear in both of two complex tensors, from their real and imaginary parts."""
    real = product(a.real, b.real) - product(a.imag, b.imag)
    return torch.complex(real, product(a.real, b.imag) + product(a.imag, b.real))


def _backward(
    x: torch.Tensor, dy: torch.Tensor, w: torch.Tensor, layer: Geometry, mask: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the input and of the weights, those that the mask asks for."""
    sizes = x.shape
    x, w, both, rest = _split(x, w, layer)
    if layer.transposed and _any(rest):
        dy = F.pad(dy, _sides(rest))
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy,
        x,
        w,
        None,
        layer.stride,
        both,
        layer.dilation,
        layer.transposed,
        layer.output_padding,
        layer.groups,
        [*mask, False],
    )
    if mask[0] and not layer.transposed:
        for axis, ((before, _), n) in enumerate(zip(rest, sizes[2:], strict=True), 2):
            dx = dx.narrow(axis, before, n)
    return dx, dw


def _split(x: torch.Tensor, w: torch.Tensor, layer: Geometry) -> tuple[torch.Tensor, torch.Tensor, Ints, Pairs]:
    """Input and weights as PyTorch's operator takes them, padding that both ends have, and what is left of it."""
    if layer.flip:
        w = w.flip(_spatial(w))
    if layer.padding_mode != "zeros":
        nothing = _without_padding(layer)
        return F.pad(x, _sides(layer.pairs), mode=layer.padding_mode), w, [0] * len(layer.stride), nothing.pairs
    both = [min(pair) for pair in layer.pairs]
    rest = [(before - common, after - common) for (before, after), common in zip(layer.pairs, both, strict=True)]
    return (F.pad(x, _sides(rest)) if not layer.transposed and _any(rest) else x), w, both, rest


def _without_padding(layer: Geometry) -> Geometry:
    return replace(layer, padding=[0] * len(layer.padding), padding_mode="zeros")


def _padded(size: Ints, pads: Pairs) -> Ints:
    return [*size[:2], *(n + sum(pair) for n, pair in zip(size[2:], pads, strict=True))]


def _sides(pairs: Pairs) -> Ints:
    """Padding as `torch.nn.functional.pad` takes it: last axis first."""
    return [side for pair in reversed(pairs) for side in pair]


def _any(pairs: Pairs) -> bool:
    return any(any(pair) for pair in pairs)


def _spatial(w: torch.Tensor) -> Ints:
    return list(range(2, w.dim()))
