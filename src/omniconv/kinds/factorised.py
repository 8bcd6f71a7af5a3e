"""Kind `factorised`: (2+1)D, space and time apart."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.arguments import restrict, steps_of
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain, Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike, resolve_dims


def factorised(
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
    """A space-time kernel as a spatial layer followed by a temporal one: (2+1)D, or (1+1)D with two axes.

    Formula:
        h[i, z, o] = f(a[i] + sum_{j, t} x[j, z, o s + t d - p] u[i, j, t])
        y[c, z, o] = b[c] + sum_{i, r} h[i, z s0 + r d0 - p0, o] v[c, i, r]

        z is the first axis (time), o stands for the other axes (space).

    Use:
        Video networks: R(2+1)D, S3D, P3D. At equal size it is easier to train than the full 3-D kernel and has one
        more activation.

    Legality:
        Two or three axes, the first of which is time.

    Cost:
        With T temporal and K spatial taps, M middle channels, biases left out: M (K in + T out) parameters. The default
        M is the largest with no more parameters than the full layer, floor(T K in out / (K in + T out)), and at least
        1.

    Example:
        >>> from omniconv.kinds import factorised
        >>> spec = factorised(in_channels=64, out_channels=64, kernel_size=3, padding=1, activation="relu")
        >>> spec.weight_shapes, spec.output_shape((1, 64, 8, 28, 28))
        (((144, 64, 1, 3, 3), (64, 144, 3, 1, 1)), (1, 64, 8, 28, 28))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis, time first.
        mid_channels: channels between the steps, M; default: see Cost.
        stride: time first: distance of neighbouring outputs [input positions].
        dilation: time first: distance of neighbouring taps [input positions]; 1 is dense.
        padding: time first: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        activation: between the steps.
        dims: 2 or 3 axes; default: what the tuples say, else 3.

    Returns:
        A `Chain`: spatial, activation, temporal.

    Raises:
        SpecError: one axis only, a value out of range, an unknown activation.

    Sources:
        D. Tran et al.: A Closer Look at Spatiotemporal Convolutions for Action Recognition, 2017, arXiv:1711.11248.
    """
    rank = resolve_dims(dims, kernel_size, stride, dilation, padding, default=3)
    if rank == 1:
        raise SpecError("dims=1 has no spatial axis beside time", need="dims=2 or dims=3")
    whole = Conv.of(
        in_channels,
        out_channels,
        kernel_size,
        dims=rank,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=padding_mode,
    )
    space = range(1, rank)
    if mid_channels is None:
        temporal_taps, spatial_taps = whole.kernel_size[0], 1
        for k in whole.kernel_size[1:]:
            spatial_taps *= k
        full = temporal_taps * spatial_taps * whole.in_channels * whole.out_channels
        mid = max(1, full // (spatial_taps * whole.in_channels + temporal_taps * whole.out_channels))
    else:
        mid = as_integer("mid_channels", mid_channels)
    return Chain(
        (
            restrict(whole, space, whole.in_channels, mid),
            *steps_of(activation),
            restrict(whole, (0,), mid, whole.out_channels),
        )
    )


KIND = Kind(
    "factorised",
    factorised,
    traits=frozenset({"chain"}),
    names=("spatial", "temporal"),
    samples=(
        Sample(
            {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1, "activation": "relu"}, (2, 3, 3, 5, 4)
        ),
        Sample(
            {"in_channels": 1, "out_channels": 3, "kernel_size": (2, 3, 1), "stride": (1, 2, 2), "padding": "same"},
            (1, 1, 4, 5, 6),
        ),
        Sample(
            {
                "in_channels": 17,
                "out_channels": 3,
                "kernel_size": (3, 5),
                "padding": ((2, 0), (1, 3)),
                "mid_channels": 4,
            },
            (1, 17, 5, 7),
        ),
        Sample(
            {
                "in_channels": 5,
                "out_channels": 4,
                "kernel_size": 3,
                "dilation": (1, 2),
                "padding": (1, 2),
                "padding_mode": "replicate",
            },
            (1, 5, 2, 6),
        ),
        Sample({"in_channels": 2, "out_channels": 3, "kernel_size": 1}, (1, 2, 2, 3, 2)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "dims": 1},
            None,
            SpecError,
            r"dims=1 has no spatial axis beside time; need dims=2 or dims=3",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
            (1, 4, 8, 8),
            ShapeError,
            r"has rank 4; need \(N, C, \*spatial\) of rank 5",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
            (1, 4, 2, 8, 8),
            ShapeError,
            r"spatial axis 0 would have output size 0",
        ),
    ),
)
