"""Kind `cross_correlation`: what deep learning libraries call a convolution."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def cross_correlation(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    groups: int = 1,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Conv:
    """The standard layer of deep learning: a kernel slides over the input, its taps in their own order.

    Formula:
        y[c, o] = b[c] + sum_{j, t} x[j, o s + t d - p] w[c, j, t]

        with kernel size k, stride s, dilation d and padding p before, on every axis alike.

    Use:
        The default everywhere. It is ``torch.nn.Conv2d`` and ONNX ``Conv``; all other kinds are restrictions or
        compositions of it.

    Legality:
        groups divides in_channels and out_channels. The dilated kernel, d (k - 1) + 1 positions, fits into the padded
        input. Reflected padding is smaller than the input, circular padding no larger.

    Cost:
        With O output positions, K = product of k: K (in / groups) out + out parameters, and O K (in / groups) out MAC.

    Example:
        >>> from omniconv.kinds import cross_correlation
        >>> spec = cross_correlation(in_channels=64, out_channels=128, kernel_size=3, stride=2, padding=1)
        >>> spec.weight_shape, spec.output_shape((1, 64, 56, 56))
        ((128, 64, 3, 3), (1, 128, 28, 28))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: an integer, one an axis, one (before, after) pair an axis, "valid", "same", "same_lower" or "causal".
        groups: number of slices of the channels that do not see one another.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv`.

    Raises:
        SpecError: a broken rule, see Legality.

    Sources:
        Y. LeCun et al.: Backpropagation Applied to Handwritten Zip Code Recognition, Neural Computation 1(4), 1989.
        V. Dumoulin, F. Visin: A guide to convolution arithmetic for deep learning, 2016, arXiv:1603.07285.
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
    "cross_correlation",
    cross_correlation,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 3, "out_channels": 17, "kernel_size": 3, "padding": 1}, (2, 3, 9, 7)),
        Sample({"in_channels": 5, "out_channels": 33, "kernel_size": (1, 5), "stride": (1, 3)}, (1, 5, 3, 17)),
        Sample(
            {"in_channels": 33, "out_channels": 1, "kernel_size": 7, "stride": 4, "padding": 3, "dims": 1}, (2, 33, 31)
        ),
        Sample({"in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": ((0, 3), (5, 1))}, (1, 3, 4, 5)),
        Sample(
            {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": "same_lower", "dims": 3},
            (1, 2, 4, 5, 6),
        ),
        Sample(
            {"in_channels": 3, "out_channels": 5, "kernel_size": 5, "padding": 2, "padding_mode": "reflect"},
            (1, 3, 3, 6),
        ),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 2,
                "kernel_size": 4,
                "padding": 3,
                "padding_mode": "replicate",
                "stride": 3,
            },
            (2, 3, 2, 7),
        ),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 2,
                "kernel_size": 3,
                "padding": ((1, 2), (4, 0), (0, 3)),
                "padding_mode": "circular",
                "groups": 2,
            },
            (1, 4, 3, 4, 5),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 64, "out_channels": 96, "kernel_size": 3, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide in_channels=64; need in_channels % groups == 0, e.g. groups=2 or groups=4 \|",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": "full"},
            None,
            SpecError,
            r"padding='full' is unknown",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "padding": 1, "padding_mode": "mirror"},
            None,
            SpecError,
            r"padding_mode='mirror' is unknown",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3},
            (1, 4, 8, 8),
            ShapeError,
            r"has 4 channels; need in_channels=3 on axis 1",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "dims": 1},
            (1, 3, 8, 8),
            ShapeError,
            r"has rank 4; need \(N, C, \*spatial\) of rank 3",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 9, "padding": 4, "padding_mode": "reflect"},
            (1, 3, 4, 9),
            ShapeError,
            r"reflect padding \(4, 4\) on spatial axis 0 of size 4; need at most 3",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3},
            (1, 3, 0, 8),
            ShapeError,
            r"empty, negative or absurd",
        ),
    ),
)
