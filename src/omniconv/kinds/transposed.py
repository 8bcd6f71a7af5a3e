"""Kind `transposed`: the adjoint of a convolution, which enlarges its input."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def transposed(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    stride: IntOrTuple = 2,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    flip: bool = False,
    dims: int | None = None,
) -> Conv:
    """Every input position spreads a weighted kernel over the output; the output is about s times as large.

    Formula:
        y[c, i s + t d - p] += x[j, i] w[j, c, t], and b[c] added to every position

        Output size (n - 1) s + d (k - 1) + 1 - (padding before + after) + output_padding. The outputs fall into s
        phases an axis; each phase is an ordinary convolution with the taps of its own.

    Use:
        Decoders, generators and super-resolution ("deconvolution", "fractionally strided"), and the backward pass of
        every convolution. The phases have equal numbers of taps, and so no checkerboard pattern, exactly when s
        divides k and gcd(d, s) = 1; a kernel smaller than its stride leaves outputs that hold the bias alone.

    Legality:
        groups divides both channel counts, output_padding < max(s, d), padding crops (zeros only) and leaves at least
        one output. "same" means output = input s.

    Cost:
        With I input positions: K in (out / groups) + out parameters, I K in (out / groups) MAC.

    Example:
        >>> from omniconv.kinds import transposed
        >>> spec = transposed(in_channels=64, out_channels=32, kernel_size=4, stride=2, padding=1)
        >>> spec.weight_shape, spec.output_shape((1, 64, 16, 16))
        ((64, 32, 4, 4), (1, 32, 32, 32))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis.
        stride: distance on the output between the kernels of neighbouring inputs [output positions].
        dilation: distance of neighbouring taps [output positions].
        padding: positions cropped from the output; an integer, one an axis, pairs, "valid", "same", "same_lower" or
            "causal" (the surplus is cropped at the end).
        output_padding: positions added after the last one.
        groups: number of slices of the channels that do not see one another.
        flip: number the taps backwards.
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv` with ``transposed=True``.

    Raises:
        SpecError: a broken rule, see Legality.

    Sources:
        M. Zeiler et al.: Deconvolutional Networks, CVPR 2010.
        A. Odena, V. Dumoulin, C. Olah: Deconvolution and Checkerboard Artifacts, Distill, 2016.
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
        transposed=True,
        output_padding=output_padding,
        flip=flip,
    )


KIND = Kind(
    "transposed",
    transposed,
    traits=frozenset({"single", "upsamples"}),
    samples=(
        Sample({"in_channels": 3, "out_channels": 5, "kernel_size": 4, "padding": 1}, (2, 3, 5, 4)),
        Sample(
            {"in_channels": 17, "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
            (1, 17, 4, 5),
        ),
        Sample(
            {"in_channels": 3, "out_channels": 2, "kernel_size": 2, "stride": 3, "output_padding": (0, 2)}, (1, 3, 4, 3)
        ),
        Sample(
            {"in_channels": 5, "out_channels": 33, "kernel_size": 1, "stride": 4, "padding": "same", "dims": 1},
            (2, 5, 6),
        ),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 6,
                "kernel_size": 4,
                "stride": 2,
                "dilation": 2,
                "padding": ((0, 3), (2, 1)),
                "groups": 2,
            },
            (1, 4, 4, 5),
        ),
        Sample(
            {
                "in_channels": 5,
                "out_channels": 5,
                "kernel_size": (2, 3, 4),
                "stride": (1, 2, 3),
                "padding": (0, 1, 0),
                "groups": 5,
            },
            (1, 5, 2, 3, 3),
        ),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 4,
                "kernel_size": 5,
                "stride": 1,
                "padding": "causal",
                "flip": True,
                "dims": 1,
            },
            (1, 3, 9),
        ),
        Sample(
            {
                "in_channels": 2,
                "out_channels": 3,
                "kernel_size": 2,
                "stride": 1,
                "dilation": 4,
                "output_padding": 3,
                "padding": 3,
            },
            (1, 2, 3, 4),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "stride": 2, "output_padding": 2},
            None,
            SpecError,
            r"output_padding=2 is not below stride=2 or dilation=1; need .*, e.g. output_padding=1",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide out_channels=4",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 2, "padding": 4},
            (1, 3, 3, 3),
            ShapeError,
            r"would have output size -2: kernel extent 2, input size 3; need output size >= 1, e.g. less padding",
        ),
    ),
)
