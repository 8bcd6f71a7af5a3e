"""Kind `mixed`: depthwise with several kernel sizes (MixConv)."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.arguments import each
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Chain, Split
from omniconv.spec.arguments import IntOrTuple, per_axis, resolve_dims

PADDINGS = ("same", "same_lower", "causal")


def mixed(
    in_channels: int,
    kernel_sizes: Sequence[IntOrTuple] = (3, 5, 7),
    *,
    splits: Sequence[int] | None = None,
    channel_multiplier: int = 1,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: str = "same",
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Chain:
    """The channels are split into slices, and each slice is filtered depthwise with its own kernel size.

    Formula:
        y[c, o] = b[c] + sum_{t < k(c)} x[floor(c / m), o s + t d - p(c)] w[c, t]

        with the channel multiplier m; k(c) and p(c) belong to the slice of channel c.

    Use:
        MixNet and other searched mobile networks: small kernels for detail, large kernels for context, in one layer.

    Legality:
        At least one channel for every kernel size; padding by name, so that all slices produce the same size.

    Cost:
        With O output positions: m in_i (K_i + 1) parameters and O m in_i K_i MAC, summed over the slices.

    Example:
        >>> from omniconv.kinds import mixed
        >>> spec = mixed(in_channels=32, kernel_sizes=(3, 5, 7))
        >>> spec.weight_shapes, spec.output_shape((1, 32, 28, 28))
        (((11, 1, 3, 3), (11, 1, 5, 5), (10, 1, 7, 7)), (1, 32, 28, 28))

    Args:
        in_channels: channels of x.
        kernel_sizes: taps of each slice: one integer, or one for each axis.
        splits: channels of each slice; default as equal as possible, larger slices first.
        channel_multiplier: outputs for each input channel, m.
        stride: common to all slices: distance of neighbouring outputs [input positions].
        dilation: common to all slices: distance of neighbouring taps [input positions]; 1 is dense.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        padding: "same", "same_lower" or "causal".

    Returns:
        A `Chain` with one `Split`.

    Raises:
        SpecError: splits that do not add up, more kernel sizes than channels, another padding.

    Sources:
        M. Tan, Q. Le: MixConv: Mixed Depthwise Convolutional Kernels, 2019, arXiv:1907.09595.
    """
    channels = as_integer("in_channels", in_channels)
    kernels = each("kernel_sizes", kernel_sizes)
    slices = len(kernels)
    if not 1 <= slices <= channels:
        raise SpecError(
            f"{slices} kernel sizes and in_channels={channels}", need="a kernel size or more, a channel for each"
        )
    if str(padding) not in PADDINGS:
        raise SpecError(f"padding={padding!r} gives slices of different sizes", need="one of " + ", ".join(PADDINGS))
    widths = tuple(channels // slices + (i < channels % slices) for i in range(slices))
    if splits is not None:
        widths = per_axis("splits", each("splits", splits), slices, 1)
    if sum(widths) != channels:
        raise SpecError(
            f"splits={splits} have the sum {sum(widths)}", need=f"in_channels={channels}", fix="splits=None"
        )
    rank = resolve_dims(dims, *kernels, stride, dilation)
    return Chain(
        (
            Split(
                tuple(
                    depthwise(
                        width,
                        kernel,
                        channel_multiplier=channel_multiplier,
                        stride=stride,
                        dilation=dilation,
                        padding=padding,
                        padding_mode=padding_mode,
                        dims=rank,
                    )
                    for width, kernel in zip(widths, kernels, strict=True)
                )
            ),
        )
    )


def _name_slices(chain: Chain) -> tuple[str, ...]:
    """Each slice by its kernel, and by its number where two have the same."""
    kernels = ["x".join(map(str, conv.kernel_size)) for conv in chain.convs]
    counts = [kernels[:index].count(kernel) for index, kernel in enumerate(kernels, 1)]
    return tuple(
        f"depthwise_{kernel}" + (f"_{count}" if kernels.count(kernel) > 1 else "")
        for kernel, count in zip(kernels, counts, strict=True)
    )


KIND = Kind(
    "mixed",
    mixed,
    traits=frozenset({"chain", "per_channel"}),
    names=_name_slices,
    samples=(
        Sample({"in_channels": 17, "kernel_sizes": (3, 5, 7)}, (2, 17, 7, 8)),
        Sample({"in_channels": 5, "kernel_sizes": (1, 3, 4, 9), "stride": 2}, (1, 5, 9, 6)),
        Sample(
            {
                "in_channels": 3,
                "kernel_sizes": ((3, 1), (1, 5)),
                "splits": (1, 2),
                "channel_multiplier": 3,
                "padding": "same_lower",
            },
            (1, 3, 5, 5),
        ),
        Sample({"in_channels": 33, "kernel_sizes": (2, 4), "dilation": 2, "padding": "causal", "dims": 1}, (1, 33, 11)),
        Sample({"in_channels": 4, "kernel_sizes": (1, 3), "splits": (3, 1), "dims": 3}, (1, 4, 3, 3, 2)),
        Sample({"in_channels": 4, "kernel_sizes": (3, 5), "padding_mode": "reflect"}, (1, 4, 4, 5)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 2, "kernel_sizes": (3, 5, 7)},
            None,
            SpecError,
            r"3 kernel sizes and in_channels=2; need a kernel size or more, a channel for each",
        ),
        ErrorSample(
            {"in_channels": 8, "kernel_sizes": (3, 5), "splits": (4, 5)},
            None,
            SpecError,
            r"splits=\(4, 5\) have the sum 9; need in_channels=8",
        ),
        ErrorSample(
            {"in_channels": 8, "padding": "valid"},
            None,
            SpecError,
            r"padding='valid' gives slices of different sizes; need one of same,",
        ),
        ErrorSample(
            {"in_channels": 8, "kernel_sizes": ()},
            None,
            SpecError,
            r"0 kernel sizes and in_channels=8; need a kernel size or more",
        ),
        ErrorSample({"in_channels": 8}, (1, 9, 8, 8), ShapeError, r"9 channels; need in_channels=8"),
    ),
)
