"""Kind `blueprint_separable`: pointwise, then depthwise."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.arguments import steps_of
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.pointwise import pointwise
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain
from omniconv.spec.arguments import IntOrTuple, PaddingLike, resolve_dims


def blueprint_separable(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    mid_channels: int | None = None,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    activation: Activation | str | None = None,
    dims: int | None = None,
) -> Chain:
    """Mix the channels first, then look around: one blueprint kernel for each output channel.

    Formula:
        y[c, o] = b[c] + sum_t (sum_j x[j, o s + t d - p] w[c, j]) v[c, t]

        With mid_channels M the matrix w is itself a product of M x in and out x M (the subspace form).

    Use:
        Efficient networks in place of depthwise separable layers. The kernels of trained dense layers are more alike
        along their input channels than across outputs, which this order models.

    Legality:
        Always legal.

    Cost:
        With I input and O output positions, biases left out: in out + K out parameters, I in out + O K out MAC; the
        subspace form I M (in + out) in place of I in out.

    Example:
        >>> from omniconv.kinds import blueprint_separable
        >>> spec = blueprint_separable(in_channels=32, out_channels=64, kernel_size=3, padding=1)
        >>> spec.weight_shapes, spec.output_shape((1, 32, 56, 56))
        (((64, 32, 1, 1), (64, 1, 3, 3)), (1, 64, 56, 56))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps of the depthwise step on each axis.
        mid_channels: rank of the subspace form; default none (one pointwise step).
        stride: of the depthwise step: distance of neighbouring outputs [input positions].
        dilation: of the depthwise step: distance of neighbouring taps [input positions]; 1 is dense.
        padding: of the depthwise step: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        activation: before the depthwise step.

    Returns:
        A `Chain`: pointwise (or two), activation, depthwise.

    Raises:
        SpecError: a value out of range, an unknown activation.

    Sources:
        D. Haase, M. Amthor: Rethinking Depthwise Separable Convolutions: How Intra-Kernel Correlations Lead to Improved
        MobileNets, 2020, arXiv:2003.13549.
    """
    rank = resolve_dims(dims, kernel_size, stride, dilation, padding)
    if mid_channels is None:
        mixing = [pointwise(in_channels, out_channels, dims=rank)]
    else:
        mixing = [pointwise(in_channels, mid_channels, dims=rank), pointwise(mid_channels, out_channels, dims=rank)]
    spatial = depthwise(
        out_channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=padding_mode,
        dims=rank,
    )
    return Chain((*mixing, *steps_of(activation), spatial))


KIND = Kind(
    "blueprint_separable",
    blueprint_separable,
    traits=frozenset({"chain"}),
    names=lambda chain: (*("pointwise", "expand")[: len(chain.convs) - 1], "depthwise"),
    samples=(
        Sample({"in_channels": 3, "out_channels": 17, "kernel_size": 3, "padding": 1}, (2, 3, 7, 5)),
        Sample(
            {"in_channels": 33, "out_channels": 5, "kernel_size": 5, "mid_channels": 3, "stride": 2, "padding": "same"},
            (1, 33, 6, 7),
        ),
        Sample(
            {"in_channels": 5, "out_channels": 1, "kernel_size": 4, "padding": ((3, 0),), "activation": "tanh"},
            (1, 5, 9),
        ),
        Sample({"in_channels": 1, "out_channels": 3, "kernel_size": (1, 2, 3), "dilation": (1, 2, 1)}, (1, 1, 2, 4, 5)),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 6,
                "kernel_size": 3,
                "padding": 1,
                "padding_mode": "reflect",
                "activation": "hard_swish",
            },
            (1, 4, 4, 5),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "mid_channels": 0},
            None,
            SpecError,
            r"out_channels=0 is out of range",
        ),
        ErrorSample(
            {"in_channels": 8, "out_channels": 8, "kernel_size": 3},
            (1, 8, 9, 2),
            ShapeError,
            r"spatial axis 1 would have output size 0",
        ),
    ),
)
