"""Kind `depthwise`: every channel is filtered by itself."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def depthwise(
    in_channels: int,
    kernel_size: IntOrTuple,
    *,
    channel_multiplier: int = 1,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Conv:
    """Every input channel is filtered by itself, by m kernels of its own.

    Formula:
        y[j m + r, o] = b[j m + r] + sum_t x[j, o s + t d - p] w[j m + r, t]

        with the channel multiplier m and r < m.

    Use:
        The spatial half of depthwise separable layers: MobileNet, EfficientNet, ConvNeXt. It does so little
        arithmetic for each value read that memory, not the multiplier, limits most implementations.

    Legality:
        As `cross_correlation` with groups = in_channels; always legal.

    Cost:
        With O output positions: m in (K + 1) parameters, O K m in MAC: 1 / in of the dense layer.

    Example:
        >>> from omniconv.kinds import depthwise
        >>> spec = depthwise(in_channels=32, kernel_size=3, channel_multiplier=2, padding=1)
        >>> spec.weight_shape, spec.output_shape((1, 32, 56, 56))
        ((64, 1, 3, 3), (1, 64, 56, 56))

    Args:
        in_channels: channels of x.
        kernel_size: taps on each axis.
        channel_multiplier: outputs for each input channel, m.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv` with in_channels groups.

    Raises:
        SpecError: a value out of range.

    Sources:
        L. Sifre: Rigid-Motion Scattering for Image Classification, PhD thesis, Ecole Polytechnique, 2014.
        F. Chollet: Xception: Deep Learning with Depthwise Separable Convolutions, 2016, arXiv:1610.02357.
    """
    channels = as_integer("in_channels", in_channels)
    return Conv.of(
        channels,
        channels * as_integer("channel_multiplier", channel_multiplier),
        kernel_size,
        dims=dims,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=channels,
        padding_mode=padding_mode,
    )


KIND = Kind(
    "depthwise",
    depthwise,
    traits=frozenset({"single", "per_channel"}),
    samples=(
        Sample({"in_channels": 33, "kernel_size": 3, "padding": 1}, (2, 33, 9, 7)),
        Sample({"in_channels": 17, "kernel_size": 3, "stride": 2, "padding": "same"}, (1, 17, 8, 9)),
        Sample(
            {"in_channels": 5, "kernel_size": 5, "channel_multiplier": 3, "padding": ((2, 1), (0, 4))}, (1, 5, 6, 5)
        ),
        Sample({"in_channels": 3, "kernel_size": 7, "dilation": 3, "padding": "causal", "dims": 1}, (2, 3, 31)),
        Sample({"in_channels": 1, "kernel_size": 3, "channel_multiplier": 5, "padding": 1}, (1, 1, 5, 4)),
        Sample({"in_channels": 15, "kernel_size": 3, "padding": 1, "stride": (1, 2, 2), "dims": 3}, (1, 15, 3, 5, 4)),
        Sample(
            {"in_channels": 8, "kernel_size": 3, "dilation": 2, "padding": 2, "padding_mode": "replicate"}, (1, 8, 2, 6)
        ),
        Sample({"in_channels": 4, "kernel_size": 31, "padding": "same_lower", "dims": 1}, (1, 4, 40)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 8, "kernel_size": 3, "channel_multiplier": 0},
            None,
            SpecError,
            r"channel_multiplier=0 is out of range",
        ),
        ErrorSample({"in_channels": -8, "kernel_size": 3}, None, SpecError, r"in_channels=-8 is out of range"),
        ErrorSample(
            {"in_channels": 8, "kernel_size": 3}, (1, 16, 8, 8), ShapeError, r"has 16 channels; need in_channels=8"
        ),
    ),
)
