"""Kind `shuffled_grouped`: grouped layers with a channel shuffle between."""

from __future__ import annotations

from omniconv.choices import as_choice
from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer, ceil_div
from omniconv.kinds.arguments import steps_of
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.grouped import grouped
from omniconv.kinds.pointwise_grouped import pointwise_grouped
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain, ChainStep, Shuffle
from omniconv.spec.arguments import IntOrTuple, PaddingLike, resolve_dims

FORMS = ("unit", "layers")


def shuffled_grouped(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple = 3,
    *,
    groups: int,
    form: str = "unit",
    mid_channels: int | None = None,
    second_groups: int | None = None,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    activation: Activation | str | None = None,
    dims: int | None = None,
) -> Chain:
    """Two grouped layers with a channel shuffle between, so that every output can see every input channel.

    Formula:
        shuffle: h'[i g + l] = h[l M / g + i] for l < g, i < M / g (view M channels as g x M / g and transpose)
        unit:    pointwise in g groups, f, shuffle, depthwise k, pointwise in g2 groups
        layers:  grouped k in g groups, f, shuffle, pointwise in g2 groups

    Use:
        Unit is the residual branch of ShuffleNet; layers is the general two-layer form (interleaved group
        convolutions). The shuffle itself is a permutation of the channel map and is never a copy.

    Legality:
        groups divides in_channels and mid_channels, second_groups divides mid_channels and out_channels. Every output
        channel sees every input channel exactly when g g2 <= mid_channels.

    Cost:
        With I input and O output positions, M middle channels, K taps, biases left out: unit in M / g + K M + M out /
        g2 parameters and I in M / g + O K M + O M out / g2 MAC; layers K in M / g + M out / g2 parameters and
        O (K in M / g + M out / g2) MAC.

    Example:
        >>> from omniconv.kinds import shuffled_grouped
        >>> spec = shuffled_grouped(in_channels=24, out_channels=48, kernel_size=3, groups=3, stride=2, padding=1)
        >>> spec.weight_shapes, spec.output_shape((1, 24, 28, 28))
        (((12, 8, 1, 1), (12, 1, 3, 3), (48, 4, 1, 1)), (1, 48, 14, 14))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis of the depthwise (unit) or the first grouped step (layers).
        groups: groups of the first step and of the shuffle, g.
        form: "unit" or "layers".
        mid_channels: channels between the grouped steps, M; default out_channels / 4, rounded up to a multiple of
            groups (unit), or out_channels (layers).
        second_groups: groups of the last step, g2; default groups.
        stride: of the step with the kernel: distance of neighbouring outputs [input positions].
        dilation: of the step with the kernel: distance of neighbouring taps [input positions]; 1 is dense.
        padding: of the step with the kernel: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        activation: after the first step.

    Returns:
        A `Chain`.

    Raises:
        SpecError: groups that do not divide the channels, an unknown form or activation.

    Sources:
        X. Zhang, X. Zhou, M. Lin, J. Sun: ShuffleNet, 2017, arXiv:1707.01083.
        T. Zhang, G.-J. Qi, B. Xiao, J. Wang: Interleaved Group Convolutions, 2017, arXiv:1707.02725.
    """
    as_choice("form", form, FORMS)
    first, last = as_integer("groups", groups), as_integer("out_channels", out_channels)
    second = first if second_groups is None else as_integer("second_groups", second_groups)
    if mid_channels is not None:
        mid = as_integer("mid_channels", mid_channels)
    else:
        mid = ceil_div(last, 4 * first) * first if form == "unit" else last
    axes = resolve_dims(dims, kernel_size, stride, dilation, padding)
    between: tuple[ChainStep, ...] = (*steps_of(activation), Shuffle(first))
    expand = pointwise_grouped(mid, last, groups=second, dims=axes)
    if form == "layers":
        spatial = grouped(
            in_channels,
            mid,
            kernel_size,
            groups=first,
            stride=stride,
            dilation=dilation,
            padding=padding,
            padding_mode=padding_mode,
            dims=axes,
        )
        return Chain((spatial, *between, expand))
    reduce = pointwise_grouped(in_channels, mid, groups=first, dims=axes)
    spatial = depthwise(
        mid, kernel_size, stride=stride, dilation=dilation, padding=padding, padding_mode=padding_mode, dims=axes
    )
    return Chain((reduce, *between, spatial, expand))


KIND = Kind(
    "shuffled_grouped",
    shuffled_grouped,
    traits=frozenset({"chain"}),
    names=lambda chain: ("reduce", "depthwise", "expand") if len(chain.convs) == 3 else ("grouped", "pointwise"),
    samples=(
        Sample({"in_channels": 24, "out_channels": 36, "groups": 3, "padding": 1, "activation": "relu"}, (2, 24, 5, 6)),
        Sample({"in_channels": 6, "out_channels": 34, "groups": 2, "stride": 2, "padding": "same"}, (1, 6, 7, 8)),
        Sample(
            {
                "in_channels": 15,
                "out_channels": 9,
                "kernel_size": 3,
                "groups": 5,
                "second_groups": 3,
                "mid_channels": 15,
                "form": "layers",
                "padding": 1,
            },
            (1, 15, 5, 4),
        ),
        Sample(
            {"in_channels": 4, "out_channels": 12, "kernel_size": 5, "groups": 2, "dilation": 2, "padding": ((8, 0),)},
            (1, 4, 13),
        ),
        Sample(
            {
                "in_channels": 8,
                "out_channels": 8,
                "kernel_size": 2,
                "groups": 4,
                "form": "layers",
                "padding": "same_lower",
                "dims": 3,
            },
            (1, 8, 3, 2, 4),
        ),
        Sample(
            {"in_channels": 3, "out_channels": 5, "groups": 1, "padding": 1, "padding_mode": "circular"}, (1, 3, 4, 5)
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 25, "out_channels": 36, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide in_channels=25",
        ),
        ErrorSample(
            {"in_channels": 24, "out_channels": 40, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide out_channels=40",
        ),
        ErrorSample(
            {"in_channels": 24, "out_channels": 36, "groups": 3, "form": "cell"},
            None,
            SpecError,
            r"form='cell' is unknown; need one of unit, layers",
        ),
        ErrorSample(
            {"in_channels": 24, "out_channels": 36, "groups": 3},
            (1, 12, 5, 5),
            ShapeError,
            r"has 12 channels; need in_channels=24",
        ),
    ),
)
