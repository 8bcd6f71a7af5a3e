"""Kind `grouped`: channels in slices that do not see one another."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def grouped(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    groups: int,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Conv:
    """Layers side by side, each on its own slice of the channels.

    Formula:
        y[c, o] = b[c] + sum_{j < in / g, t} x[floor(c g / out) in / g + j, o s + t d - p] w[c, j, t]

        with g groups.

    Use:
        ResNeXt ("cardinality"), AlexNet, RegNet. Information never crosses groups inside the layer, so stacks put a
        pointwise layer or a channel shuffle between (`shuffled_grouped`).

    Legality:
        g divides in_channels and out_channels; otherwise as `cross_correlation`. g = 1 is dense, g = in_channels is
        `depthwise`.

    Cost:
        With O output positions, K taps: K in out / g + out parameters, O K in out / g MAC: 1 / g of the dense layer.

    Example:
        >>> from omniconv.kinds import grouped
        >>> spec = grouped(in_channels=128, out_channels=128, kernel_size=3, groups=32, padding=1)
        >>> spec.weight_shape, spec.output_shape((1, 128, 56, 56))
        ((128, 4, 3, 3), (1, 128, 56, 56))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis.
        groups: number of slices, g.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv`.

    Raises:
        SpecError: groups does not divide the channels.

    Sources:
        A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS
        2012. S. Xie et al.: Aggregated Residual Transformations for Deep Neural Networks, 2016, arXiv:1611.05431.
    """
    return Conv.of(
        in_channels,
        out_channels,
        kernel_size,
        dims=dims,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=groups,
        padding_mode=padding_mode,
    )


KIND = Kind(
    "grouped",
    grouped,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 12, "out_channels": 20, "kernel_size": 3, "groups": 4, "padding": 1}, (2, 12, 6, 5)),
        Sample(
            {"in_channels": 33, "out_channels": 11, "kernel_size": 3, "groups": 11, "stride": 2, "padding": "same"},
            (1, 33, 7, 6),
        ),
        Sample(
            {"in_channels": 34, "out_channels": 6, "kernel_size": 5, "groups": 2, "padding": ((4, 0),)}, (1, 34, 13)
        ),
        Sample(
            {"in_channels": 6, "out_channels": 9, "kernel_size": 2, "groups": 3, "dilation": 3, "dims": 3},
            (1, 6, 4, 5, 4),
        ),
        Sample(
            {
                "in_channels": 15,
                "out_channels": 5,
                "kernel_size": 3,
                "groups": 5,
                "padding": 1,
                "padding_mode": "reflect",
            },
            (1, 15, 2, 5),
        ),
        Sample(
            {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "groups": 8, "padding": 1, "stride": (2, 1)},
            (1, 32, 5, 9),
        ),
        Sample({"in_channels": 3, "out_channels": 5, "kernel_size": 3, "groups": 1}, (1, 3, 3, 3)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 12, "out_channels": 20, "kernel_size": 3, "groups": 5},
            None,
            SpecError,
            r"groups=5 does not divide in_channels=12; need .*, e.g. groups=2 or groups=4",
        ),
        ErrorSample(
            {"in_channels": 12, "out_channels": 20, "kernel_size": 3, "groups": 6},
            None,
            SpecError,
            r"groups=6 does not divide out_channels=20",
        ),
        ErrorSample(
            {"in_channels": 12, "out_channels": 20, "kernel_size": 3, "groups": 0},
            None,
            SpecError,
            r"groups=0 is out of range",
        ),
        ErrorSample(
            {"in_channels": 12, "out_channels": 20, "kernel_size": 3, "groups": 4},
            (1, 3, 8, 8),
            ShapeError,
            r"has 3 channels; need in_channels=12",
        ),
    ),
)
