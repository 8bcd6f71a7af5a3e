"""Kind `depthwise_separable`: depthwise, then pointwise."""

from __future__ import annotations

from omniconv.errors import ShapeError, SpecError
from omniconv.kinds.arguments import steps_of
from omniconv.kinds.depthwise import depthwise
from omniconv.kinds.pointwise import pointwise
from omniconv.kinds.registry import ErrorSample, Kind, Sample
from omniconv.spec import Activation, Chain
from omniconv.spec.arguments import IntOrTuple, PaddingLike


def depthwise_separable(
    in_channels: int,
    out_channels: int,
    kernel_size: IntOrTuple,
    *,
    channel_multiplier: int = 1,
    stride: IntOrTuple = 1,
    dilation: IntOrTuple = 1,
    padding: PaddingLike = 0,
    padding_mode: str = "zeros",
    activation: Activation | str | None = None,
    dims: int | None = None,
) -> Chain:
    """A depthwise step that looks around, then a pointwise step that mixes the channels.

    Formula:
        h[j m + r, o] = f(u[j m + r] + sum_t x[j, o s + t d - p] v[j m + r, t])
        y[c, o] = b[c] + sum_i h[i, o] w[c, i]

        with the channel multiplier m and the activation f between the steps.

    Use:
        The layer of MobileNet and Xception: the dense layer, its space and its channels taken apart. Without an
        activation between, it is a dense layer whose kernels w[c, j, t] = sum_r w[c, j m + r] v[j m + r, t] have rank
        at most m for every input channel.

    Legality:
        Always legal.

    Cost:
        With O output positions, K taps: m in (K + 1) + m in out + out parameters, O m in (K + out) MAC: (1 / out + 1 /
        K) of the dense layer when m = 1.

    Example:
        >>> from omniconv.kinds import depthwise_separable
        >>> spec = depthwise_separable(in_channels=32, out_channels=64, kernel_size=3, stride=2, padding="same")
        >>> spec.weight_shapes, spec.output_shape((1, 32, 112, 112))
        (((32, 1, 3, 3), (64, 32, 1, 1)), (1, 64, 56, 56))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps of the depthwise step on each axis.
        channel_multiplier: outputs of the depthwise step for each input channel, m.
        stride: of the depthwise step: distance of neighbouring outputs [input positions].
        dilation: of the depthwise step: distance of neighbouring taps [input positions]; 1 is dense.
        padding: of the depthwise step: as for `cross_correlation`.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        activation: between the steps; a name or an `Activation`.
        dims: 1, 2 or 3 spatial axes; default: what the tuples say, else 2.

    Returns:
        A `Chain`: depthwise, activation, pointwise.

    Raises:
        SpecError: a value out of range, an unknown activation.

    Sources:
        F. Chollet: Xception: Deep Learning with Depthwise Separable Convolutions, 2016, arXiv:1610.02357.
        A. Howard et al.: MobileNets, 2017, arXiv:1704.04861.
    """
    spatial = depthwise(
        in_channels,
        kernel_size,
        channel_multiplier=channel_multiplier,
        stride=stride,
        dilation=dilation,
        padding=padding,
        padding_mode=padding_mode,
        dims=dims,
    )
    return Chain((spatial, *steps_of(activation), pointwise(spatial.out_channels, out_channels, dims=spatial.dims)))


KIND = Kind(
    "depthwise_separable",
    depthwise_separable,
    traits=frozenset({"chain"}),
    names=("depthwise", "pointwise"),
    samples=(
        Sample(
            {"in_channels": 33, "out_channels": 17, "kernel_size": 3, "stride": 2, "padding": "same"}, (1, 33, 9, 8)
        ),
        Sample(
            {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1, "activation": "relu6"}, (2, 3, 7, 5)
        ),
        Sample(
            {
                "in_channels": 5,
                "out_channels": 1,
                "kernel_size": (1, 5),
                "channel_multiplier": 2,
                "padding": ((0, 0), (4, 0)),
            },
            (1, 5, 3, 9),
        ),
        Sample(
            {
                "in_channels": 7,
                "out_channels": 9,
                "kernel_size": 5,
                "dilation": 2,
                "padding": 4,
                "padding_mode": "reflect",
                "dims": 1,
            },
            (2, 7, 17),
        ),
        Sample(
            {"in_channels": 1, "out_channels": 3, "kernel_size": 3, "padding": 1, "dims": 3, "activation": "silu"},
            (1, 1, 3, 4, 5),
        ),
    ),
    errors=(
        ErrorSample(
            {"in_channels": 8, "out_channels": 0, "kernel_size": 3}, None, SpecError, r"out_channels=0 is out of range"
        ),
        ErrorSample(
            {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "activation": "swash"},
            None,
            SpecError,
            r"activation='swash' is unknown; need one of relu,",
        ),
        ErrorSample(
            {"in_channels": 8, "out_channels": 8, "kernel_size": 3},
            (1, 8, 2, 8),
            ShapeError,
            r"kernel extent 3, padded input size 2",
        ),
    ),
)
