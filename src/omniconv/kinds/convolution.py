"""Kind `convolution`: the convolution of mathematics, with mirrored taps."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def convolution(
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
    """True convolution: the kernel is mirrored on every axis before it slides.

    Formula:
        y[c, o] = b[c] + sum_{j, t} x[j, o s + t d - p] w[c, j, k - 1 - t]

        with kernel size k, stride s, dilation d and padding p before, on every axis alike; t runs over the k taps and
        j over the input channels (of c's group).

    Use:
        Signal processing, and models whose weights come from it: filter banks, blurs, wavelets. Layers of deep
        learning libraries that are called convolutions are cross-correlations; use `cross_correlation` for those.
        The two differ only in the order of the taps, so a learned layer can be either.

    Legality:
        groups divides in_channels and out_channels. The dilated kernel, d (k - 1) + 1 positions, fits into the padded
        input. Reflected padding is smaller than the input.

    Cost:
        With O output positions, K = product of k: K (in / groups) out + out parameters, and O K (in / groups) out MAC.

    Example:
        >>> from omniconv.kinds import convolution
        >>> spec = convolution(in_channels=1, out_channels=1, kernel_size=5, padding=2, dims=1)
        >>> spec.flip, spec.output_shape((1, 1, 100))
        (True, (1, 1, 100))

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
        One `Conv` with ``flip=True``.

    Raises:
        SpecError: a broken rule, see Legality.

    Sources:
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
        flip=True,
        padding_mode=padding_mode,
    )


KIND = Kind(
    "convolution",
    convolution,
    traits=frozenset({"single", "flips"}),
    samples=(
        Sample({"in_channels": 1, "out_channels": 1, "kernel_size": 5, "padding": 2, "dims": 1}, (1, 1, 17)),
        Sample({"in_channels": 3, "out_channels": 5, "kernel_size": (2, 3), "padding": ((1, 0), (0, 2))}, (2, 3, 7, 9)),
        Sample(
            {"in_channels": 17, "out_channels": 33, "kernel_size": 3, "stride": 2, "padding": "same"}, (1, 17, 8, 7)
        ),
        Sample({"in_channels": 4, "out_channels": 6, "kernel_size": 3, "dilation": (1, 2), "groups": 2}, (1, 4, 5, 9)),
        Sample(
            {"in_channels": 3, "out_channels": 2, "kernel_size": (2, 3, 4), "padding": "same_lower"}, (1, 3, 4, 5, 6)
        ),
        Sample(
            {"in_channels": 2, "out_channels": 3, "kernel_size": 4, "padding": (3, 2), "padding_mode": "reflect"},
            (2, 2, 5, 6),
        ),
    ),
    errors=(
        ErrorSample({"in_channels": 4, "out_channels": 4, "kernel_size": 0}, None, SpecError, r"kernel_size=0 is out"),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": (3, 3, 3), "dims": 2},
            None,
            SpecError,
            r"kernel_size=\(3, 3, 3\) has 3 values; need one, or one for each of 2 axes",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 5},
            (1, 4, 4, 9),
            ShapeError,
            r"kernel extent 5, padded",
        ),
    ),
)
