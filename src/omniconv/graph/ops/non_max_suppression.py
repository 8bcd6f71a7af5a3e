"""NonMaxSuppression: of each batch and class boxes by falling score, without those that overlap a better one too much.

Candidates are taken in blocks: those that overlap a box which was chosen before are dropped at once, and what is left
of a block is decided by a table of bits of which overlaps which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, as_constant, as_scalar
from omniconv.graph.operator import register

Floats = npt.NDArray[Any]
Places = npt.NDArray[np.signedinteger[Any]]
Truths = npt.NDArray[np.bool_]
_BLOCK: Final = 128
"""Candidates that are compared with one another at once: tables of so many rows and columns stay in a cache."""
_LATER: Final = np.triu(np.ones((_BLOCK, _BLOCK), np.bool_), 1)
"""Which place of a block comes behind which."""
_TURN: Final = 2**31 - 1
_LAST: Final = 2**32 - 1


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    boxes, scores = as_constant(arrays[0], "the input boxes"), as_constant(arrays[1], "the input scores")
    if (
        boxes.ndim != 3
        or scores.ndim != 3
        or boxes.shape[2] != 4
        or (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2])
    ):
        raise ModelError(
            f"boxes of shape {boxes.shape}, scores of shape {scores.shape}",
            need="(batch, boxes, 4), (batch, classes, boxes)",
        )
    most = min(max(int(_read(arrays[2], 0)), 0), boxes.shape[1])
    overlap, least = np.float32(_read(arrays[3], 0)), None if _missing(arrays[4]) else np.float32(_read(arrays[4], 0))
    if not 0 <= overlap <= 1:
        raise ModelError(f"iou_threshold={overlap}", need="0 to 1")
    budget.check((*scores.shape[:2], most, 3), 8, "the indices of boxes")
    found = []
    for batch in range(scores.shape[0] if most else 0):
        corners = _find_corners(boxes[batch], center=bool(node.integer("center_point_box", 0)))
        for kind in range(scores.shape[1]):
            order = _sort(scores[batch, kind], least)
            chosen = _choose(np.take(corners, order, 1), most, overlap)
            rows = np.empty((len(chosen), 3), np.int64)
            rows[:, 0], rows[:, 1], rows[:, 2] = batch, kind, order[chosen]
            found.append(rows)
    return np.concatenate(found) if found else np.zeros((0, 3), np.int64)


def _missing(operand: Operand) -> bool:
    return operand is None or 0 in operand.shape


def _read(operand: Operand, default: float) -> float:
    """A number, of an input that may be left out or empty."""
    return default if _missing(operand) else as_scalar(operand, "a number of NonMaxSuppression")


def _find_corners(boxes: Floats, *, center: bool) -> Floats:
    """Rows: the lower corner on both axes, the upper one, and the area."""
    a, b, c, d = boxes.T
    if center:
        low, high = (np.array([a - c / 2, b - d / 2]), np.array([a + c / 2, b + d / 2]))
    else:
        low, high = np.minimum([a, b], [c, d]), np.maximum([a, b], [c, d])
    return np.concatenate([low, high, (high - low).prod(0, keepdims=True)]).astype(np.float32, copy=False)


def _sort(scores: Floats, least: np.float32 | None) -> Places:
    """Boxes above the least score by falling score; equals as they come."""
    known = np.flatnonzero(scores > least) if least is not None else np.arange(scores.size)
    # One number says all: the bits of a score, in order once those of negative ones are turned, then the place.
    bits = (scores[known] + np.float32(0)).view(np.int32).astype(np.int64)
    keys = np.sort((bits ^ (bits >> 31 & _TURN)) << 32 | _LAST - known)[::-1]
    return _LAST - (keys & _LAST)


def _choose(boxes: Floats, most: int, overlap: np.float32) -> Places:
    """Which boxes stay, for boxes in order."""
    count = 0
    chosen = np.empty(min(most, boxes.shape[1]), np.int64)
    kept = np.empty((len(boxes), chosen.size), np.float32)
    table = _Table(overlap)
    for start in range(0, boxes.shape[1], _BLOCK):
        block = boxes[:, start : start + _BLOCK]
        alive = np.arange(start, start + block.shape[1])
        if count:
            table.face(block)
            covered = np.zeros(alive.size, np.bool_)
            for part in range(0, count, _BLOCK):
                covered |= table.compare(kept[:, part : min(part + _BLOCK, count)]).any(0)
            block, alive = block[:, ~covered], alive[~covered]
        table.face(block)
        stay = _decide(table.compare(block))[: chosen.size - count]
        chosen[count : count + stay.size] = alive[stay]
        kept[:, count : count + stay.size] = block[:, stay]
        count += stay.size
        if count == chosen.size:
            break
    return chosen[:count]


def _decide(table: Truths) -> Places:
    """Which boxes of a block stay, by a table of which overlaps which; most of them overlap none that comes later."""
    table &= _LATER[: len(table), : len(table)]
    packed = np.packbits(table, axis=1, bitorder="little")
    rows, width = packed.tobytes(), packed.shape[1]
    dead = 0
    for index in np.flatnonzero(packed.any(1)).tolist():
        if not dead >> index & 1:
            dead |= int.from_bytes(rows[width * index : width * (index + 1)], "little")
    bits = np.frombuffer(dead.to_bytes(width, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, count=len(table), bitorder="little") == 0)


class _Table:
    """Which boxes share more than ``overlap`` of what they cover together: rows of boxes by columns of boxes.

    NumPy is several times as fast on arrays of one form that lie in a cache as on those that it has to spread over
    each other, so the columns are spread once, and memory is taken once.
    """

    def __init__(self, overlap: np.float32) -> None:
        self._overlap = overlap
        self._columns = np.empty((5, 0, 0), np.float32)
        self._numbers = np.empty((9, _BLOCK * _BLOCK), np.float32)
        self._truths = np.empty(_BLOCK * _BLOCK, np.bool_)

    def face(self, boxes: Floats) -> None:
        """Take the boxes of the columns, a block at most."""
        width = boxes.shape[1]
        self._columns = self._numbers[4:, : _BLOCK * width].reshape(5, _BLOCK, width)
        self._columns[...] = boxes[:, None]

    def compare(self, boxes: Floats) -> Truths:
        """The table for rows of boxes, a block at most; good until the next call."""
        columns = self._columns[:, : boxes.shape[1]]
        form = columns.shape[1:]
        size = form[0] * form[1]
        shared, x, y, row = self._numbers[:4, :size].reshape(4, *form)
        found = self._truths[:size].reshape(form)
        for side, low, high in ((shared, 0, 2), (x, 1, 3)):
            np.copyto(row, boxes[high, :, None])
            np.minimum(row, columns[high], out=side)
            np.copyto(row, boxes[low, :, None])
            np.maximum(row, columns[low], out=y)
            np.subtract(side, y, out=side)
        y[...] = 0
        np.maximum(shared, y, out=shared)
        np.maximum(x, y, out=x)
        shared *= x
        np.copyto(row, boxes[4, :, None])
        np.add(row, columns[4], out=x)
        x -= shared
        shared /= x
        # Nothing of nothing is no number, which is above no bound.
        np.greater(shared, self._overlap, out=found)
        return found


register("NonMaxSuppression", fold=_fold, since=10)
