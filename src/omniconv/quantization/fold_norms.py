"""Pass: batch norms, and factors and summands of channels, behind a layer become part of its weights.

With ``y = γ (x - μ) / sqrt(σ² + ε) + β`` behind ``x = w * u + b``: ``w' = w γ / sqrt(σ² + ε)`` and
``b' = (b - μ) γ / sqrt(σ² + ε) + β``, in float64, rounded once.

It must not fire on: a layer that somebody else reads, or whose result is an output; a norm in training; computed
parameters; anything before a layer, whose padding would have to change; transposed and grouped weights whose channels
are not one axis.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.nodes import AnyArray, Node
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.placing import find_channel_axis, is_of_channels

LAYERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm"})


def fold_norms(network: FloatNetwork) -> int:
    """Fold all that can be proved; how many there were."""
    count, index = 0, 0
    while index < len(network.nodes):
        node = network.nodes[index]
        after = _find_only_reader(network, node) if node.op in LAYERS and not node.domain else None
        if after is None or not _fold(network, index, after):
            index += 1
        else:
            count += 1
    return count


def _find_only_reader(network: FloatNetwork, node: Node) -> int | None:
    readers = network.consumers().get(node.outputs[0], [])
    return readers[0] if len(readers) == 1 and not network.is_output(node.outputs[0]) else None


def _fold(network: FloatNetwork, index: int, after: int) -> bool:
    layer, node = network.nodes[index], network.nodes[after]
    weights = network.constant(layer, 1)
    bias = network.constant(layer, 2)
    if weights is None or weights.dtype != np.float32 or (bias is None and len(layer.inputs) > 2 and layer.inputs[2]):
        return False
    axis = find_channel_axis(layer, weights)
    if axis is None:
        return False
    channels = weights.shape[axis]
    if bias is not None and not is_of_channels(bias, channels):
        return False
    found = _read_affine(network, node, layer, channels, weights.ndim)
    if found is None:
        return False
    factor, summand = found
    shape = [-1 if n == axis else 1 for n in range(weights.ndim)]
    old = np.zeros(channels) if bias is None else bias.reshape(-1).astype(np.float64)
    with np.errstate(over="ignore"):
        folded = (weights.astype(np.float64) * factor.reshape(shape)).astype(np.float32)
        total = (old * factor + summand).astype(np.float32)
    if not (np.isfinite(folded).all() and np.isfinite(total).all()):
        raise ModelError(
            f"{node.op} makes weights of {layer.label!r} infinite", need="finite parameters", at=node.place
        )
    w = network.add_constant(f"{layer.inputs[1]}/folded", folded)
    b = network.add_constant(f"{layer.label}/bias", total)
    network.nodes[index] = replace(layer, inputs=(layer.inputs[0], w, b), outputs=node.outputs[:1])
    del network.nodes[after]
    return True


def _read_affine(
    network: FloatNetwork, node: Node, layer: Node, channels: int, rank: int
) -> tuple[AnyArray, AnyArray] | None:
    """The factor and the summand of each channel, in float64, of a node that only does that."""
    value = layer.outputs[0]
    if node.domain:
        return None
    if node.op == "BatchNormalization":
        if node.integer("training_mode", 0) or any(node.outputs[1:]) or node.inputs[0] != value:
            return None
        arrays = [network.constant(node, n) for n in range(1, 5)]
        if any(array is None or array.shape != (channels,) for array in arrays):
            return None
        scale, offset, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        spread = variance + node.number("epsilon", 1e-5)
        if not (spread > 0).all():
            raise ModelError(
                f"variance {float(np.min(spread)):g} with epsilon", need="variances above zero, none NaN", at=node.place
            )
        factor = scale / np.sqrt(spread)
        return factor, offset - mean * factor
    if node.op not in ("Mul", "Add") or len(node.inputs) != 2:
        return None
    other = 1 - node.inputs.index(value) if value in node.inputs else None
    constant = None if other is None else network.constant(node, other)
    if constant is None or constant.dtype != np.float32 or constant.ndim > rank:
        return None
    # Of a value (N, C, *spatial) the channels are axis 1.
    wide = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    if wide.size != 1 and (wide.shape[1] != channels or wide.size != channels):
        return None
    numbers = np.broadcast_to(wide.reshape(-1).astype(np.float64), (channels,))
    return (numbers, np.zeros(channels)) if node.op == "Mul" else (np.ones(channels), numbers)
