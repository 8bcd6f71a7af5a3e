"""Kind `resize_conv`: enlarge, then convolve."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.cross_correlation import cross_correlation
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Chain, Resize
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def resize_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    factor: int = 2,
    mode: str = "nearest",
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    groups: int = 1,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Chain:
    """Enlarge by nearest-neighbour or linear interpolation, then convolve: upsampling without a checkerboard.

    Formula:
        h[j, o] = x[j, floor(o / f)] (nearest), or x interpolated at (o + 1/2) / f - 1/2, clamped (linear)
        y = conv(h)

    Use:
        Decoders and generators in place of a transposed convolution: every output position sees equally many taps.

    Legality:
        factor >= 1; otherwise as `cross_correlation` on the enlarged input.

    Cost:
        With O = f^n I output positions: K (in / groups) out + out parameters, O K (in / groups) out MAC, f^n times what
        the same kernel costs before enlarging. Nearest resizing copies, linear costs 2^n MAC a value.

    Example:
        >>> from omniconv.kinds import resize_conv
        >>> spec = resize_conv(in_channels=64, out_channels=32, kernel_size=3, factor=2, padding=1)
        >>> spec.output_shape((1, 64, 16, 16))
        (1, 32, 32, 32)

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis, at the enlarged resolution.
        factor: enlargement of every axis, f.
        mode: "nearest" or "linear" (half-pixel centres).
        dilation: after enlarging: distance of neighbouring taps [input positions]; 1 is dense.
        padding: after enlarging: as for `cross_correlation`.
        groups: after enlarging: number of slices of the channels that do not see one another.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        A `Chain`: `Resize`, convolution.

    Raises:
        SpecError: an unknown mode, a factor below 1, otherwise as `cross_correlation`.

    Sources:
        A. Odena, V. Dumoulin, C. Olah: Deconvolution and Checkerboard Artifacts, Distill, 2016.
    """
    conv = cross_correlation(
        in_channels,
        out_channels,
        kernel_size,
        dilation=dilation,
        padding=padding,
        groups=groups,
        padding_mode=padding_mode,
        dims=dims,
    )
    return Chain((Resize(as_integer("factor", factor), mode), conv))


KIND = Kind(
    "resize_conv",
    resize_conv,
    traits=frozenset({"chain", "upsamples"}),
    names=("convolution",),
    samples=(
        Sample({"in_channels": 5, "out_channels": 3, "kernel_size": 3, "padding": 1}, (2, 5, 4, 3)),
        Sample(
            {"in_channels": 3, "out_channels": 17, "kernel_size": 2, "factor": 3, "mode": "linear", "padding": "same"},
            (1, 3, 3, 2),
        ),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 2,
                "kernel_size": 5,
                "factor": 2,
                "mode": "linear",
                "padding": ((0, 4),),
                "groups": 2,
            },
            (1, 4, 5),
        ),
        Sample(
            {"in_channels": 1, "out_channels": 3, "kernel_size": 3, "mode": "linear", "padding": 1, "dims": 3},
            (1, 1, 2, 1, 3),
        ),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 3,
                "kernel_size": 3,
                "padding": 1,
                "padding_mode": "replicate",
                "dilation": (1, 2),
            },
            (1, 3, 2, 4),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "mode": "cubic"},
            None,
            SpecError,
            r"resize mode='cubic' is unknown; need one of nearest, linear",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 3, "kernel_size": 3, "factor": 0},
            None,
            SpecError,
            r"factor=0 is out of range",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 3, "kernel_size": 5},
            (1, 4, 2, 9),
            ShapeError,
            r"kernel extent 5, padded input size 4",
        ),
    ),
)
