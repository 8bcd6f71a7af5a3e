"""Kind `flattened`: a lateral 1 x 1 step, then one 1-D filter for each axis."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.arguments import name_axes, restrict, steps_of
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain, Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def flattened(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    activation: Activation | str | None = None,
    dims: int | None = None,
) -> Chain:
    """A 3-D kernel (channels, height, width) as three 1-D ones: lateral, vertical, horizontal.

    Formula:
        h[c, o] = sum_j x[j, o] w[c, j]
        y[c, o1, o2] = sum_{t2} (sum_{t1} h[c, o1 + t1, o2 + t2] u[c, t1]) v[c, t2]

        written for two axes with stride and dilation 1; every step may have a bias.

    Use:
        Feed-forward acceleration of trained or retrained networks; the extreme point of factorisation, where every
        filter has rank 1 across channels and space.

    Legality:
        Always legal. Stride, dilation and padding of an axis belong to the step of that axis.

    Cost:
        With n axes of k taps and I positions: in out + (k n + 1) out + n out parameters with biases, about
        I out (in + k n) MAC, against I k^n in out.

    Example:
        >>> from omniconv.kinds import flattened
        >>> spec = flattened(in_channels=16, out_channels=32, kernel_size=3, padding=1)
        >>> spec.weight_shapes
        ((32, 16, 1, 1), (32, 1, 3, 1), (32, 1, 1, 3))

    Args:
        in_channels: channels of x.
        out_channels: channels of y and of all steps after the first.
        kernel_size: taps on each axis.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        activation: after the lateral step.

    Returns:
        A `Chain`: pointwise, then a depthwise step for each axis, first axis first.

    Raises:
        SpecError: a value out of range, an unknown activation.

    Sources:
        J. Jin, A. Dundar, E. Culurciello: Flattened Convolutional Neural Networks for Feedforward Acceleration, 2014,
        arXiv:1412.5474.
    """
    whole = Conv.of(
        in_channels,
        out_channels,
        kernel_size,
        dims=dims,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=padding_mode,
    )
    lateral = restrict(whole, (), whole.in_channels, whole.out_channels)
    along = [restrict(whole, (a,), *[whole.out_channels] * 3) for a in range(whole.dims)]
    return Chain((lateral, *steps_of(activation), *along))


KIND = Kind(
    "flattened",
    flattened,
    traits=frozenset({"chain"}),
    names=lambda chain: ("lateral", *name_axes(chain)),
    samples=(
        Sample({"in_channels": 3, "out_channels": 17, "kernel_size": 3, "padding": 1}, (2, 3, 6, 7)),
        Sample(
            {"in_channels": 33, "out_channels": 5, "kernel_size": (5, 2), "stride": (1, 3), "padding": "same"},
            (1, 33, 5, 8),
        ),
        Sample({"in_channels": 1, "out_channels": 3, "kernel_size": 4, "padding": "same_lower", "dims": 1}, (1, 1, 9)),
        Sample(
            {"in_channels": 5, "out_channels": 3, "kernel_size": 3, "dilation": (1, 2, 1), "padding": (1, 2, 0)},
            (1, 5, 3, 5, 4),
        ),
        Sample(
            {
                "in_channels": 2,
                "out_channels": 4,
                "kernel_size": 3,
                "padding": ((0, 2), (1, 0)),
                "padding_mode": "replicate",
                "activation": "relu",
            },
            (1, 2, 4, 5),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": (3, -1)},
            None,
            SpecError,
            r"kernel_size=\(3, -1\) is out of range",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
            (1, 5, 8, 8),
            ShapeError,
            r"has 5 channels; need in_channels=4",
        ),
    ),
)
