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
_BLOCK: Final = 64
"""Candidates that are compared with one another at once."""
_TURN: Final = 2**31 - 1
_LAST: Final = 2**32 - 1


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    boxes, scores = as_constant(arrays[0], "the input boxes"), as_constant(arrays[1], "the input scores")
    if (
        boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4
        or (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2])
    ):  # fmt: skip
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
            chosen = _choose(corners[:, order], most, overlap)
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


def _sort(scores: Floats, least: np.float32 | None) -> npt.NDArray[np.int64]:
    """Boxes above the least score by falling score; equals as they come."""
    known = np.flatnonzero(scores > least) if least is not None else np.arange(scores.size)
    # One number says all: the bits of a score, in order once those of negative ones are turned, then the place.
    bits = (scores[known] + np.float32(0)).view(np.int32).astype(np.int64)
    keys = np.sort((bits ^ (bits >> 31 & _TURN)) << 32 | _LAST - known)[::-1]
    return _LAST - (keys & _LAST)


def _choose(boxes: Floats, most: int, overlap: np.float32) -> list[int]:
    """Which boxes stay, for boxes in order."""
    chosen: list[int] = []
    kept = boxes[:, :0]
    for start in range(0, boxes.shape[1], _BLOCK):
        block = boxes[:, start : start + _BLOCK]
        alive = np.flatnonzero(~_covers(kept, block, overlap).any(0)) if chosen else np.arange(block.shape[1])
        block = block[:, alive]
        table = np.packbits(_covers(block, block, overlap), axis=1, bitorder="little")
        dead, stay = 0, []
        for index, row in enumerate(table):
            if not dead >> index & 1:
                stay.append(index)
                if len(chosen) + len(stay) == most:
                    break
                dead |= int.from_bytes(row.tobytes(), "little")
        chosen += [start + int(alive[index]) for index in stay]
        if len(chosen) == most:
            break
        kept = np.concatenate([kept, block[:, stay]], 1)
    return chosen


def _covers(a: Floats, b: Floats, overlap: np.float32) -> npt.NDArray[np.bool_]:
    """Which boxes of ``a`` (rows) share more than ``overlap`` of what they cover together with which of ``b``."""
    height, width = (
        np.minimum(a[high, :, None], b[high]) - np.maximum(a[low, :, None], b[low]) for low, high in ((0, 2), (1, 3))
    )
    shared = np.maximum(height, 0) * np.maximum(width, 0)
    # Nothing of nothing is no number, which is above no bound.
    return np.asarray(shared / (a[4, :, None] + b[4] - shared) > overlap)


register("NonMaxSuppression", fold=_fold, since=10)
