"""`TilePlan`: the tiles of an image, what each reads, and what computing them costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omniconv.analysis.record import Record
from omniconv.analysis.tiling import AxisTiling
from omniconv.program.cut import Box
from omniconv.program.statistics import Statistic
from omniconv.spec import Shape
from omniconv.tiles.axes import Axes
from omniconv.tiles.lines import Piece, Whole
from omniconv.tiles.subject import TileSubject


@dataclass(frozen=True, slots=True)
class ImageTile:
    """One tile of one image.

    Attributes:
        index: its place on each spatial axis.
        outputs, reads: what it computes and reads on each spatial axis.
        kind: tiles of one kind are computed by one program.
    """

    index: tuple[int, ...]
    outputs: Box
    reads: Box
    kind: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TilePlan(Record):
    """How an image is computed in tiles; ``print(plan)`` is a table, ``plan.picture()`` a picture.

    Attributes:
        shape, output_shape: of the arrays, along ``axes.names`` and ``axes.result``.
        axes: which axis is what.
        tile: output positions of a tile on each spatial axis; the last may be smaller.
        tiling: for each spatial axis the halo, the grid of positions that tiles begin at, and the input positions for
            each output position.
        lines: for each spatial axis its pieces.
        memory, needed: what tiles may take, and take: working memory, weights, and the inputs and outputs of the tiles
            that are read, computed and written at once [bytes].
        macs, whole_macs: multiply-accumulates of all tiles, of sweeps as well, and of the whole, for each plane [MAC].
        sweeps: what is computed before the result, one after the other: reductions over all positions.
    """

    shape: Shape
    output_shape: Shape
    axes: Axes
    tile: tuple[int, ...]
    tiling: tuple[AxisTiling, ...]
    lines: tuple[tuple[Piece, ...], ...]
    memory: int
    needed: int
    macs: int
    whole_macs: int
    sweeps: tuple[SweepPlan, ...]
    _whole: Whole = field(repr=False)
    _subject: TileSubject = field(repr=False)
    _truths: frozenset[str] = field(repr=False)

    @property
    def whole(self) -> Whole:
        """What is cut into tiles."""
        return self._whole

    @property
    def subject(self) -> TileSubject:
        """What is computed, and how it is compiled."""
        return self._subject

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type of the result."""
        return np.dtype(bool) if self._whole.tensor in self._truths else self._whole.program.element.dtype

    @property
    def planes(self) -> int:
        """Images that are computed one by one."""
        return math.prod(self.axes.planes(self.shape))

    @property
    def tiles(self) -> int:
        """Tiles of one image."""
        return math.prod(map(len, self.lines))

    @property
    def all_tiles(self) -> int:
        """Tiles that are computed for the result of one image: its own and those of the sweeps before."""
        return self.tiles + sum(sweep.plan.tiles for sweep in self.sweeps)

    @property
    def kinds(self) -> int:
        """Programs that tiles need: of the interior, edges and corners."""
        return math.prod(len({piece.kind for piece in line}) for line in self.lines)

    @property
    def recompute(self) -> float:
        """Work of all tiles over that of the whole; input positions count where there is no work."""
        if self.whole_macs:
            return self.macs / self.whole_macs
        read = self.read + sum(sweep.plan.read for sweep in self.sweeps)
        return read / math.prod(self.axes.inside(self.shape)[2:])

    @property
    def read(self) -> int:
        """Input positions that the tiles of one image read, together; without sweeps."""
        return math.prod(sum(piece.reads[1] - piece.reads[0] for piece in line) for line in self.lines)

    def __iter__(self) -> Iterator[ImageTile]:
        """The tiles of one image, the last axis first."""
        for index in itertools.product(*(range(len(line)) for line in self.lines)):
            yield self.tile_at(index)

    def tile_at(self, index: tuple[int, ...]) -> ImageTile:
        """The tile at a place on each spatial axis."""
        pieces = [line[n] for line, n in zip(self.lines, index, strict=True)]
        return ImageTile(
            index,
            tuple(piece.outputs for piece in pieces),
            tuple(piece.reads for piece in pieces),
            tuple(piece.kind for piece in pieces),
        )

    def measure_seconds(self) -> float:
        """Time for all tiles of all planes, judged by one of the commonest kind that is computed now [s]."""
        from omniconv.tiles.compiled import CompiledTiles

        return CompiledTiles(self).measure_seconds()

    def __str__(self) -> str:
        from omniconv.tiles.table import write_table

        return write_table(self)

    def picture(self, width: int = 64) -> str:
        """Tiles along each axis, drawn with letters: their kinds, where they begin, and how far they read."""
        from omniconv.tiles.table import draw_lines

        return draw_lines(self, width)


@dataclass(frozen=True, eq=False)
class SweepPlan(Record):
    """A value that is computed in tiles for the sake of reductions over all of its positions.

    Attributes:
        label: of the step that wants the first of them.
        plan: its tiles.
        statistics: the reductions.
    """

    label: str
    plan: TilePlan
    statistics: tuple[Statistic, ...]
