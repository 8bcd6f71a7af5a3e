"""What is demanded of a value, as a union of boxes: in each box, one set of positions on every axis.

A box without positions on some axis demands nothing, and where branches meet, the union of their boxes is no box. So
the boxes are kept apart, unless one holds the other or they differ on one axis only; then their merge is one again.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from omniconv.analysis.hull import Reach, merge
from omniconv.analysis.runs import contains

Box: TypeAlias = "tuple[Reach, ...]"

MOST_BOXES: Final = 48
"""Boxes of a value that are kept apart."""


def add_box(boxes: list[Box], new: Box) -> bool:
    """Add a box to those of a value.

    Returns:
        Whether the boxes still are what is demanded; otherwise there were too many, and one holds them all.
    """
    for number, old in enumerate(boxes):
        pairs = [(a.runs, b.runs) for a, b in zip(old, new, strict=True)]
        if (
            sum(a != b for a, b in pairs) <= 1
            or all(contains(a, b) for a, b in pairs)
            or all(contains(b, a) for a, b in pairs)
        ):
            del boxes[number]
            return add_box(boxes, join_boxes([old, new]))
    boxes.append(new)
    if len(boxes) <= MOST_BOXES:
        return True
    boxes[:] = [join_boxes(boxes)]
    return False


def join_boxes(boxes: list[Box]) -> Box:
    """The smallest box around some."""
    result = boxes[0]
    for box in boxes[1:]:
        result = tuple(merge(a, b) for a, b in zip(result, box, strict=True))
    return result
