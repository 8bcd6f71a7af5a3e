"""Kind `pointwise_grouped`: a 1 x 1 convolution in groups."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, resolve_dims


def pointwise_grouped(
    in_channels: int, out_channels: int, *, groups: int, stride: IntOrTuple = 1, dims: int | None = None
) -> Conv:
    """A pointwise layer in g groups: a block-diagonal matrix on the channels, the same at every position.

    Formula:
        y[c, o] = b[c] + sum_{j < in / g} x[floor(c g / out) in / g + j, o s] w[c, j]

    Use:
        Where pointwise layers dominate the cost, as in ShuffleNet and CondenseNet. Something must mix the groups
        afterwards, usually a channel shuffle.

    Legality:
        g divides in_channels and out_channels.

    Cost:
        With O output positions: in out / g + out parameters, O in out / g MAC.

    Example:
        >>> from omniconv.kinds import pointwise_grouped
        >>> spec = pointwise_grouped(in_channels=384, out_channels=96, groups=8)
        >>> spec.weight_shape, spec.output_shape((1, 384, 28, 28))
        ((96, 48, 1, 1), (1, 96, 28, 28))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        groups: number of slices, g.
        stride: distance of neighbouring outputs [input positions].
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv`.

    Raises:
        SpecError: groups does not divide the channels.

    Sources:
        X. Zhang, X. Zhou, M. Lin, J. Sun: ShuffleNet, 2017, arXiv:1707.01083.
    """
    return Conv.of(in_channels, out_channels, 1, dims=resolve_dims(dims, stride), stride=stride, groups=groups)


KIND = Kind(
    "pointwise_grouped",
    pointwise_grouped,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 34, "out_channels": 6, "groups": 2}, (2, 34, 5, 3)),
        Sample({"in_channels": 9, "out_channels": 33, "groups": 3, "dims": 1}, (1, 9, 17)),
        Sample({"in_channels": 5, "out_channels": 15, "groups": 5, "stride": 2}, (1, 5, 7, 6)),
        Sample({"in_channels": 24, "out_channels": 24, "groups": 8, "dims": 3}, (1, 24, 2, 3, 3)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 24, "out_channels": 8, "groups": 3},
            None,
            SpecError,
            r"groups=3 does not divide out_channels=8",
        ),
        ErrorSample({"in_channels": 24, "out_channels": 8, "groups": 4}, (24, 7, 7), ShapeError, r"has rank 3"),
    ),
)
