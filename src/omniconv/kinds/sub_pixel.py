"""Kind `sub_pixel`: a convolution, then a pixel shuffle."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.arguments import steps_of
from omniconv.kinds.cross_correlation import cross_correlation
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain, PixelShuffle
from omniconv.spec.arguments import IntOrTuple, PaddingLike, resolve_dims


def sub_pixel(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    factor: int = 2,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    groups: int = 1,
    padding_mode: str = "zeros",
    activation: Activation | str | None = None,
    dims: int | None = None,
) -> Chain:
    """A convolution at low resolution whose channels are laid out as the pixels of a larger output.

    Formula:
        y[c, q f + r] = h[c f^n + r, q], h = conv(x) with out f^n channels

        for n axes; r < f on every axis, counted row-major.

    Use:
        The last layer of super-resolution networks and efficient decoders. It can represent every transposed
        convolution with stride f, at no overlap between kernels and so without the checkerboard of uneven overlap.

    Legality:
        factor >= 1; groups divides in_channels and out_channels f^n.

    Cost:
        With I low-resolution output positions: K (in / groups) out f^n + out f^n parameters, I K (in / groups) out f^n
        MAC. The shuffle moves values only.

    Example:
        >>> from omniconv.kinds import sub_pixel
        >>> spec = sub_pixel(in_channels=64, out_channels=3, kernel_size=3, factor=4, padding=1)
        >>> spec.weight_shapes, spec.output_shape((1, 64, 30, 40))
        (((48, 64, 3, 3),), (1, 3, 120, 160))

    Args:
        in_channels: channels of x.
        out_channels: channels of y, after the shuffle.
        kernel_size: taps on each axis.
        factor: enlargement of every axis, f.
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        groups: number of slices of the channels that do not see one another.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        activation: between the convolution and the shuffle.

    Returns:
        A `Chain`: convolution, activation, `PixelShuffle`.

    Raises:
        SpecError: a broken rule, see Legality.

    Sources:
        W. Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
        Neural Network, 2016, arXiv:1609.05158.
    """
    rank = resolve_dims(dims, kernel_size, dilation, padding)
    enlarged = as_integer("out_channels", out_channels) * as_integer("factor", factor) ** rank
    conv = cross_correlation(
        in_channels,
        enlarged,
        kernel_size,
        dilation=dilation,
        padding=padding,
        groups=groups,
        padding_mode=padding_mode,
        dims=rank,
    )
    return Chain((conv, *steps_of(activation), PixelShuffle(factor)))


KIND = Kind(
    "sub_pixel",
    sub_pixel,
    traits=frozenset({"chain", "upsamples"}),
    names=("convolution",),
    samples=(
        Sample({"in_channels": 5, "out_channels": 3, "kernel_size": 3, "padding": 1}, (2, 5, 5, 4)),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 1,
                "kernel_size": 5,
                "factor": 3,
                "padding": "same",
                "activation": "tanh",
            },
            (1, 3, 4, 5),
        ),
        Sample({"in_channels": 17, "out_channels": 3, "kernel_size": 4, "factor": 5, "padding": ((3, 0),)}, (1, 17, 6)),
        Sample({"in_channels": 3, "out_channels": 2, "kernel_size": 2, "dims": 3}, (1, 3, 3, 2, 4)),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 2,
                "kernel_size": 3,
                "padding": 1,
                "groups": 2,
                "padding_mode": "reflect",
            },
            (1, 4, 3, 4),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "factor": 0},
            None,
            SpecError,
            r"factor=0 is out of range",
        ),
        ErrorSample(
            {"in_channels": 9, "out_channels": 2, "kernel_size": 3, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide out_channels=8",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 3, "kernel_size": 3},
            (1, 4, 2, 9),
            ShapeError,
            r"kernel extent 3, padded input size 2",
        ),
    ),
)
