"""Kind `pointwise`: a 1 x 1 convolution."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, resolve_dims


def pointwise(in_channels: int, out_channels: int, *, stride: IntOrTuple = 1, dims: int | None = None) -> Conv:
    """A linear map of the channels, the same at every position: kernel size 1 on every axis.

    Formula:
        y[c, o] = b[c] + sum_j x[j, o s] w[c, j]

    Use:
        Changing the number of channels: bottlenecks, projections, the second half of every separable kind, the heads
        of segmentation and detection networks. It is a matrix product, positions by channels.

    Legality:
        Always legal. With stride s > 1 only every s-th position is read.

    Cost:
        With O output positions: in out + out parameters, O in out MAC.

    Example:
        >>> from omniconv.kinds import pointwise
        >>> spec = pointwise(in_channels=64, out_channels=256)
        >>> spec.weight_shape, spec.output_shape((1, 64, 56, 56))
        ((256, 64, 1, 1), (1, 256, 56, 56))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        stride: distance of neighbouring outputs [input positions].
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv`.

    Raises:
        SpecError: a value out of range.

    Sources:
        M. Lin, Q. Chen, S. Yan: Network In Network, 2013, arXiv:1312.4400.
    """
    return Conv.of(in_channels, out_channels, 1, dims=resolve_dims(dims, stride), stride=stride)


KIND = Kind(
    "pointwise",
    pointwise,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 1, "out_channels": 1, "dims": 1}, (1, 1, 1)),
        Sample({"in_channels": 33, "out_channels": 17}, (2, 33, 5, 7)),
        Sample({"in_channels": 17, "out_channels": 64, "dims": 1}, (1, 17, 33)),
        Sample({"in_channels": 5, "out_channels": 3, "stride": (2, 3)}, (1, 5, 7, 7)),
        Sample({"in_channels": 3, "out_channels": 31, "stride": 2, "dims": 3}, (2, 3, 3, 4, 5)),
    ),
    errors=(
        ErrorSample({"in_channels": 0, "out_channels": 4}, None, SpecError, r"in_channels=0 is out of range"),
        ErrorSample({"in_channels": 4, "out_channels": 4, "stride": 0}, None, SpecError, r"stride=0 is out of range"),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "dims": 4},
            None,
            SpecError,
            r"dims=4 is out of range; need an integer from 1 to 3",
        ),
        ErrorSample({"in_channels": 4, "out_channels": 4}, (1, 4, 8), ShapeError, r"has rank 3"),
    ),
)
