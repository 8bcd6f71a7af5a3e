r"""`Conv`: one convolution of any kind, described once.

.. math:: y[o, c] = b[c] + \sum_{(t, \delta)} \sum_{j < C_{in}/g} x[q(o) s' + \delta,\; m(c, j)] \; w[t, c, j]

with the taps :math:`(t, \delta)` of the output phase of :math:`o` (see :mod:`omniconv.spec.geometry`) and the channel
map :math:`m(c, j) = \lfloor c g / C_{out} \rfloor C_{in}/g + j`. Every kind differs only in its taps and its channel
map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal

from omniconv.choices import as_choice
from omniconv.errors import ShapeError, SpecError, UnsupportedError
from omniconv.integers import LIMIT, as_flag, as_integer, as_integers, read_sequence
from omniconv.records import dataclass
from omniconv.spec.arguments import (
    SAME,
    IntOrTuple,
    PaddingLike,
    Shape,
    check_pairs,
    normalise_padding,
    per_axis,
    resolve_dims,
    take_shape,
)
from omniconv.spec.geometry import Axis, Pair, Phase, plan_same_padding

PADDING_MODES: Final = ("zeros", "reflect", "replicate", "circular")
PAD_WORDS: Final[dict[str, Literal["constant", "reflect", "edge", "wrap"]]] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
"""What NumPy, ONNX and a `PadStep` call the padding modes of a convolution."""


@dataclass(frozen=True, slots=True)
class Conv:
    """One convolution layer: channels, taps and channel map; no sizes and no weights.

    Example:
        >>> spec = Conv.of(64, 128, 3, stride=2, padding=1)
        >>> spec.output_shape((1, 64, 56, 56))
        (1, 128, 28, 28)
        >>> spec.weight_shape
        (128, 64, 3, 3)

    Shapes:
        ``x: (N, in_channels, *spatial)``; ``w: (out_channels, in_channels / groups, *kernel)``, transposed
        ``(in_channels, out_channels / groups, *kernel)``; ``b: (out_channels,)``.

    Use :meth:`of` (or a constructor of :mod:`omniconv.kinds`) to build one: it normalises and checks its arguments.

    Raises:
        SpecError: groups that do not divide the channels, values out of range, combinations without a meaning.
    """

    in_channels: int
    out_channels: int
    kernel_size: Shape
    stride: Shape
    dilation: Shape
    padding: tuple[Pair, ...] | str
    groups: int = 1
    transposed: bool = False
    output_padding: Shape = ()
    flip: bool = False
    padding_mode: str = "zeros"

    @classmethod
    def of(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrTuple,
        *,
        dims: int | None = None,
        stride: IntOrTuple = 1,
        dilation: IntOrTuple = 1,
        padding: PaddingLike = 0,
        groups: int = 1,
        transposed: bool = False,
        output_padding: IntOrTuple = 0,
        flip: bool = False,
        padding_mode: str = "zeros",
    ) -> Conv:
        """Build a `Conv` from ints, tuples or names, for ``dims`` axes (default: what the tuples say, else 2)."""
        dims = resolve_dims(dims, kernel_size, stride, dilation, output_padding, padding)
        transposed = as_flag("transposed", transposed)
        kernel = per_axis("kernel_size", kernel_size, dims, 1)
        strides = per_axis("stride", stride, dims, 1)
        dilations = per_axis("dilation", dilation, dims, 1)
        extra = per_axis("output_padding", output_padding, dims, 0)
        pairs, extra = normalise_padding(
            padding, kernel, strides, dilations, transposed=transposed, output_padding=extra
        )
        return cls(
            in_channels,
            out_channels,
            kernel,
            strides,
            dilations,
            pairs,
            groups,
            transposed,
            extra,
            flip,
            padding_mode,
        )

    def __post_init__(self) -> None:
        self._take_arguments()
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                common = math.gcd(self.in_channels, self.out_channels)
                legal = [g for g in range(2, common + 1) if common % g == 0][:2] or [1]
                raise SpecError(
                    f"groups={self.groups} does not divide {name}={channels}",
                    need=f"{name} % groups == 0",
                    fix=" or ".join(f"groups={g}" for g in legal),
                    at=self.text(),
                )
        as_choice("padding_mode", self.padding_mode, PADDING_MODES)
        if self.padding_mode != "zeros" and self.transposed:
            raise SpecError(
                f"padding_mode={self.padding_mode!r} with transposed=True has no meaning: its padding crops the output",
                need='padding_mode="zeros"',
                at=self.text(),
            )
        for extra, stride, dilation in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra and not self.transposed:
                raise SpecError(
                    f"output_padding={self.output_padding} on a convolution that is not transposed",
                    need="output_padding=0",
                    at=self.text(),
                )
            if extra and extra >= max(stride, dilation):
                raise SpecError(
                    f"output_padding={extra} is not below stride={stride} or dilation={dilation}",
                    need="output_padding < max(stride, dilation)",
                    fix=f"output_padding={max(stride, dilation) - 1}",
                    at=self.text(),
                )

    def _take_arguments(self) -> None:
        """Bring every argument into its own form, whatever library its integers are of: layers are keys of caches."""
        taken: dict[str, object] = {
            name: as_integer(name, getattr(self, name)) for name in ("in_channels", "out_channels", "groups")
        }
        taken |= {name: as_flag(name, getattr(self, name)) for name in ("transposed", "flip")}
        forms = "one integer an axis"
        taken["kernel_size"] = kernel = as_integers("kernel_size", self.kernel_size, need=forms, fix="Conv.of(...)")
        dims = resolve_dims(None, kernel)
        taken["output_padding"] = (0,) * dims
        for name, low in (("stride", 1), ("dilation", 1), ("output_padding", 0)):
            if name != "output_padding" or read_sequence(self.output_padding) != ():
                values = as_integers(name, getattr(self, name), low, need=forms, fix="Conv.of(...)")
                taken[name] = per_axis(name, values, dims, low)
        if not isinstance(self.padding, str):
            taken["padding"] = check_pairs(self.padding, dims)
        elif self.padding not in SAME:
            raise SpecError(f"padding={self.padding!r} is not resolved", need="pairs, or one of " + ", ".join(SAME))
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    @property
    def dims(self) -> int:
        """Number of spatial axes, 1 to 3."""
        return len(self.kernel_size)

    @property
    def weight_shape(self) -> Shape:
        """Shape of ``w``, as in PyTorch."""
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the weights of all steps that have weights: one, for a `Conv`."""
        return (self.weight_shape,)

    @property
    def is_depthwise(self) -> bool:
        """Whether every group has one input channel (and there is more than one group)."""
        return self.groups == self.in_channels > 1

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel covers a single position."""
        return all(k == 1 for k in self.kernel_size)

    @property
    def label(self) -> str:
        """The most specific structural name, e.g. ``depthwise``, ``pointwise_grouped``, ``transposed``."""
        if self.transposed:
            return "depthwise_transposed" if self.is_depthwise else "transposed"
        if self.is_depthwise:
            return "depthwise"
        if self.is_pointwise:
            return "pointwise_grouped" if self.groups > 1 else "pointwise"
        if self.groups > 1:
            return "grouped"
        if any(d > 1 and k > 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)):
            return "dilated"
        return "convolution"

    def axes(self) -> tuple[Axis, ...]:
        """The axes, with explicit padding.

        Raises:
            SpecError: padding is "same" with a stride and needs :meth:`resolve` first.
        """
        if isinstance(self.padding, str):
            raise SpecError(
                f"padding={self.padding!r} with stride={self.stride} depends on the input size",
                need="a shape",
                fix="spec.resolve(shape)",
                at=self.text(),
            )
        columns = (self.kernel_size, self.stride, self.dilation, self.padding, self.output_padding)
        return tuple(
            _axis(k, s, d, p, self.transposed, extra, self.flip) for k, s, d, p, extra in zip(*columns, strict=True)
        )

    def resolve(self, shape: Sequence[int]) -> Conv:
        """The same layer with explicit padding for inputs of ``shape`` ``(N, C, *spatial)``."""
        if not isinstance(self.padding, str):
            return self
        shape = self._take_shape(shape)
        lower = self.padding == "same_lower"
        free = replace(self, padding=((0, 0),) * self.dims).axes()
        pairs = tuple(plan_same_padding(axis, size, lower=lower) for axis, size in zip(free, shape[2:], strict=True))
        return replace(self, padding=pairs)

    def check_input(self, shape: Sequence[int]) -> Shape:
        """Check an input shape against this layer and return it as a tuple.

        Raises:
            ShapeError: wrong rank or channels, empty axes, reflection wider than the input, kernel larger than the
                padded input.
        """
        shape = self._take_shape(shape)
        if shape[1] != self.in_channels:
            raise ShapeError(
                f"input of shape {shape} has {shape[1]} channels",
                need=f"in_channels={self.in_channels} on axis 1 (channels first)",
                fix=f"{(shape[0], self.in_channels, *shape[2:])}",
                at=self.text(shape),
            )
        for index, (axis, size) in enumerate(zip(self.resolve(shape).axes(), shape[2:], strict=True)):
            widest = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
            if widest is not None and max(axis.padding) > widest:
                raise ShapeError(
                    f"{self.padding_mode} padding {axis.padding} on spatial axis {index} of size {size}",
                    need=f"at most {widest}",
                    at=self.text(shape),
                )
            output = axis.infer_output(size)
            if output < 1:
                detail = "input" if axis.transposed else "padded input"
                raise ShapeError(
                    f"spatial axis {index} would have output size {output}: kernel extent {axis.extent}, "
                    f"{detail} size {size if axis.transposed else size + sum(axis.padding)}",
                    need="kernel extent <= padded input size" if not axis.transposed else "output size >= 1",
                    fix=f"padding={axis.extent // 2}" if not axis.transposed else "less padding",
                    at=self.text(shape),
                )
            if output > LIMIT:
                raise ShapeError(
                    f"spatial axis {index} would have output size {output}",
                    need=f"at most {LIMIT}",
                    at=self.text(shape),
                )
        return shape

    def _take_shape(self, shape: Sequence[int]) -> Shape:
        """An input shape of the rank of this layer, in Python's integers."""
        return take_shape(shape, self.in_channels, self.dims, self.text)

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Output shape ``(N, out_channels, *spatial)`` for an input of ``shape``; sizes follow :class:`Axis`.

        Raises:
            ShapeError: see :meth:`check_input`.
        """
        shape = self.check_input(shape)
        sizes = (axis.infer_output(size) for axis, size in zip(self.resolve(shape).axes(), shape[2:], strict=True))
        return (shape[0], self.out_channels, *sizes)

    def phases(self, shape: Sequence[int]) -> tuple[tuple[Phase, ...], ...]:
        """Per axis, the output phases for an input of ``shape``; the N-D phases are their product."""
        shape = self._take_shape(shape)
        axes = self.resolve(shape).axes()
        return tuple(axis.phases(size) for axis, size in zip(axes, shape[2:], strict=True))

    def count_macs(self, shape: Sequence[int]) -> int:
        """Nominal multiply-accumulates [MAC]: every tap counts, also where it lands in the padding.

        Output positions times taps times channels; for a transposed convolution input positions times taps times
        channels, since there each input meets every tap once.
        """
        shape = self.check_input(shape)
        result = self.output_shape(shape)
        positions = math.prod(shape[2:]) if self.transposed else math.prod(result[2:])
        return shape[0] * positions * math.prod(self.weight_shape)

    def adjoint(self, shape: Sequence[int]) -> Conv:
        r"""The layer :math:`A^*` with :math:`\langle A x, y \rangle = \langle x, A^* y \rangle` and the same ``w``.

        The adjoint of a convolution is a transposed convolution and the other way round; it maps the output shape of
        ``shape`` back to ``shape``, and it is the backward pass of this layer with respect to its input.

        Raises:
            UnsupportedError: padding modes other than zeros, whose adjoint folds the border and is no `Conv`.
        """
        shape = self.check_input(shape)
        if self.padding_mode != "zeros":
            raise UnsupportedError(
                f"adjoint of padding_mode={self.padding_mode!r}", need='padding_mode="zeros"', at=self.text(shape)
            )
        spec = self.resolve(shape)
        mirrored = replace(
            spec, in_channels=spec.out_channels, out_channels=spec.in_channels, transposed=False, output_padding=()
        )
        if spec.transposed:
            # Trailing output padding of a stride or more would add outputs: take it off the padding after.
            pairs = tuple(
                (axis.padding[0], axis.padding[1] - (axis.output_padding if axis.output_padding >= axis.stride else 0))
                for axis in spec.axes()
            )
            if any(after < 0 for _, after in pairs):
                raise UnsupportedError(
                    f"adjoint of output_padding={self.output_padding} with stride={self.stride}",
                    need="output_padding < stride, or no more than the padding after",
                    at=self.text(shape),
                )
            return replace(mirrored, padding=pairs)
        sizes = spec.output_shape(shape)[2:]
        surplus = tuple(
            size - ((out - 1) * axis.stride + axis.extent - sum(axis.padding))
            for size, out, axis in zip(shape[2:], sizes, spec.axes(), strict=True)
        )
        return replace(mirrored, transposed=True, output_padding=surplus)

    def text(self, shape: Sequence[int] | None = None) -> str:
        """The one-line problem text; see :mod:`omniconv.spec.text`."""
        from omniconv.spec.text import format_conv

        return format_conv(self, shape)

    def __str__(self) -> str:
        return self.text()


_axis = lru_cache(maxsize=4096)(Axis)
"""Axes that were checked before; layers of a network have few different ones, and are asked for them often."""
