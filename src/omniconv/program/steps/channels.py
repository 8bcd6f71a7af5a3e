"""`ChannelStep`: channels in another order."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, Cut
from omniconv.program.dependence import Dependence, Part, Take
from omniconv.program.steps.step import Move, Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class ChannelStep(Move):
    """``y[:, c] = x[:, source[c]]``: shuffles, permutations and slices of channels. Folded into a view where
    possible.
    """

    word: ClassVar[str] = "shuffle"
    x: str
    y: str
    source: tuple[int, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """As many channels as sources."""
        shape = shapes[self.x]
        if len(shape) < 2 or not all(0 <= c < shape[1] for c in self.source):
            raise ShapeError(f"channels {self.source[:16]} of a value of shape {shape}", need="channels that it has")
        return (shape[0], len(self.source), *shape[2:])

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each channel on one."""
        take = Take(1, shapes[self.x][1], np.asarray(self.source, np.int64))
        return Dependence((Part(self.x, (take,)),), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Some of its channels, from all of x."""
        part = replace(self, source=self.source[slice(*box[1])])
        return Cut(part, box, ((box[0], (0, shapes[self.x][1]), *box[2:]),))
