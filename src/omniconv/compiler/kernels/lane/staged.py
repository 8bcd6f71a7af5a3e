"""The staged lane kernel: a part of the channels of an image is copied first, then computed from the copy.

Arrays whose pixels are a multiple of 512 bytes apart share few sets of the first-level cache: of the pixels under a
kernel only some stay there. In the copy, which belongs to the thread, the pixels of a part lie side by side, and all
of them stay.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.emit.phases import PhaseTables
from omniconv.compiler.kernels.lane.rows import ARGS, Lane, Row, X
from omniconv.compiler.kernels.lane.tiles import LaneTile
from omniconv.open_size import Opener
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged(Lane):
    """The recipe of one staged kernel of a depthwise layer.

    The memory of the thread is the last arg, behind the operands. ``x_strides`` are those of the copy.

    Attributes:
        source: N, D, H, W strides of x [elements].
    """

    source: tuple[int, int, int, int]

    @classmethod
    def of(cls, recipe: Lane, parts: int) -> Staged:
        """The same layer, its channels in so many parts."""
        _, height, width = (axis.size for axis in recipe.axes)
        pixel = recipe.channels // parts
        tile = LaneTile(recipe.tile.columns, recipe.tile.chunk, max(recipe.axes[2].counts), parts)
        strides = (0, height * width * pixel, width * pixel, pixel)
        same: dict[str, Any] = {field.name: getattr(recipe, field.name) for field in fields(Lane)}
        return cls(**same | {"x_strides": strides, "readable": True, "tile": tile, "source": recipe.x_strides})

    def opened(self, opener: Opener) -> Staged:
        """The same kernel for images of any size, the channels in as many parts as now."""
        split = self.tile.split
        opened = Lane.opened(self, opener)
        return replace(opened, source=opener.strides(self.source), tile=replace(opened.tile, split=split))

    def shared(self, _opener: Opener) -> Staged:
        """The kernel itself: what it copies is as large as its memory."""
        return self

    @property
    def pixel(self) -> int:
        """Channels of a part."""
        return self.channels // self.tile.split

    @property
    def scratch(self) -> int:
        """Memory of a thread [elements]."""
        return self.pixel * math.prod(axis.size for axis in self.axes)

    @property
    def units(self) -> int:
        """Units of work: images, times parts of the channels."""
        return self.tile.split * self.batch

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        depth, height, width = self.axes
        tables = (PhaseTables(k, depth), PhaseTables(k, height), PhaseTables(k, width))
        with k.loop(k.end, start=k.begin) as unit:
            n, part = k.split(unit, self.batch, self.tile.split)
            self._copy(k, part, n)
            with k.loop(height.output) as line, k.loop(depth.output) as od:
                Row(self, k, tables, part, n, od, self.row(k, line), 0).emit()
        return k.finish()

    def image(self, k: Kernel, part: Index, _n: Index) -> Pointer:
        """Where an image with all channels would start."""
        return k.shift(self._room(k), k.mul(part, -self.pixel))

    def _room(self, k: Kernel) -> Pointer:
        operands = sum(post.operand is not None for post in self.posts)
        return k.own(ARGS + operands)

    def _copy(self, k: Kernel, part: Index, n: Index) -> None:
        depth, height, width = (axis.size for axis in self.axes)
        first = k.shift(k.arg(X), k.add(k.mul(n, self.source[0]), k.mul(part, self.pixel)))
        with k.loop(depth) as d, k.loop(height) as h, k.loop(width) as w:
            x, y = first, self._room(k)
            for index, far, near in zip((d, h, w), self.source[1:], self.x_strides[1:], strict=True):
                x, y = k.shift(x, k.mul(index, far)), k.shift(y, k.mul(index, near))
            for at in range(0, self.pixel, self.lanes):
                k.store(k.load(x, at), y, at)
