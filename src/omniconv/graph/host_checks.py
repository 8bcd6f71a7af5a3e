"""What is checked before an operator runs on the host: indices, and how much memory its results and its work take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import normalise_axis
from omniconv.spec import Shape

_Arrays: TypeAlias = Sequence[AnyArray | None]


def _given(arrays: _Arrays, index: int) -> AnyArray:
    array = arrays[index] if index < len(arrays) else None
    return np.zeros(0, np.int64) if array is None else array


def _check_range(indices: AnyArray, low: int, high: int, what: str) -> None:
    if indices.size and not (low <= int(indices.min()) and int(indices.max()) < high):
        raise ModelError(
            f"{what} {int(indices.min())} to {int(indices.max())}", need=f"{low} to {high - 1}, inside the axis"
        )


def _pooled(_node: Node, arrays: _Arrays) -> None:
    x, indices, shape = _given(arrays, 0), _given(arrays, 1), arrays[2] if len(arrays) > 2 else None
    if x.shape != indices.shape:
        raise ModelError(f"indices of shape {indices.shape} for {x.shape}", need="equal shapes")
    if shape is not None:
        _check_range(indices, 0, max(math.prod(int(size) for size in shape), 0), "indices")
    else:
        _check_range(indices, 0, 2**62, "indices")


def _boxes(_node: Node, arrays: _Arrays) -> None:
    _check_range(_given(arrays, 2), 0, len(_given(arrays, 0)), "batch indices")


def _lengths(node: Node, arrays: _Arrays) -> None:
    x = _given(arrays, 0)
    axis = normalise_axis(node.integer("time_axis", 0), x.ndim)
    _check_range(_given(arrays, 1), 0, x.shape[axis] + 1, "sequence lengths")


def _times(node: Node, arrays: _Arrays) -> None:
    x, lengths = _given(arrays, 0), _given(arrays, 4)
    times = x.shape[1 if node.integer("layout", 0) else 0] if x.ndim == 3 else 0
    if lengths.size and not (lengths == times).all():
        raise UnsupportedError(
            f"sequence_lens of {int(lengths.min())} to {int(lengths.max())} on the host",
            need=f"{times}, the times of X, or lengths from 1 and constant weights, with which the layer is compiled",
        )


def _classes(node: Node, arrays: _Arrays) -> None:
    x, target = _given(arrays, 0), _given(arrays, 1)
    ignored = node.attributes.get("ignore_index")
    kept = target if ignored is None else target[target != ignored]
    _check_range(kept, 0, x.shape[1] if x.ndim > 1 else 0, "classes")


def _places(node: Node, arrays: _Arrays) -> None:
    past, update, written = (_given(arrays, index) for index in range(3))
    axis = normalise_axis(node.integer("axis", -2), past.ndim)
    circular = node.attributes.get("mode", b"linear") == b"circular"
    room = past.shape[axis] if circular else past.shape[axis] - update.shape[axis] + 1
    _check_range(written, 0, max(room, 0), "write indices")


_CHECKS: Final[dict[str, Callable[[Node, _Arrays], None]]] = {
    "GRU": _times, "LSTM": _times, "MaxUnpool": _pooled, "NegativeLogLikelihoodLoss": _classes, "RNN": _times,
    "ReverseSequence": _lengths, "RoiAlign": _boxes, "SoftmaxCrossEntropyLoss": _classes, "TensorScatter": _places,
}  # fmt: skip


def check_indices(node: Node, arrays: _Arrays) -> None:
    """Refuse indices and lengths that an implementation in ``onnx.reference`` would wrap, read wrongly or pass over.

    Raises:
        ModelError: indices that point outside.
        UnsupportedError: sequences of different lengths.
    """
    check = _CHECKS.get(node.op)
    if check is not None:
        check(node, arrays)


def _boxes_kept(_node: Node, arrays: _Arrays) -> int:
    boxes, scores = _given(arrays, 0), _given(arrays, 1)
    if boxes.ndim != 3 or scores.ndim != 3:
        raise ModelError(f"boxes {boxes.shape}, scores {scores.shape}", need="3 axes each")
    most = _given(arrays, 2)
    kept = min(boxes.shape[1], max(int(most.reshape(-1)[0]), 0)) if most.size else 0
    return math.prod(scores.shape[:2]) * kept * 3 * 8


BOUNDS: Final[dict[str, Callable[[Node, _Arrays], int]]] = {
    "MaxUnpool": lambda _node, arrays: math.prod(map(int, _given(arrays, 2))) * _given(arrays, 0).itemsize,
    "Compress": lambda _node, arrays: _given(arrays, 0).nbytes,
    "NonMaxSuppression": _boxes_kept,
    "NonZero": lambda _node, arrays: _given(arrays, 0).size * max(_given(arrays, 0).ndim, 1) * 8,
    "Slice": lambda _node, arrays: _given(arrays, 0).nbytes,
    "Split": lambda _node, arrays: _given(arrays, 0).nbytes,
    "TopK": lambda _node, arrays: _given(arrays, 0).nbytes + _given(arrays, 0).size * 8,
    "Unique": lambda _node, arrays: _given(arrays, 0).size * 64 + _given(arrays, 0).nbytes,
}
"""Operators whose results have shapes that depend on values, and the most bytes that they can take."""

_WINDOWED: Final = frozenset("Conv ConvInteger ConvTranspose DeformConv QLinearConv".split())
_POOLS: Final = frozenset("AveragePool LpPool MaxPool".split())


def estimate_work(node: Node, arrays: _Arrays, results: Sequence[Shape]) -> int:
    """About the most memory that the NumPy implementation of an operator takes beside its inputs [bytes].

    Those of convolutions and pools lay every window out; every other holds a few arrays of the sizes of its inputs and
    results at once.
    """
    given = sum(array.nbytes for array in arrays if array is not None)
    made = 8 * sum(math.prod(shape) for shape in results)
    if node.op in _WINDOWED:
        weights = next((array for array in arrays[1:] if array is not None and array.ndim > 2), None)
        window = 1 if weights is None else weights.size // max(weights.shape[0], 1)
        return 2 * given + 2 * made * max(window, 1)
    if node.op in _POOLS:
        return 2 * given + 2 * made * math.prod(node.integers("kernel_shape") or (1,))
    return 2 * given + 2 * made
