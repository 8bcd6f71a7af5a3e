"""How far float32 may be from attention and rotary embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto
from tests.differential.values import attributes_of, values_of

if TYPE_CHECKING:
    from tests.differential.bounded import Bounded


def bound_rotary(node: NodeProto, opset: int, items: Sequence[Any], gamma: float) -> np.ndarray:
    """Sums of two products; one sign of the sines gives the magnitude of either half."""
    x, cos, sin, *rest = items

    def apply(value: np.ndarray) -> np.ndarray:
        runs = [
            values_of(node, opset, [value, np.abs(cos.value), sign * np.abs(sin.value), *rest])[0] for sign in (1, -1)
        ]
        return np.maximum(np.abs(runs[0]), np.abs(runs[1]))

    magnitude = apply(np.abs(x.value) + x.error)
    return apply(x.error) + gamma * magnitude


def bound_attention(node: NodeProto, items: Sequence[Any], y: np.ndarray, gamma: Any, roundings: int) -> np.ndarray:
    """The largest error of a score, through the softmax; then that of the sums over the keys."""
    q, k, v = items[:3]
    given = attributes_of(node)
    heads, groups = given.get("q_num_heads", q.shape[1]), given.get("kv_num_heads", k.shape[1])
    sides: list[Bounded] = [q, k, v]

    def split(array: np.ndarray, count: int) -> np.ndarray:
        shaped = array if array.ndim == 4 else array.reshape(*array.shape[:2], count, -1).transpose(0, 2, 1, 3)
        return shaped.repeat(heads // count, 1)

    value = [np.abs(split(s.value, c)) for s, c in zip(sides, (heads, groups, groups))]
    error = [split(s.error, c) for s, c in zip(sides, (heads, groups, groups))]
    features, keys = value[0].shape[-1], value[1].shape[2]
    scale = abs(given.get("scale", features**-0.5))

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return scale * (a @ b.swapaxes(-1, -2))

    scores = products(value[0], value[1])
    wrong = products(value[0] + error[0], value[1] + error[1]) * (1 + gamma(features + 4)) - scores
    mask = items[3] if len(items) > 3 else None
    added = 0.0
    if hasattr(mask, "value"):
        added = float(np.abs(mask.value).max())
    cap = given.get("softcap", 0.0)
    most = min(float(scores.max()), cap or np.inf) + added
    if not np.isfinite(wrong).all() or wrong.max() > 20 or float(scores.max()) > 1e30:
        return np.full(y.shape, np.inf)
    relative = np.expm1(2 * float(wrong.max())) + gamma(roundings + keys) + 2 * gamma(roundings) * most
    wide = value[2] + error[2]
    # Shares add up to one: a sum of them is at most the largest value of its column.
    largest = wide.max(2, keepdims=True)
    off = relative * largest + error[2].max(2, keepdims=True) + gamma(keys + 4) * largest
    off = np.broadcast_to(off, (*value[0].shape[:3], off.shape[-1]))
    return off if y.ndim == 4 else off.transpose(0, 2, 1, 3).reshape(y.shape)
