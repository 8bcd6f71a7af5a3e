"""Kind `dilated`: taps with gaps between them (atrous convolution)."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def dilated(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    dilation: IntOrTuple = 2,
    stride: IntOrTuple = 1,
    padding: PaddingLike = 0,
    groups: int = 1,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Conv:
    """A kernel whose taps lie d positions apart: it sees further at the same cost.

    Formula:
        y[c, o] = b[c] + sum_{j, t} x[j, o s + t d - p] w[c, j, t]

        The kernel spans e = d (k - 1) + 1 positions.

    Use:
        Dense prediction (DeepLab, context networks) and sequences (WaveNet, TCN): the receptive field of a stack with
        dilations 1, 2, 4, ... grows exponentially while resolution and cost per layer stay. A stack with equal
        dilations, or dilations with a common divisor, sees only a lattice of its input (gridding).

    Legality:
        As `cross_correlation`; d is at least 1, and 1 is dense.

    Cost:
        That of the dense kernel with the same number of taps: K (in / groups) out + out parameters, O K (in / groups)
        out MAC.

    Example:
        >>> from omniconv.kinds import dilated
        >>> spec = dilated(in_channels=256, out_channels=256, kernel_size=3, dilation=4, padding=4)
        >>> spec.label, spec.axes()[0].extent, spec.output_shape((1, 256, 33, 33))
        ('dilated', 9, (1, 256, 33, 33))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis.
        dilation: distance of neighbouring taps [input positions].
        stride: distance of neighbouring outputs [input positions].
        padding: as for `cross_correlation`.
        groups: number of slices of the channels that do not see one another.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv`.

    Raises:
        SpecError: a broken rule, see Legality.

    Sources:
        F. Yu, V. Koltun: Multi-Scale Context Aggregation by Dilated Convolutions, 2015, arXiv:1511.07122.
        L.-C. Chen et al.: Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, arXiv:1706.05587.
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
    "dilated",
    dilated,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 3, "out_channels": 5, "kernel_size": 3, "dilation": 2, "padding": 2}, (2, 3, 9, 7)),
        Sample(
            {"in_channels": 5, "out_channels": 3, "kernel_size": 3, "dilation": (1, 4), "padding": (1, 4)}, (1, 5, 3, 5)
        ),
        Sample(
            {"in_channels": 17, "out_channels": 8, "kernel_size": 2, "dilation": 8, "padding": "causal", "dims": 1},
            (1, 17, 33),
        ),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 6,
                "kernel_size": 3,
                "dilation": 3,
                "stride": 2,
                "padding": "same",
                "groups": 2,
            },
            (1, 4, 11, 8),
        ),
        Sample(
            {"in_channels": 1, "out_channels": 3, "kernel_size": 3, "dilation": (1, 2, 3), "padding": (1, 2, 3)},
            (1, 1, 3, 4, 5),
        ),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 3,
                "kernel_size": 3,
                "dilation": 4,
                "padding": 4,
                "padding_mode": "circular",
            },
            (1, 3, 4, 6),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "dilation": 0},
            None,
            SpecError,
            r"dilation=0 is out of range",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "dilation": (2, 2, 2), "dims": 1},
            None,
            SpecError,
            r"dilation=\(2, 2, 2\) has 3 values",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "dilation": 4},
            (1, 3, 8, 8),
            ShapeError,
            r"kernel extent 9, padded input size 8; need kernel extent <= padded",
        ),
    ),
)
