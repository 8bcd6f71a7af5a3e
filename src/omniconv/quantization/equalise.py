r"""Pass: channels between two layers are brought to alike ranges, by factors that change no result.

Behind a layer ``x_c = f(w_c * u + b_c)`` with ``f(a x) = a f(x)`` for ``a > 0``, the next one reads ``x``. With any
``s_c > 0``

.. math:: w_c \to w_c / s_c, \quad b_c \to b_c / s_c, \quad v_{\cdot c} \to v_{\cdot c} s_c

the result is the same. ``s_c`` is the power of two nearest to :math:`\sqrt{r_c / v_c}` over its geometric mean, with
the range ``r_c = max|x_c|`` on the calibration data (for weights with one scale that of the weights of the first
layer) and ``v_c = max|v_{\cdot c}|``: powers of two change no digit of a float, so that results are equal bit for
bit. Chains are gone through until nothing changes.

It must not fire on: values that somebody else reads or that are outputs; functions that are not homogeneous (a clip at
6, a sigmoid, hard-swish: a clip takes one bound for all channels, so that it cannot be scaled by channel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.graph.nodes import AnyArray, Node
from omniconv.quantization.execute import ChannelRange
from omniconv.quantization.network import FloatNetwork
from omniconv.records import dataclass

HOMOGENEOUS: Final = frozenset({"Identity", "LeakyRelu", "Relu"})
POOLS: Final = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
SWEEPS: Final = 16
LARGEST: Final = 2.0**12
"""No factor is larger, or smaller than one over it."""


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two convolutions and what lies between them: indices of nodes."""

    first: int
    second: int
    between: tuple[int, ...]


def find_pairs(network: FloatNetwork) -> list[LayerPair]:
    """All pairs that may be equalised, in execution order."""
    readers = network.consumers()
    pairs = []
    for index, node in enumerate(network.nodes):
        if not _has_own_weights(network, node, readers):
            continue
        between: list[int] = []
        value = node.outputs[0]
        while len(after := readers.get(value, [])) == 1 and not network.is_output(value):
            follower = network.nodes[after[0]]
            if follower.inputs[0] != value or follower.inputs.count(value) != 1 or follower.domain:
                break
            if _has_own_weights(network, follower, readers):
                pairs.append(LayerPair(index, after[0], tuple(between)))
                break
            if follower.op not in HOMOGENEOUS | POOLS or any(follower.outputs[1:]):
                break
            between.append(after[0])
            value = follower.outputs[0]
    return pairs


def _has_own_weights(network: FloatNetwork, node: Node, readers: Mapping[str, list[int]]) -> bool:
    """Whether it is a convolution whose constants nobody else reads and that are no outputs, dense or depthwise."""
    if node.op != "Conv" or node.domain:
        return False
    weights = network.constant(node, 1)
    given = [name for name in node.inputs[1:] if name]
    if weights is None or any(name not in network.constants or len(readers[name]) > 1 for name in given):
        return False
    if any(network.is_output(name) for name in given):
        return False
    groups = node.integer("group", 1)
    plain = groups == 1 or (weights.shape[0] % groups == 0 and weights.shape[1] == 1)
    return weights.ndim > 2 and weights.dtype == np.float32 and bool(np.isfinite(weights).all()) and plain


def equalise(
    network: FloatNetwork, pairs: list[LayerPair], ranges: Mapping[str, ChannelRange], *, per_channel: bool
) -> int:
    """Scale the channels of all pairs; how many of them changed.

    Args:
        network: is changed.
        pairs: of it.
        ranges: of the results of the last node before each second layer.
        per_channel: whether weights will have a scale for each channel.
    """
    reach = {
        pair: np.maximum(np.abs(ranges[name].low), np.abs(ranges[name].high))
        for pair in pairs
        for name in (find_value(network, pair),)
    }
    changed: set[LayerPair] = set()
    for _ in range(SWEEPS):
        moved = False
        for pair in pairs:
            first = network.constants[network.nodes[pair.first].inputs[1]]
            r = reach[pair] if per_channel else np.abs(first).reshape(first.shape[0], -1).max(axis=1)
            factors = _find_factors(r.astype(np.float64), _input_reach(network, pair))
            if (factors != 1).any() and _scale(network, pair, factors):
                reach[pair] = reach[pair] / factors
                changed.add(pair)
                moved = True
        if not moved:
            break
    return len(changed)


def find_value(network: FloatNetwork, pair: LayerPair) -> str:
    """What the second layer of a pair reads."""
    return network.nodes[(pair.first, *pair.between)[-1]].outputs[0]


def _input_reach(network: FloatNetwork, pair: LayerPair) -> AnyArray:
    """The largest weight of the second layer for each channel that it reads."""
    node = network.nodes[pair.second]
    weights = np.abs(network.constants[node.inputs[1]]).astype(np.float64)
    groups = node.integer("group", 1)
    if groups > 1:
        return np.asarray(weights.reshape(groups, -1).max(axis=1))
    return np.asarray(weights.max(axis=(0, *range(2, weights.ndim))))


def _find_factors(r: AnyArray, v: AnyArray) -> AnyArray:
    alive = (r > 0) & (v > 0)
    factors = np.ones(r.shape)
    if alive.any():
        exponent = 0.5 * (np.log2(r[alive]) - np.log2(v[alive]))
        factors[alive] = np.exp2(np.rint(exponent - exponent.mean()))
    return np.clip(factors, 1 / LARGEST, LARGEST)


def _scale(network: FloatNetwork, pair: LayerPair, factors: AnyArray) -> bool:
    """Scale the weights of a pair, unless digits would be lost."""
    first, second = network.nodes[pair.first], network.nodes[pair.second]
    w, v = (network.constants[node.inputs[1]] for node in (first, second))
    small = factors.astype(np.float32)
    groups = second.integer("group", 1)
    inner = (-1, *(1,) * (v.ndim - 1)) if groups > 1 else (1, -1, *(1,) * (v.ndim - 2))
    spread = np.repeat(small, v.shape[0] // groups) if groups > 1 else small
    changes: dict[str, AnyArray] = {
        first.inputs[1]: w / small.reshape(-1, *(1,) * (w.ndim - 1)),
        second.inputs[1]: v * spread.reshape(inner),
    }
    if len(first.inputs) > 2 and first.inputs[2]:
        changes[first.inputs[2]] = network.constants[first.inputs[2]] / small
    tiny = np.finfo(np.float32).tiny
    for array in changes.values():
        if not np.isfinite(array).all() or (np.abs(array[array != 0]) < tiny).any():
            return False
    network.constants.update(changes)
    return True


def absorb_biases(network: FloatNetwork, pairs: list[LayerPair], ranges: Mapping[str, ChannelRange]) -> int:
    """Move the middle of each channel's range from the bias of a layer into that of the next; how many pairs changed.

    Behind ``x_c = w_c * u + b_c`` with nothing between, for any ``m_c``: ``b_c - m_c`` and ``b' + sum_c v_c m_c``
    give the same, where the second layer has no padding, whose zeros would stand for ``m_c``.
    """
    count = 0
    for pair in pairs:
        second = network.nodes[pair.second]
        if (
            pair.between
            or any(second.integers("pads") or ())
            or second.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        ):
            continue
        found = ranges[find_value(network, pair)]
        middle = ((found.low + found.high) / 2).astype(np.float32).astype(np.float64)
        if not np.isfinite(middle).all() or not middle.any():
            continue
        v = network.constants[second.inputs[1]].astype(np.float64)
        groups = second.integer("group", 1)
        sums = v.reshape(*v.shape[:2], -1).sum(axis=2)
        spread = np.repeat(middle, v.shape[0] // groups) if groups > 1 else middle
        _shift(network, pair.first, -middle)
        _shift(network, pair.second, sums[:, 0] * spread if groups > 1 else sums @ spread)
        count += 1
    return count


def _shift(network: FloatNetwork, index: int, summand: AnyArray) -> None:
    """Add to the bias of a convolution."""
    node = network.nodes[index]
    old = network.constant(node, 2)
    base = np.zeros(summand.shape) if old is None else old.astype(np.float64)
    name = network.add_constant(f"{node.label}/shifted", (base + summand).astype(np.float32))
    network.nodes[index] = replace(node, inputs=(*node.inputs[:2], name))
