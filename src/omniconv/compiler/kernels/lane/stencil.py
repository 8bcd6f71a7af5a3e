r"""The stencil: the lane kernel for short kernels, all taps of height and width unrolled into a tile of outputs.

Each input vector of the tile is loaded once and serves every tap of every output that needs it. Outputs of a dilated
layer are taken ``dilation`` apart, so that they share inputs as those of a dense layer do; outputs of a transposed
layer are taken in all phases together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omniconv.compiler.emit.asking import ask
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Slot
from omniconv.compiler.emit.phases import PhaseTables
from omniconv.compiler.kernels.lane.rows import ChannelLoop, Lane
from omniconv.compiler.kernels.lane.tiles import StencilTile, TileAxis
from omniconv.integers import ceil_div
from omniconv.open_size import is_open
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Stencil(Lane):
    """The recipe of one stencil kernel; see :class:`omniconv.compiler.kernels.lane.rows.Lane`.

    Attributes:
        ahead: elements of a cache line where a row of tiles may ask for what the next one reads and writes, in the
            order of memory; 0 where it does not. A tile goes through the channels of some pixels in several rows, in
            steps that no processor foresees.
        far: elements of x and y together beyond which it does ask.
    """

    tile: StencilTile
    ahead: int = 0
    far: int = 0

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
        return ceil_div(self.tiles[1].tiles, self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: images, times parts of the channels, times tile rows, times blocks."""
        return self.tile.split * self.batch * self.axes[0].output * self.tiles[0].tiles * self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        depth = PhaseTables(k, self.axes[0])
        height, width = self.tiles
        with k.loop(k.end, start=k.begin) as unit:
            # Depth runs inside height: neighbouring planes then find each other's rows in the cache.
            n, part, row, od, block = k.split(
                unit, self.batch, self.tile.split, height.tiles, self.axes[0].output, self.blocks
            )
            tiles = _Tiles(self, k, depth, part, n, od)
            begin = k.mul(block, self.tile.block)
            end = k.min(width.tiles, k.add(begin, self.tile.block))
            for first, last, inside in width.classes():
                if not is_open(last) and last - first == 1:
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
        """One tile, of which the columns in ``inside`` exist; looked at on the machine where that is ``None``.

        Where columns are looked at, rows are too, which costs little and saves a fourth of the code.
        """
        k = self.k
        iy, ix = (axis.origin(k, start) for axis, start in zip(self.p.tiles, (oh, ow), strict=True))

        def emit(columns: frozenset[int]) -> None:
            k.both_ways(self._whole(0, iy), lambda rows: self._tile(oh, ow, iy, ix, columns, checked=not rows))

        if inside is not None:
            emit(inside)
            return
        k.both_ways(
            self._whole(1, ix),
            lambda columns: (
                emit(self.p.tiles[1].offsets)
                if columns
                else self._tile(oh, ow, iy, ix, None, checked=self._may_leave(0))
            ),
        )

    def _whole(self, axis: int, origin: Index) -> Condition:
        """Whether all positions that a tile reads along an axis exist."""
        k, tiles = self.k, self.p.tiles[axis]
        if not self._may_leave(axis):
            return True
        low, high = min(tiles.offsets, default=0), max(tiles.offsets, default=0)
        return k.both(k.compare(">=", k.add(origin, low), 0), k.compare("<", k.add(origin, high), tiles.walk.size))

    def _may_leave(self, axis: int) -> bool:
        """Whether some tile reads positions along an axis that do not exist."""
        tiles = self.p.tiles[axis]
        return tiles.walk.bordered or tiles.guarded

    def _tile(
        self, oh: Index, ow: Index, iy: Index, ix: Index, inside: frozenset[int] | None, *, checked: bool
    ) -> None:
        k, p = self.k, self.p
        height, width = p.tiles

        def tile(_: Index, tail: int | None) -> None:
            self._ask_ahead(oh, ow, iy)
            bias = self.bias()
            acc = [[k.variable(k.vector_type(), bias) for _ in range(width.count)] for _ in range(height.count)]
            with self.planes() as (plane, line):
                self._taps(plane, line, iy, ix, acc, inside, checked=checked)
            target = self.target(oh, ow)
            for r, row in enumerate(acc):
                y = k.add(oh, r * height.spread)
                with k.when(k.compare("<", y, height.walk.output) if height.guarded else True):
                    for t, slot in enumerate(row):
                        x = k.add(ow, t * width.spread)
                        with k.when(k.compare("<", x, width.walk.output) if width.guarded else True):
                            offset = r * height.spread * p.y_strides[2] + t * width.spread * p.y_strides[3]
                            self.finish(k.get(slot), y, x, tail, target, offset)

        self.channels(tile)

    def _ask_ahead(self, oh: Index, ow: Index, iy: Index) -> None:
        """Ask for a part of what the next row of tiles reads and writes."""
        k, p = self.k, self.p
        height, width = p.tiles
        asks = k.compare(">", p.batch * (p.x_strides[0] + p.y_strides[0]), p.far) if p.ahead else False
        if asks is False:
            return
        rows, columns = (axis.extent // axis.walk.out_step * axis.walk.in_step for axis in p.tiles)
        with k.when(asks):
            tile = k.divmod(ow, width.extent)[0]
            read = k.shift(self.x, k.mul(k.add(iy, max(height.offsets) + 1), p.x_strides[2]))
            written = k.shift(self.y, k.mul(k.add(oh, height.extent), p.y_strides[2]))
            self._ask_for(read, p.x_strides, rows, columns, tile)
            self._ask_for(written, p.y_strides, height.extent, width.extent, tile, write=True)

    def _ask_for(
        self, start: Pointer, strides: Sequence[int], rows: int, columns: int, tile: Index, *, write: bool = False
    ) -> None:
        """Ask for the share of a tile and this vector in some rows, ``columns`` pixels of which are a tile's."""
        k, p = self.k, self.p
        size, parts = rows * strides[2], p.tiles[1].tiles * p.vectors
        if is_open(size) or is_open(parts):  # the most that it may be, which is known now
            size, parts = rows * columns * strides[3], p.vectors
        ask(k, start, size, k.add(k.mul(tile, p.vectors), self.v), parts, p.ahead, write=write)

    def _taps(
        self,
        plane: Pointer,
        line: Index,
        iy: Index,
        ix: Index,
        acc: list[list[Slot]],
        inside: frozenset[int] | None,
        *,
        checked: bool,
    ) -> None:
        """All taps of height and width; rows that may not exist are looked at when ``checked``."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        rows, columns = _users(p.tiles[0]), _users(p.tiles[1])
        place = k.add(k.mul(iy, p.x_strides[2]), k.mul(ix, p.x_strides[3]))
        origin = k.anchor(k.shift(plane, k.add(place, self.column)))
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


def ask_ahead(recipe: Stencil, target: Target) -> Stencil:
    """The recipe, whose rows of tiles ask for what the next ones read and write where that pays.

    Measured with 2^19 bytes of second-level cache, whole calls in turns: layers take 0.66 to 0.94 times as long where x
    and y have 13 MB or more and pixels more than 4 lines, but for one that takes 1.03 times as long (512x14x14, batch
    32); a tenth longer at half of that, which the next cache holds; and up to a quarter longer with smaller pixels,
    which processors foresee.
    """
    depth, height, width = recipe.axes
    line, size = target.traits.line_bytes, target.element.bytes
    flat = height.static and width.static and depth.size == 1 and max(recipe.tile.spread) == 1
    if not flat or size * recipe.x_strides[3] <= 4 * line:
        return recipe
    return replace(recipe, ahead=line // size, far=24 * target.cache_bytes // size)


def _users(axis: TileAxis) -> dict[int, list[tuple[int, int]]]:
    """For each input offset of a tile in order, the (output, kernel index) pairs that read it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for output, taps in enumerate(axis.taps()):
        for offset, index in taps:
            found.setdefault(offset, []).append((output, index))
    return dict(sorted(found.items()))
