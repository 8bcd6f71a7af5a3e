r"""The panel kernel of weight gradients: a product of two matrices for each tap, summed over positions.

A unit of work takes a few rows of narrow at a time. It gathers the channels of one panel of them, some vectors wide, so
that they lie side by side; for each tap and some channels of wide it then adds, position by position, one number of
wide times the vectors of the panel to sums in registers. These are added to the sums of the block, in memory of its
own; the blocks are added up afterwards, in their order.
"""

from __future__ import annotations

from typing import Final

from omniconv.compiler.emit.asking import ask
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Slot
from omniconv.compiler.kernels.weights.sums import Sums
from omniconv.compiler.kernels.weights.turned import emit_turned
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

NARROW, WIDE, Y, ROOM = range(4)
"""Positions of the buffers in ``args``."""

Strides = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelPass:
    """Sizes of one pass: channels of wide and vectors of narrow whose sums are held together, rows at a time and
    positions of each, passes in a block, and whether each panel is a unit of its own.
    """

    rows: int
    vectors: int
    lines: int
    columns: int
    block: int
    apart: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSums:
    """The recipe of one kernel: everything its code depends on.

    Attributes:
        sums: what is summed.
        narrow_strides, wide_strides: N, C, D, H, W strides [elements].
        narrow_group, wide_group: distance between the first channels of neighbouring groups [elements].
        tile: sizes of one pass.
        lanes: of a vector.
        ahead: elements of a cache line where a pass asks for what the next one reads, in the order of memory, and all
            panels follow one another in a pass; 0 where values are near in any case.
        adds: whether there are sums already that these are added to.
    """

    sums: Sums
    narrow_strides: Strides
    wide_strides: Strides
    narrow_group: int
    wide_group: int
    tile: PanelPass
    lanes: int
    ahead: int = 0
    adds: bool = False

    @property
    def width(self) -> int:
        """Channels of a panel."""
        return self.tile.vectors * self.lanes

    @property
    def panels(self) -> int:
        """Panels of a group; the last one may have channels that do not exist."""
        return ceil_div(self.sums.narrow, self.width)

    @property
    def passes(self) -> int:
        """Times that some rows are taken, or segments of one."""
        return ceil_div(self.sums.rows, self.tile.lines) * self.segments

    @property
    def columns(self) -> int:
        """Positions of a row that are taken at a time."""
        return min(self.tile.columns, self.sums.axes[2].count)

    @property
    def segments(self) -> int:
        """Segments of a row."""
        return ceil_div(self.sums.axes[2].count, self.columns)

    @property
    def blocks(self) -> int:
        """Blocks of passes, each with sums of its own."""
        return ceil_div(self.passes, self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: blocks, times panels where each is a unit."""
        return self.blocks * (self.sums.groups * self.panels if self.tile.apart else 1)

    @property
    def each(self) -> int:
        """Sums of a panel."""
        return self.sums.taps * self.sums.wide * self.width

    @property
    def size(self) -> int:
        """Sums of a block: group, panel, tap, channel of wide, channel of narrow."""
        return self.sums.groups * self.panels * self.each

    @property
    def room(self) -> int:
        """Elements of a panel of some rows, for each thread."""
        return self.tile.lines * self.columns * self.width

    @property
    def terms(self) -> int:
        """Roundings of one sum, at most: products of a pass, passes of a block, blocks."""
        return self.tile.lines * self.columns + self.tile.block + self.blocks

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        panels = self.sums.groups * self.panels
        with k.loop(k.end, start=k.begin) as unit:
            if self.tile.apart:
                panel, block = k.split(unit, panels, self.blocks)
                self._block(k, block, panel)
            elif self.ahead:
                self._block(k, unit, 0, panels)
            else:
                with k.loop(panels) as panel:
                    self._block(k, unit, panel)
        return k.finish()

    def _block(self, k: Kernel, block: Index, panel: Index, panels: int = 1) -> None:
        """All passes of a block for some panels, each pass for all of these."""
        y = k.shift(k.arg(Y), k.add(k.mul(block, self.size), k.mul(panel, self.each)))
        if not self.adds:
            with k.loop(panels * self.each, step=self.lanes) as at:
                k.store(k.splat(0.0), y, at)
        first = k.mul(block, self.tile.block)
        last = k.min(k.add(first, self.tile.block), self.passes)
        with k.loop(last, start=first) as number, k.loop(panels) as more:
            own = k.shift(y, k.mul(more, self.each))
            PanelPassEmission(self, k, own, k.add(panel, more), number).emit()


class PanelPassEmission:
    """Emission of one pass: some rows of narrow, for one panel."""

    def __init__(self, recipe: PanelSums, k: Kernel, y: Pointer, panel: Index, number: Index) -> None:
        self.p, self.k, self.y = recipe, k, y
        self.group, self.index = k.divmod(panel, recipe.panels)
        lines, segment = k.divmod(number, recipe.segments)
        self.begin = k.mul(lines, recipe.tile.lines)
        self.end = k.min(k.add(self.begin, recipe.tile.lines), recipe.sums.rows)
        self.left: Index = k.mul(segment, recipe.columns)
        self.right: Index = k.min(k.add(self.left, recipe.columns), recipe.sums.axes[2].count)
        if recipe.segments == 1:
            self.left, self.right = 0, recipe.sums.axes[2].count
        self.wide = k.shift(k.arg(WIDE), k.mul(self.group, recipe.wide_group))
        width = recipe.sums.axes[2]
        inside = [width.inside(tap) for tap in range(width.kernel)]
        self.inside = [k.table(list(column)) for column in zip(*inside, strict=True)] if width.bordered else []

    def emit(self) -> None:
        """Gather the panel, then all taps and channels of wide."""
        k, p = self.k, self.p
        depth, height, width = p.sums.axes
        self.gather()
        count = ceil_div(p.sums.wide, p.tile.rows)
        size, more = divmod(p.sums.wide, count)
        with k.loop(depth.kernel) as td, k.loop(height.kernel) as th, k.loop(width.kernel) as tw:
            tap = k.add(k.mul(k.add(k.mul(td, height.kernel), th), width.kernel), tw)
            sums = k.shift(self.y, k.mul(tap, p.sums.wide * p.width))
            with k.loop(more) as number:
                self._ask_ahead(number, count)
                self._tile(sums, k.mul(number, size + 1), size + 1, td, th, tw)
            if count > more:
                with k.loop(count, start=more) as number:
                    self._ask_ahead(number, count)
                    self._tile(sums, k.add(k.mul(number, size), more), size, td, th, tw)

    def _ask_ahead(self, part: Index, parts: int) -> None:
        """Ask, with the first panel, for a part of the positions that the next pass reads."""
        k, p = self.k, self.p
        if not p.ahead:
            return
        with k.when(k.compare("==", self.index, 0) if p.panels > 1 else True):
            for place, strides in ((NARROW, p.narrow_strides), (WIDE, p.wide_strides)):
                start = k.shift(k.arg(place), k.mul(k.add(self.left, p.columns), strides[4]))
                ask(k, start, p.columns * strides[4], part, parts, p.ahead)

    def gather(self) -> None:
        """The rows of the panel, its channels side by side, zeros in those that do not exist."""
        k, p = self.k, self.p
        last = p.sums.narrow - (p.panels - 1) * p.width
        ns = p.narrow_strides
        depth, height, _ = p.sums.axes
        channel = k.add(k.mul(self.group, p.narrow_group), k.mul(self.index, p.width * ns[1]))

        def body(channels: int) -> None:
            with k.loop(self.end, start=self.begin) as row:
                n, od, oh = k.split(row, p.sums.batch, depth.count, height.count)
                place = k.add(k.mul(n, ns[0]), k.add(k.mul(od, ns[2]), k.mul(oh, ns[3])))
                place = k.add(place, k.mul(self.left, ns[4]))
                source = k.shift(k.arg(NARROW), k.add(place, channel))
                room = k.shift(self.own_room(), k.mul(k.sub(row, self.begin), p.columns * p.width))
                if ns[1] == 1:
                    with k.loop(k.sub(self.right, self.left)) as q:
                        self._copy(k.shift(source, k.mul(q, ns[4])), k.shift(room, k.mul(q, p.width)), channels)
                else:
                    emit_turned(k, source, room, k.sub(self.right, self.left), channels, (ns[1], ns[4]), p.width)

        if last == p.width:
            body(p.width)
        else:
            k.both_ways(k.compare("<", self.index, p.panels - 1), lambda whole: body(p.width if whole else last))

    def own_room(self) -> Pointer:
        """The memory that this thread gathers in."""
        return self.k.own(ROOM)

    def _copy(self, source: Pointer, room: Pointer, channels: int) -> None:
        """One position whose channels are neighbours."""
        k, p = self.k, self.p
        for v in range(p.tile.vectors):
            count = min(channels - v * p.lanes, p.lanes)
            value = k.load(source, v * p.lanes, count=count) if count > 0 else k.splat(0.0)
            k.store(value, room, v * p.lanes)

    def _tile(self, sums: Pointer, first: Index, rows: int, td: Index, th: Index, tw: Index) -> None:
        """Some channels of wide by the panel, for one tap."""
        k, p = self.k, self.p
        depth, height, width = p.sums.axes
        ws, acc = p.wide_strides, self.begin_sums(rows)
        wide = k.shift(self.wide, k.mul(first, ws[1]))
        known: list[Index] = [k.lookup(table, tw) for table in self.inside] or [0, width.count]
        low, high = k.max(known[0], self.left), k.min(known[1], self.right)
        with k.loop(self.end, start=self.begin) as row:
            n, od, oh = k.split(row, p.sums.batch, depth.count, height.count)
            iz = k.sub(k.add(k.mul(od, depth.stride), k.mul(td, depth.dilation)), depth.before)
            iy = k.sub(k.add(k.mul(oh, height.stride), k.mul(th, height.dilation)), height.before)
            inside = k.both(
                k.within(iz, depth.size) if depth.bordered else True,
                k.within(iy, height.size) if height.bordered else True,
            )
            with k.when(inside):
                place = k.add(k.mul(n, ws[0]), k.add(k.mul(iz, ws[2]), k.mul(iy, ws[3])))
                start = k.sub(k.mul(tw, width.dilation), width.before)
                line = k.shift(wide, k.add(place, k.mul(start, ws[4])))
                room = k.shift(self.own_room(), k.mul(k.sub(row, self.begin), p.columns * p.width))
                with k.loop(high, start=low) as q:
                    pixel = k.shift(line, k.mul(q, width.stride * ws[4]))
                    self.multiply(acc, pixel, ws[1], k.shift(room, k.mul(k.sub(q, self.left), p.width)))
        self.add(acc, sums, first)

    def begin_sums(self, channels: int) -> list[list[Slot]]:
        """Sums of some channels of wide and all of the panel."""
        k, zero = self.k, self.k.splat(0.0)
        return [[k.variable(k.vector_type(), zero) for _ in range(self.p.tile.vectors)] for _ in range(channels)]

    def multiply(self, acc: list[list[Slot]], pixel: Pointer, step: int, panel: Pointer) -> None:
        """Add the products of one position: numbers of wide in steps, times the vectors of the panel."""
        k, p = self.k, self.p
        pixel, panel = k.anchor(pixel), k.anchor(panel)
        held = [k.load(panel, v * p.lanes) for v in range(p.tile.vectors)]
        for r, row in enumerate(acc):
            x = k.load_splat(pixel, r * step)
            for value, slot in zip(held, row, strict=True):
                k.set(slot, k.fma(x, value, k.get(slot)))

    def add(self, acc: list[list[Slot]], sums: Pointer, first: Index) -> None:
        """Add the sums of channels from ``first`` on to those of the block."""
        k, p = self.k, self.p
        for r, row in enumerate(acc):
            for v, slot in enumerate(row):
                at = k.add(k.mul(k.add(first, r), p.width), v * p.lanes)
                k.store(k.b.fadd(k.load(sums, at), k.get(slot)), sums, at)


POSITIONS: Final = 256
"""Positions that are taken at a time, about: what they need of a panel stays in the first-level cache."""
STREAMED: Final = 64
"""The same where values come from afar: all channels of these positions wait in the caches while they are used."""
UNITS: Final = 16
"""Units of work wanted, so that a few threads get even shares."""


def plan_panel_sums(sums: Sums, target: Target, positions: int = POSITIONS) -> PanelPass:
    """The sizes of a pass: sums that fill the registers beside the vectors of a panel and one number."""
    _, rows, vectors = _find_tile(sums, target)
    count = sums.axes[2].count
    lines, columns = max(1, min(positions // count, sums.rows)), count
    if count > 2 * positions:
        columns = ceil_div(count, ceil_div(count, positions))
    passes = ceil_div(sums.rows, lines) * ceil_div(count, columns)
    width = vectors * target.lanes
    panels = sums.groups * ceil_div(sums.narrow, width)
    blocks = min(passes, ceil_div(UNITS, panels))
    size = panels * width * sums.wide * sums.taps
    data = sums.groups * (sums.narrow + sums.wide) * sums.rows * count
    if passes >= UNITS and 2 * UNITS * size <= data:
        blocks = UNITS
    return PanelPass(
        rows=rows,
        vectors=vectors,
        lines=lines,
        columns=columns,
        block=ceil_div(passes, blocks),
        apart=blocks < UNITS,
    )


def plan_order(sums: Sums, target: Target) -> tuple[bool, int]:
    """Whether narrow and wide of a pointwise layer whose values are channels last had better change places, and
    :attr:`PanelSums.ahead`.

    Values that come from afar are read once, in the order of memory, with few panels of the side that has fewer
    channels. Nearer ones have the larger side in panels, so that the smaller one stays in the cache for all of them.
    """
    size = target.element.bytes
    streamed = sums.turn() if sums.narrow > sums.wide else sums
    far = size * (sums.narrow + sums.wide) * sums.axes[2].count > target.cache_bytes
    if far and sums.groups == sums.rows == 1 and not plan_panel_sums(streamed, target, STREAMED).apart:
        return streamed is not sums, target.traits.line_bytes // size
    return sums.narrow < sums.wide, 0


def cost_panel_sums(sums: Sums, target: Target) -> float:
    """Cost of one position and tap of a group, in multiply-adds of whole vectors."""
    return _find_tile(sums, target)[0]


def _find_tile(sums: Sums, target: Target) -> tuple[float, int, int]:
    """The cheapest tile: cost, channels of wide, vectors of narrow."""
    tiles = [
        (_cost_tile(sums, target, rows, vectors), -rows, vectors)
        for vectors in range(1, 5)
        for rows in range(1, (target.registers - 1 - vectors) // vectors + 1)
    ]
    cost, rows, vectors = min(tiles)
    return cost, -rows, vectors


def _cost_tile(sums: Sums, target: Target, rows: int, vectors: int) -> float:
    """Cost of one position and tap, in multiply-adds of whole vectors."""
    panels, count = ceil_div(ceil_div(sums.narrow, target.lanes), vectors), ceil_div(sums.wide, rows)
    rows = ceil_div(sums.wide, count)
    loads = (rows + vectors) * target.traits.fmas_per_load
    return panels * count * (max(rows * vectors, loads, target.traits.sums_in_flight) + 1.0)
