"""Where each weight of a layer is in the memory of its module: packing as a list of positions.

A page changes weights without Python, so packing must be a gather: ``packed[k] = flat[index[k]]``, or a number that
does not depend on the weights. That is found out, not assumed. The constants of the plan are made from weights that are
labels: once the weight i is the number i + 1, once a quiet NaN that carries i + 1 in its bits. A copy of weight i holds
the label i of both. Whatever is computed from weights does not: a sum or a multiple is another number than the first
label says, and arithmetic on NaN keeps the bits of one operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import LimitError, UnsupportedError
from omniconv.spec import Conv, Spec

Words: Final = np.uint32
QUIET: Final = 0x7FC00000
MOST_WEIGHTS: Final = 2**22 - 1
"""Labels that the bits of a NaN have room for; below 2^24, so that they are numbers as well."""

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def list_convs(spec: Spec) -> tuple[Conv, ...]:
    """The convolutions of a spec in the order of their weights."""
    return (spec,) if isinstance(spec, Conv) else tuple(spec.convs)


def count_weights(spec: Spec) -> int:
    """Weights and biases of all convolutions."""
    return sum(int(np.prod(conv.weight_shape, dtype=object)) + conv.out_channels for conv in list_convs(spec))


def split_weights(spec: Spec, flat: npt.NDArray[np.float32]) -> tuple[Pair, ...]:
    """``flat`` as one ``(w, b)`` for each convolution: w, b of the first, w, b of the next, row major."""
    pairs, start = [], 0
    for conv in list_convs(spec):
        middle = start + int(np.prod(conv.weight_shape))
        end = middle + conv.out_channels
        pairs.append((flat[start:middle].reshape(conv.weight_shape), flat[middle:end]))
        start = end
    return tuple(pairs)


def flatten_weights(spec: Spec, weights: Sequence[tuple[Any, Any]]) -> npt.NDArray[np.float32]:
    """The inverse of :func:`split_weights`; no bias is a bias of zeros."""
    parts = []
    for conv, (w, b) in zip(list_convs(spec), weights, strict=True):
        parts += [np.asarray(w, np.float32).ravel()]
        parts += [np.zeros(conv.out_channels, np.float32) if b is None else np.asarray(b, np.float32)]
    return np.concatenate(parts)


def make_labels(spec: Spec) -> Iterator[tuple[Pair, ...]]:
    """The two labellings of the weights: as numbers and as NaNs.

    Raises:
        LimitError: more weights than there are labels.
    """
    count = count_weights(spec)
    if count > MOST_WEIGHTS:
        raise LimitError(f"the layer has {count} weights", need=f"at most {MOST_WEIGHTS}", at=spec.text())
    labels = np.arange(1, count + 1, dtype=Words)
    yield split_weights(spec, labels.astype(np.float32))
    yield split_weights(spec, (labels | Words(QUIET)).view(np.float32))


def find_index(numbers: npt.NDArray[Any], marks: npt.NDArray[Any], at: str) -> npt.NDArray[np.int32]:
    """For each element of a constant the weight that it is, or -1 where it is the same whatever the weights are.

    Args:
        numbers: the constant made from the first labels.
        marks: the constant made from the second.
        at: the problem line.

    Raises:
        UnsupportedError: an element that is computed from weights.
    """
    flat, bits = (np.ascontiguousarray(each).ravel() for each in (numbers, marks))
    if flat.dtype != np.float32:
        if not np.array_equal(flat, bits):
            raise UnsupportedError("a table depends on weights", need="packing that copies weights", at=at)
        return np.full(flat.size, -1, np.int32)
    bits = bits.view(Words)
    marked = (bits & Words(QUIET)) == QUIET
    labels = np.where(marked, bits ^ Words(QUIET), 0).astype(np.int64)
    wrong = np.where(marked, flat != labels, flat.view(Words) != bits)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise UnsupportedError(
            f"element {place} of packed weights is computed: {flat[place]:g} from weights that are 1, 2, ...",
            need="packing that copies weights",
            at=at,
        )
    return (labels - 1).astype(np.int32)


def join_index(parts: Sequence[tuple[int, npt.NDArray[np.int32]]], size: int) -> npt.NDArray[np.int32]:
    """One list for a region of ``size`` elements of the lists at its places; -1 between them."""
    whole = np.full(size, -1, np.int32)
    for place, part in parts:
        whole[place : place + part.size] = part
    return whole
