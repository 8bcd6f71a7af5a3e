"""Kind `asymmetric`: k x 1, then 1 x k, both dense."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds.arguments import name_axes, restrict, steps_of
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain, ChainStep, Conv
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def asymmetric(
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
    """One dense layer for each axis, k taps long and 1 wide, with activations between.

    Formula:
        h[i, o1, o2] = f(a[i] + sum_{j, t1} x[j, o1 s1 + t1 d1 - p1, o2] u[i, j, t1])
        y[c, o1, o2] = b[c] + sum_{i, t2} h[i, o1, o2 s2 + t2 d2 - p2] v[c, i, t2]

        written for two axes.

    Use:
        Large kernels at the price of small ones: 1 x 7 and 7 x 1 in Inception, 5 x 1 and 1 x 5 in ENet. The axes may
        have different sizes. With no activation between it is the dense form of `spatially_separable`.

    Legality:
        Always legal. Stride, dilation and padding of an axis belong to the step of that axis.

    Cost:
        With two axes of k taps, M middle channels and O positions: k M (in + out) + M + out parameters, about
        O k M (in + out) MAC; with M = in = out this is 2 / k of the k x k layer.

    Example:
        >>> from omniconv.kinds import asymmetric
        >>> spec = asymmetric(in_channels=64, out_channels=96, kernel_size=7, padding=3, activation="relu")
        >>> spec.weight_shapes
        ((96, 64, 7, 1), (96, 96, 1, 7))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis; they may differ.
        mid_channels: channels between the steps, M; default out_channels.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        padding: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.
        activation: between neighbouring steps.

    Returns:
        A `Chain` with one dense step for each axis, first axis first.

    Raises:
        SpecError: a value out of range, an unknown activation.

    Sources:
        C. Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, 2015, arXiv:1512.00567.
        A. Paszke et al.: ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation, 2016,
        arXiv:1606.02147.
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
    mid = whole.out_channels if mid_channels is None else as_integer("mid_channels", mid_channels)
    widths = [whole.in_channels, *[mid] * (whole.dims - 1), whole.out_channels]
    steps: list[ChainStep] = []
    for axis in range(whole.dims):
        steps += steps_of(activation) if axis else ()
        steps.append(restrict(whole, (axis,), widths[axis], widths[axis + 1]))
    return Chain(tuple(steps))


KIND = Kind(
    "asymmetric",
    asymmetric,
    traits=frozenset({"chain"}),
    names=name_axes,
    samples=(
        Sample(
            {"in_channels": 5, "out_channels": 9, "kernel_size": 7, "padding": 3, "activation": "relu"}, (2, 5, 6, 7)
        ),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 17,
                "kernel_size": (1, 5),
                "mid_channels": 4,
                "stride": (2, 3),
                "padding": "same",
            },
            (1, 3, 5, 8),
        ),
        Sample({"in_channels": 1, "out_channels": 3, "kernel_size": 3, "padding": "same_lower", "dims": 1}, (1, 1, 7)),
        Sample(
            {
                "in_channels": 3,
                "out_channels": 2,
                "kernel_size": 3,
                "dilation": (2, 1, 1),
                "padding": ((2, 2), (0, 1), (1, 0)),
                "activation": "elu",
            },
            (1, 3, 4, 4, 3),
        ),
        Sample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, "padding_mode": "circular"},
            (1, 4, 3, 5),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "mid_channels": -1},
            None,
            SpecError,
            r"mid_channels=-1 is out of range",
        ),
        ErrorSample(
            {"in_channels": 4, "out_channels": 4, "kernel_size": 7},
            (1, 4, 9, 6),
            ShapeError,
            r"spatial axis 1 would have output size 0",
        ),
    ),
)
