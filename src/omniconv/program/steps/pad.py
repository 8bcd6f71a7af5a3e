"""`PadStep`: padding of any axes; and where each padded position comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut, cut_windows
from omniconv.program.dependence import Dependence, Form, Pad, Part
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Axis, Shape


@dataclass(frozen=True, slots=True)
class PadStep(Step):
    """Padding of every axis by ``pads`` ``((before, after), ...)``; mode constant, reflect, edge or wrap."""

    word: ClassVar[str] = "pad"
    x: str
    y: str
    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0

    def output_shape(self, shapes: Shapes) -> Shape:
        """Each axis and its padding."""
        shape = shapes[self.x]
        if len(self.pads) != len(shape):
            raise ShapeError(f"pads={self.pads} for a value of shape {shape}", need="one pair for each axis")
        return tuple(size + sum(pair) for size, pair in zip(shape, self.pads, strict=True))

    def dependence(self, shapes: Shapes) -> Dependence:
        """A source position, or a constant, for each position."""
        forms = pad_forms(shapes[self.x], self.pads, self.mode)
        return Dependence((Part(self.x, forms),), linear=True)

    @property
    def border(self) -> float | None:
        """The constant."""
        return self.value if self.mode == "constant" else None

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The padding that remains where a box touches the border, and at least one position that is none."""
        rows = zip(self.pads, shapes[self.x], shapes[self.y], box, strict=True)
        found = [cut_windows(Axis(1, padding=pair), size, result, span, self.mode) for pair, size, result, span in rows]
        part = replace(self, pads=tuple(item.padding for item in found))
        return Cut(part, tuple(item.outputs for item in found), (tuple(item.reads for item in found),))


def pad_forms(shape: Shape, pads: tuple[tuple[int, int], ...], mode: str) -> tuple[Form, ...]:
    """The forms of padding by ``pads``, one for each axis that has some."""
    return tuple(
        Pad(axis, size, *pair, mode == "constant", source_positions(size, *pair, mode))
        for axis, (size, pair) in enumerate(zip(shape, pads, strict=True))
        if any(pair)
    )


def source_positions(size: int, before: int, after: int, mode: str) -> npt.NDArray[np.int64]:
    """The position that each padded position along an axis is a copy of; -1 where it is the constant.

    Example:
        >>> source_positions(3, 2, 1, "reflect").tolist()
        [2, 1, 0, 1, 2, 1]
        >>> source_positions(3, 1, 1, "constant").tolist()
        [-1, 0, 1, 2, -1]

    Args:
        size: of the axis.
        before: positions to add in front; negative ones take away.
        after: positions to add behind.
        mode: constant, reflect, edge or wrap.
    """
    at = np.arange(-before, size + after, dtype=np.int64)
    match mode:
        case "constant":
            return np.where((at >= 0) & (at < size), at, -1)
        case "edge":
            return np.clip(at, 0, size - 1)
        case "wrap":
            return at % size
        case "reflect":
            period = max(2 * (size - 1), 1)
            return np.minimum(at % period, period - at % period) if size > 1 else np.zeros_like(at)
    raise AssertionError(mode)
