r"""The stencil: the lane kernel for short kernels, all taps of height and width unrolled into a tile of outputs.

Each input vector of the tile is loaded once and serves every tap of every output that needs it. Outputs of a dilated
layer are taken ``dilation`` apart, so that they share inputs as those of a dense layer do; outputs of a transposed
layer are taken in all phases together.
"""

from __future__ import annotations

from dataclasses import dataclass

from omniconv.compiler.ir import Index, Kernel, Value
from omniconv.compiler.lane import ChannelLoop, Lane, LaneTile
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk, PhaseTables


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
            with k.loop(end, start=begin) as column:
                tiles.emit(height.start(k, row), width.start(k, column))
        return k.finish()


class _Tiles(ChannelLoop):
    """Emission of the tiles of one unit."""

    p: Stencil

    def emit(self, oh: Index, ow: Index) -> None:
        """One tile: without checks where all of its inputs exist."""
        k = self.k
        origins: list[Index] = []
        inside: Value | bool = True
        for axis, start in zip(self.p.tiles, (oh, ow), strict=True):
            origin = axis.origin(k, start)
            origins.append(origin)
            if axis.walk.bordered or axis.guarded:
                offsets = [offset for taps in axis.taps() for offset, _ in taps] or [0]
                inside = k.both(inside, k.compare(">=", k.add(origin, min(offsets)), 0))
                inside = k.both(inside, k.compare("<", k.add(origin, max(offsets)), axis.walk.size))
        k.both_ways(inside, lambda whole: self._tile(oh, ow, origins[0], origins[1], checked=not whole))

    def _tile(self, oh: Index, ow: Index, iy: Index, ix: Index, *, checked: bool) -> None:
        k, p = self.k, self.p
        height, width = p.tiles

        def tile(_: Index, tail: int | None) -> None:
            bias = self.bias()
            acc = [[k.variable(k.vector_type(), bias) for _ in range(width.count)] for _ in range(height.count)]
            with self.planes() as (plane, line):
                self._taps(plane, line, iy, ix, acc, checked=checked)
            for r, row in enumerate(acc):
                y = k.add(oh, r * height.spread)
                with k.when(k.compare("<", y, height.walk.output) if height.guarded else True):
                    for t, slot in enumerate(row):
                        x = k.add(ow, t * width.spread)
                        with k.when(k.compare("<", x, width.walk.output) if width.guarded else True):
                            self.finish(k.get(slot), y, x, tail)

        self.channels(tile)

    def _taps(
        self, plane: Value, line: Index, iy: Index, ix: Index, acc: list[list[Value]], *, checked: bool
    ) -> None:  # fmt: skip
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        values = [[k.get(slot) for slot in row] for row in acc]
        rows, columns = _users(p.tiles[0]), _users(p.tiles[1])
        origin = k.anchor(k.shift(plane, k.add(k.mul(iy, p.x_strides[2]), k.mul(ix, p.x_strides[3]))))
        for dy, row_users in rows.items():
            weights = {
                (i, c, j): self.weight(k.add(k.mul(k.add(line, i), width.kernel), c), j)
                for i in sorted({i for _, i in row_users})
                for c in sorted({c for users in columns.values() for _, c in users})
                for j in range(p.inputs)
            }
            for dx, column_users in columns.items():
                pixel = k.shift(origin, dy * p.x_strides[2] + dx * p.x_strides[3])
                if checked:
                    inside = k.both(k.within(k.add(iy, dy), height.size), k.within(k.add(ix, dx), width.size))
                    pixel = k.choose(inside, pixel, self.zero)
                for j, value in self.inputs(pixel):
                    for t, c in column_users:
                        for r, i in row_users:
                            values[r][t] = k.fma(value, weights[i, c, j], values[r][t])
        for row, slots in zip(values, acc, strict=True):
            for value, slot in zip(row, slots, strict=True):
                k.set(slot, value)


def _users(axis: TileAxis) -> dict[int, list[tuple[int, int]]]:
    """For each input offset of a tile in order, the (output, kernel index) pairs that read it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for output, taps in enumerate(axis.taps()):
        for offset, index in taps:
            found.setdefault(offset, []).append((output, index))
    return dict(sorted(found.items()))
