"""Kind `causal`: no output sees what comes after it."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_integers
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Conv
from omniconv.spec.arguments import IntOrTuple, per_axis, resolve_dims
from omniconv.spec.geometry import count_extent


def causal(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    axes: Sequence[int] | None = None,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    dims: int | None = None,
) -> Conv:
    """All padding comes before: output o sees inputs up to o s and none after.

    Formula:
        y[c, o] = b[c] + sum_{j, t} x[j, o s + t d - (e - 1)] w[c, j, t], with the extent e = d (k - 1) + 1

    Use:
        Sequences that are produced step by step: WaveNet, temporal convolutional networks, streaming speech; with
        ``axes=(0,)`` and three axes, video where only time is causal. Usually with ``dims=1`` and dilations 1, 2, 4,
        ...

    Legality:
        As `cross_correlation`. Axes that are not causal are padded by e - 1 in total, the odd one after.

    Cost:
        As `cross_correlation`.

    Example:
        >>> from omniconv.kinds import causal
        >>> spec = causal(in_channels=32, out_channels=32, kernel_size=2, dilation=8, dims=1)
        >>> spec.padding, spec.output_shape((1, 32, 1000))
        (((8, 0),), (1, 32, 1000))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps on each axis.
        axes: the causal axes, counted from the first spatial axis; default all.
        stride: distance of neighbouring outputs [input positions].
        dilation: distance of neighbouring taps [input positions]; 1 is dense.
        groups: number of slices of the channels that do not see one another.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        One `Conv` with explicit padding.

    Raises:
        SpecError: an axis that does not exist, otherwise as `cross_correlation`.

    Sources:
        A. van den Oord et al.: WaveNet: A Generative Model for Raw Audio, 2016, arXiv:1609.03499.
        S. Bai, J. Kolter, V. Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
        Sequence Modeling, 2018, arXiv:1803.01271.
    """
    rank = resolve_dims(dims, kernel_size, stride, dilation)
    chosen = tuple(range(rank)) if axes is None else as_integers("axes", axes, 0, rank - 1)
    kernels, dilations = per_axis("kernel_size", kernel_size, rank, 1), per_axis("dilation", dilation, rank, 1)
    totals = [count_extent(k, d) - 1 for k, d in zip(kernels, dilations, strict=True)]
    pairs = [(total, 0) if a in chosen else (total // 2, total - total // 2) for a, total in enumerate(totals)]
    return Conv.of(
        in_channels,
        out_channels,
        kernels,
        dims=rank,
        stride=stride,
        dilation=dilations,
        padding=pairs,
        groups=groups,
        padding_mode=padding_mode,
    )


KIND = Kind(
    "causal",
    causal,
    traits=frozenset({"single"}),
    samples=(
        Sample({"in_channels": 17, "out_channels": 5, "kernel_size": 2, "dilation": 8, "dims": 1}, (2, 17, 21)),
        Sample({"in_channels": 1, "out_channels": 33, "kernel_size": 7, "stride": 3, "dims": 1}, (1, 1, 5)),
        Sample({"in_channels": 3, "out_channels": 5, "kernel_size": (3, 2)}, (1, 3, 5, 6)),
        Sample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "axes": (0,), "groups": 3, "dims": 3},
            (1, 3, 3, 4, 4),
        ),
        Sample(
            {
                "in_channels": 4,
                "out_channels": 2,
                "kernel_size": 4,
                "padding_mode": "replicate",
                "groups": 2,
                "dims": 1,
            },
            (1, 4, 3),
        ),
        Sample({"in_channels": 2, "out_channels": 3, "kernel_size": 4, "axes": (1,)}, (1, 2, 5, 6)),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 3, "axes": (2,)},
            None,
            SpecError,
            r"axes=\(2,\) is out of range; need integers from 0 to 1",
        ),
        ErrorSample(
            {"in_channels": 3, "out_channels": 3, "kernel_size": 5, "padding_mode": "reflect", "dims": 1},
            (1, 3, 4),
            ShapeError,
            r"reflect padding \(4, 0\) on spatial axis 0 of size 4",
        ),
    ),
)
