r"""The stencil: the lane kernel for short kernels, all taps of height and width unrolled into a tile of outputs.

Each input vector of the tile is loaded once and serves every tap of every output that needs it. Outputs of a dilated
layer are taken ``dilation`` apart, so that they share inputs as those of a dense layer do; outputs of a transposed
layer are taken in all phases together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from omniconv.compiler.ir import Index, Kernel, Value
from omniconv.compiler.lane import ChannelLoop, Lane, LaneTile
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk, PhaseTables

MOST_CLASSES: Final = 3
"""Kinds of tiles along the width that get code of their own."""


@dataclass(frozen=True, slots=True)
class TileAxis:
    """Tiles of ``count`` outputs, ``spread`` apart, along one axis.

    Tiles come in blocks of ``spread`` that fill ``count * spread`` neighbouring outputs. The last block overlaps the
    one before it as far as the phases allow; what then still hangs over is not stored.
    """

    walk: AxisWalk
    count: int
    spread: int

    @property
    def extent(self) -> int:
        """Neighbouring outputs in one block of tiles."""
        return self.count * self.spread

    @property
    def tiles(self) -> int:
        """Tiles along the axis."""
        return -(self.walk.output // -self.extent) * self.spread

    @property
    def last(self) -> int:
        """First output of the last block: a whole number of phases from the start."""
        step = self.walk.out_step
        return max(0, -((self.walk.output - self.extent) // -step) * step)

    @property
    def guarded(self) -> bool:
        """Whether some tile hangs over the end of the output."""
        return self.last + self.extent > self.walk.output

    @property
    def offsets(self) -> frozenset[int]:
        """What a tile reads, counted from its origin."""
        return frozenset(offset for taps in self.taps() for offset, _ in taps)

    def classes(self) -> list[tuple[int, int, frozenset[int] | None]]:
        """Ranges of tiles that have the same offsets inside the input, with these offsets; ``None`` where they differ
        from tile to tile and are looked at on the machine.

        Usually three: the first tiles, with what lands before the input left out, those between, and the last.
        """
        every = self.offsets
        if not (self.walk.bordered or self.guarded):
            return [(0, self.tiles, every)]
        inside = [self._inside(tile, every) for tile in range(self.tiles)]
        bounds = [0, *(tile for tile in range(1, self.tiles) if inside[tile] != inside[tile - 1]), self.tiles]
        if self.guarded or len(bounds) > MOST_CLASSES + 1:
            return [(0, self.tiles, None)]
        return [(a, b, inside[a]) for a, b in pairwise(bounds)]

    def _inside(self, tile: int, offsets: frozenset[int]) -> frozenset[int]:
        """The offsets from the origin of one tile that land inside the input."""
        block, residue = divmod(tile, self.spread)
        start = min(block * self.extent, self.last) + residue
        origin = start // self.walk.out_step * self.walk.in_step
        return frozenset(offset for offset in offsets if 0 <= origin + offset < self.walk.size)

    def start(self, k: Kernel, tile: Index) -> Index:
        """First output of a tile."""
        block, residue = k.divmod(tile, self.spread)
        return k.add(k.min(k.mul(block, self.extent), self.last), residue)

    def origin(self, k: Kernel, start: Index) -> Index:
        """The input position that :meth:`taps` count from."""
        return k.mul(k.divmod(start, self.walk.out_step)[0], self.walk.in_step)

    def taps(self) -> list[list[tuple[int, int]]]:
        """For each output of a tile, (offset from the origin, kernel index) of its taps."""
        walk = self.walk
        found = []
        for index in range(self.count):
            q, phase = divmod(index * self.spread, walk.out_step)
            # Phases beyond the output are never stored: any taps will do.
            phase = min(phase, walk.phases - 1)
            base = q * walk.in_step + walk.first[phase]
            found.append([(base + t * walk.ostep, walk.k0[phase] + t * walk.kstep) for t in range(walk.taps[phase])])
        return found


@dataclass(frozen=True, slots=True)
class StencilTile(LaneTile):
    """Sizes chosen by the schedule.

    Attributes:
        rows: outputs of a tile along the height (``columns`` along the width).
        spread: distance between neighbouring outputs of a tile, along height and width.
    """

    rows: int = 1
    spread: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Stencil(Lane):
    """The recipe of one stencil kernel; see :class:`omniconv.compiler.lane.Lane`."""

    tile: StencilTile

    @property
    def tiles(self) -> tuple[TileAxis, TileAxis]:
        """Tiles along height and width."""
        return (
            TileAxis(self.axes[1], self.tile.rows, self.tile.spread[0]),
            TileAxis(self.axes[2], self.tile.columns, self.tile.spread[1]),
        )

    @property
    def blocks(self) -> int:
        """Blocks of tiles along the width."""
        return -(self.tiles[1].tiles // -self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: parts of the channels, times tile rows, times blocks."""
        return self.tile.split * self.batch * self.axes[0].output * self.tiles[0].tiles * self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        depth = PhaseTables(k, self.axes[0])
        height, width = self.tiles
        with k.loop(k.end, start=k.begin) as unit:
            # Depth runs inside height: neighbouring planes then find each other's rows in the cache.
            part, n, row, od, block = k.split(
                unit, self.tile.split, self.batch, height.tiles, self.axes[0].output, self.blocks
            )
            tiles = _Tiles(self, k, depth, part, n, od)
            begin = k.mul(block, self.tile.block)
            end = k.min(width.tiles, k.add(begin, self.tile.block))
            for first, last, inside in width.classes():
                if last - first == 1:
                    with k.when(k.both(k.compare(">=", first, begin), k.compare("<", first, end))):
                        tiles.emit(height.start(k, row), width.start(k, first), inside)
                else:
                    with k.loop(k.min(end, last), start=k.max(begin, first)) as column:
                        tiles.emit(height.start(k, row), width.start(k, column), inside)
        return k.finish()


class _Tiles(ChannelLoop):
    """Emission of the tiles of one unit."""

    p: Stencil

    def emit(self, oh: Index, ow: Index, inside: frozenset[int] | None) -> None:
        """One tile, of which the columns in ``inside`` exist; looked at on the machine where that is ``None``."""
        k = self.k
        iy, ix = (axis.origin(k, start) for axis, start in zip(self.p.tiles, (oh, ow), strict=True))

        def emit(columns: frozenset[int] | None) -> None:
            k.both_ways(self._whole(0, iy), lambda rows: self._tile(oh, ow, iy, ix, columns, checked=not rows))

        if inside is not None:
            emit(inside)
        else:
            k.both_ways(self._whole(1, ix), lambda columns: emit(self.p.tiles[1].offsets if columns else None))

    def _whole(self, axis: int, origin: Index) -> Value | bool:
        """Whether all positions that a tile reads along an axis exist."""
        k, tiles = self.k, self.p.tiles[axis]
        if not (tiles.walk.bordered or tiles.guarded):
            return True
        low, high = min(tiles.offsets, default=0), max(tiles.offsets, default=0)
        return k.both(k.compare(">=", k.add(origin, low), 0), k.compare("<", k.add(origin, high), tiles.walk.size))

    def _tile(
        self, oh: Index, ow: Index, iy: Index, ix: Index, inside: frozenset[int] | None, *, checked: bool
    ) -> None:  # fmt: skip
        k, p = self.k, self.p
        height, width = p.tiles

        def tile(_: Index, tail: int | None) -> None:
            bias = self.bias()
            acc = [[k.variable(k.vector_type(), bias) for _ in range(width.count)] for _ in range(height.count)]
            with self.planes() as (plane, line):
                self._taps(plane, line, iy, ix, acc, inside, checked=checked)
            for r, row in enumerate(acc):
                y = k.add(oh, r * height.spread)
                with k.when(k.compare("<", y, height.walk.output) if height.guarded else True):
                    for t, slot in enumerate(row):
                        x = k.add(ow, t * width.spread)
                        with k.when(k.compare("<", x, width.walk.output) if width.guarded else True):
                            self.finish(k.get(slot), y, x, tail)

        self.channels(tile)

    def _taps(
        self, plane: Value, line: Index, iy: Index, ix: Index, acc: list[list[Value]], inside: frozenset[int] | None,
        *, checked: bool,
    ) -> None:  # fmt: skip
        """All taps of height and width; rows that may not exist are looked at when ``checked``."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        rows, columns = _users(p.tiles[0]), _users(p.tiles[1])
        origin = k.anchor(k.shift(plane, k.add(k.mul(iy, p.x_strides[2]), k.mul(ix, p.x_strides[3]))))
        for dy, row_users in rows.items():
            with k.when(k.within(k.add(iy, dy), height.size) if checked else True):
                weights = {
                    (i, c, j): self.weight(k.add(k.mul(k.add(line, i), width.kernel), c), j)
                    for i in sorted({i for _, i in row_users})
                    for c in sorted({c for users in columns.values() for _, c in users})
                    for j in range(p.inputs)
                }
                values = {(r, t): k.get(slot) for r, _ in row_users for t, slot in enumerate(acc[r])}
                for dx, column_users in columns.items():
                    if inside is not None and dx not in inside:
                        continue
                    pixel = k.shift(origin, dy * p.x_strides[2] + dx * p.x_strides[3])
                    if inside is None:
                        pixel = k.choose(k.within(k.add(ix, dx), width.size), pixel, self.zero)
                    for j, value in self.inputs(pixel, range(p.inputs)):
                        for t, c in column_users:
                            for r, i in row_users:
                                values[r, t] = k.fma(value, weights[i, c, j], values[r, t])
                for (r, t), value in values.items():
                    k.set(acc[r][t], value)


def _users(axis: TileAxis) -> dict[int, list[tuple[int, int]]]:
    """For each input offset of a tile in order, the (output, kernel index) pairs that read it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for output, taps in enumerate(axis.taps()):
        for offset, index in taps:
            found.setdefault(offset, []).append((output, index))
    return dict(sorted(found.items()))
