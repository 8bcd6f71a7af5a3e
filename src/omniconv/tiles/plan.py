"""`TilePlan`: the tiles of an image, what each reads, and what computing them costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import field
from fractions import Fraction

import numpy as np

from omniconv.analysis.record import Record
from omniconv.analysis.tiling import AxisTiling
from omniconv.program.cut import Box
from omniconv.program.statistics import Statistic
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.tiles.axes import CHANNEL, Axes
from omniconv.tiles.lines import Piece, Whole
from omniconv.tiles.subject import TileSubject


@dataclass(frozen=True, slots=True)
class ImageTile:
    """One tile of one plane.

    Attributes:
        index: its place on each spatial axis.
        outputs: what it computes of each output on each spatial axis; a smaller output may have no part in it.
        reads: what it reads of each image.
        kind: tiles of one kind are computed by one program.
    """

    index: tuple[int, ...]
    outputs: dict[str, Box]
    reads: dict[str, Box]
    kind: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TiledInput:
    """An array that is read in tiles.

    Attributes:
        shape, axes: of the array.
        tiling: for each spatial axis the halo, the grid of positions that tiles begin at, and the positions of this
            input for each of the first output.
    """

    shape: Shape
    axes: Axes
    tiling: tuple[AxisTiling, ...]


@dataclass(frozen=True, slots=True)
class TiledOutput:
    """An array that is computed in tiles.

    Attributes:
        shape, axes, dtype: of the array.
        tile: its positions in a tile on each spatial axis; a fraction where a tile of the first output begins between
            two of them.
    """

    shape: Shape
    axes: Axes
    dtype: str
    tile: tuple[Fraction, ...]

    def tile_shape(self) -> tuple[Fraction, ...]:
        """The shape of a tile in the array."""
        sizes = dict(zip(self.axes.spatial, self.tile, strict=True))
        sizes[CHANNEL] = Fraction(dict(zip(self.axes.names, self.shape, strict=True)).get(CHANNEL, 1))
        return tuple(sizes.get(name, Fraction(1)) for name in self.axes.names)


@dataclass(frozen=True, eq=False)
class TilePlan(Record):
    """How images are computed in tiles; ``print(plan)`` is a table, ``plan.picture()`` a picture.

    Attributes:
        inputs, outputs: the arrays, by name.
        sides: shapes of the inputs that every tile is given as a whole.
        tile: positions of the first output in a tile on each spatial axis; the last may be smaller.
        lines: for each spatial axis its pieces.
        memory, needed: what tiles may take, and take: working memory, weights, and the inputs and outputs of the tiles
            that are read, computed and written at once [bytes].
        macs, whole_macs: multiply-accumulates of all tiles, of sweeps as well, and of the whole, for each plane [MAC].
        sweeps: what is computed before the result, one after the other: reductions over all positions.
    """

    inputs: dict[str, TiledInput]
    outputs: dict[str, TiledOutput]
    sides: dict[str, Shape]
    tile: tuple[int, ...]
    lines: tuple[tuple[Piece, ...], ...]
    memory: int
    needed: int
    macs: int
    whole_macs: int
    sweeps: tuple[SweepPlan, ...]
    _whole: Whole = field(repr=False)
    _subject: TileSubject = field(repr=False)

    @property
    def whole(self) -> Whole:
        """What is cut into tiles."""
        return self._whole

    @property
    def subject(self) -> TileSubject:
        """What is computed, and how it is compiled."""
        return self._subject

    @property
    def first(self) -> TiledInput:
        """The image that says which planes there are."""
        return next(iter(self.inputs.values()))

    @property
    def tiling(self) -> tuple[AxisTiling, ...]:
        """Halo, grid and rate of the first image on each spatial axis."""
        return self.first.tiling

    @property
    def planes(self) -> int:
        """Images that are computed one by one."""
        return math.prod(self.first.axes.planes(self.first.shape).values())

    def list_planes(self) -> list[dict[str, int]]:
        """Where each of them is, the last axis first."""
        sizes = self.first.axes.planes(self.first.shape)
        return [dict(zip(sizes, place, strict=True)) for place in np.ndindex(*sizes.values())]

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
        return read / math.prod(self.first.axes.inside(self.first.shape)[2:])

    @property
    def read(self) -> int:
        """Positions of the first image that the tiles of one plane read, together; without sweeps."""
        return math.prod(sum(piece.reads[0][1] - piece.reads[0][0] for piece in line) for line in self.lines)

    def __iter__(self) -> Iterator[ImageTile]:
        """The tiles of one image, the last axis first."""
        for index in itertools.product(*(range(len(line)) for line in self.lines)):
            yield self.tile_at(index)

    def tile_at(self, index: tuple[int, ...]) -> ImageTile:
        """The tile at a place on each spatial axis."""
        pieces = [line[n] for line, n in zip(self.lines, index, strict=True)]
        outputs = zip(self.outputs, zip(*(piece.outputs for piece in pieces), strict=True), strict=True)
        reads = zip(self.inputs, zip(*(piece.reads for piece in pieces), strict=True), strict=True)
        return ImageTile(
            index,
            {name: box for name, box in outputs if all(first < stop for first, stop in box)},
            dict(reads),
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
