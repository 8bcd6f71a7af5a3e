"""Kind `spatially_separable`: an N-D kernel as a product of 1-D kernels."""

from __future__ import annotations

from omniconv.choices import as_choice
from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.arguments import name_axes, restrict
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Chain, Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike

FORMS = ("per_channel", "dense")


def spatially_separable(
    in_channels: int,
    out_channels: int | None = None,
    kernel_size: IntOrTuple = 3,
    *,
    form: str = "per_channel",
    mid_channels: int | None = None,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Chain:
    """One 1-D filter for each axis in turn, in place of one N-D kernel; no activation between.

    Formula:
        per channel:  y[c, o1, o2] = b[c] + sum_{t2} (sum_{t1} x[c, o1 + t1, o2 + t2] u[c, t1]) v[c, t2]
        dense:        y[c, o1, o2] = b[c] + sum_{i, t2} (sum_{j, t1} x[j, o1 + t1, o2 + t2] u[i, j, t1]) v[c, i, t2]

        written for two axes with stride and dilation 1; i runs over the middle channels.

    Use:
        Kernels of low rank: blurs, Sobel and Gabor filters, and compressed networks. The per-channel form is a
        depthwise kernel of rank 1; the dense form approximates a dense layer, mid_channels being the rank that
        is kept.

    Legality:
        The per-channel form keeps the number of channels. Every axis takes its own stride, dilation and padding, in its
        own step. Separable filtering commutes with zero, reflected, replicated and circular padding.

    Cost:
        With k taps an axis, n axes, O output positions an axis step: per channel in (k + 1) n parameters and about
        O k n in MAC, against O k^n in; dense with two axes k mid (in + out) + mid + out parameters and about
        O k mid (in + out) MAC, against O k^2 in out.

    Example:
        >>> from omniconv.kinds import spatially_separable
        >>> spec = spatially_separable(in_channels=16, kernel_size=5, padding=2)
        >>> spec.weight_shapes, spec.output_shape((1, 16, 28, 28))
        (((16, 1, 5, 1), (16, 1, 1, 5)), (1, 16, 28, 28))

    Args:
        in_channels: channels of x.
        out_channels: channels of y; default in_channels.
        kernel_size: taps on each axis.
        form: "per_channel" or "dense".
        mid_channels: dense form only: channels between the steps; default out_channels.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        A `Chain` with one step for each axis, first axis first.

    Raises:
        SpecError: the per-channel form with other channel counts, an unknown form.

    Sources:
        R. Rigamonti, A. Sironi, V. Lepetit, P. Fua: Learning Separable Filters, CVPR 2013.
        M. Jaderberg, A. Vedaldi, A. Zisserman: Speeding up Convolutional Neural Networks with Low Rank Expansions,
        2014, arXiv:1405.3866.
    """
    channels = as_integer("in_channels", in_channels)
    last = channels if out_channels is None else as_integer("out_channels", out_channels)
    whole = Conv.of(
        channels,
        last,
        kernel_size,
        dims=dims,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=padding_mode,
    )
    as_choice("form", form, FORMS)
    if form == "per_channel":
        if last != channels or (mid_channels is not None and as_integer("mid_channels", mid_channels) != channels):
            raise SpecError(
                f'form="per_channel" with in_channels={channels}, mid_channels={mid_channels}, out_channels={last}',
                need="equal channel counts",
                fix='form="dense"',
            )
        return Chain(tuple(restrict(whole, (a,), channels, channels, channels) for a in range(whole.dims)))
    mid = last if mid_channels is None else as_integer("mid_channels", mid_channels)
    widths = [channels, *[mid] * (whole.dims - 1), last]
    return Chain(tuple(restrict(whole, (a,), widths[a], widths[a + 1]) for a in range(whole.dims)))


KIND = Kind(
    "spatially_separable",
    spatially_separable,
    traits=frozenset({"chain"}),
    names=name_axes,
    samples=(
        Sample({"in_channels": 17, "kernel_size": 5, "padding": 2}, (2, 17, 7, 6)),
        Sample({"in_channels": 3, "kernel_size": (2, 4), "stride": (2, 1), "padding": ((1, 0), (0, 3))}, (1, 3, 7, 5)),
        Sample(
            {
                "in_channels": 5,
                "out_channels": 9,
                "kernel_size": 3,
                "form": "dense",
                "mid_channels": 2,
                "stride": 2,
                "padding": "same",
            },
            (1, 5, 8, 7),
        ),
        Sample(
            {"in_channels": 3, "out_channels": 4, "kernel_size": (3, 2, 5), "form": "dense", "padding": "same_lower"},
            (1, 3, 4, 3, 5),
        ),
        Sample(
            {"in_channels": 5, "kernel_size": 3, "dilation": 2, "padding": 2, "padding_mode": "circular", "dims": 3},
            (1, 5, 4, 3, 5),
        ),
        Sample({"in_channels": 3, "out_channels": 3, "kernel_size": 7, "padding": "causal", "dims": 1}, (2, 3, 11)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 8},
            None,
            SpecError,
            r"in_channels=4, mid_channels=None, out_channels=8; need equal channel counts, e.g. form=\"dense\"",
        ),
        ErrorSample(
            {"in_channels": 4, "form": "sparse"},
            None,
            SpecError,
            r"form='sparse' is unknown; need one of per_channel, dense",
        ),
        ErrorSample(
            {"in_channels": 4, "kernel_size": 5}, (1, 4, 8, 4), ShapeError, r"spatial axis 1 would have output size 0"
        ),
    ),
)
