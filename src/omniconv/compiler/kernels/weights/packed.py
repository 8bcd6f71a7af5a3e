"""The panel kernel of weight gradients of pointwise layers whose values are channels last and come from afar.

A panel has a few lines of each position, and a tile of wide a few numbers: both are read in steps of a pixel, which no
processor foresees, and once for every panel. So a pass copies both as they lie first, each panel and each tile with all
of its positions side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.kernels.weights.panel import NARROW, ROOM, WIDE, PanelPassEmission, PanelSums, Y
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

FAR: Final = 32
"""Second-level caches that values overflow at least: they come from memory (128 channels, 16x56x56: 33.6 to 27.4 ms).
What lies in the last-level cache is read in place sooner (16 to 96 channels, 8x48x48: 1.16 and 1.26 ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSums(PanelSums):
    """The recipe of one kernel.

    Attributes:
        gap: between copies, so that they do not share their sets of the cache [elements].
    """

    gap: int

    @classmethod
    def of(cls, recipe: PanelSums, target: Target) -> PackedSums | None:
        """The same sums; ``None`` for other layers, for values that are near, and where copies do not fit the cache."""
        sums, size = recipe.sums, target.element.bytes
        last = recipe.narrow_strides[1] == recipe.wide_strides[1] == 1
        if not (sums.pointwise and last) or sums.groups > 1 or sums.rows > 1 or recipe.tile.apart:
            return None
        channels = sums.narrow + sums.wide
        if size * channels * sums.axes[2].count < FAR * target.cache_bytes:
            return None
        if size * channels * recipe.columns > target.cache_bytes:
            return None
        same: dict[str, Any] = {field.name: getattr(recipe, field.name) for field in fields(PanelSums)}
        return cls(**same, gap=target.traits.line_bytes // size)

    @property
    def units(self) -> int:
        """Units of work: blocks."""
        return self.blocks

    @property
    def tiles(self) -> int:
        """Tiles of wide: the first ones have one channel more than the others."""
        return ceil_div(self.sums.wide, self.tile.rows)

    @property
    def pitch(self) -> int:
        """Channels of a tile, at most."""
        return ceil_div(self.sums.wide, self.tiles)

    @property
    def held(self) -> int:
        """Elements of the copy of a panel."""
        return self.columns * self.width + self.gap

    @property
    def read(self) -> int:
        """Elements of the copy of a tile."""
        return self.columns * self.pitch + self.gap

    @property
    def room(self) -> int:
        """Elements of all copies, for each thread."""
        return self.panels * self.held + self.tiles * self.read + self.lanes

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        with k.loop(k.end, start=k.begin) as block:
            y = k.shift(k.arg(Y), k.mul(block, self.size))
            with k.loop(self.size, step=self.lanes) as at:
                k.store(k.splat(0.0), y, at)
            first = k.mul(block, self.tile.block)
            with k.loop(k.min(k.add(first, self.tile.block), self.passes), start=first) as number:
                self._pass(k, y, number)
        return k.finish()

    def _pass(self, k: Kernel, y: Pointer, number: Index) -> None:
        """Copy all; then each panel with all tiles."""
        left = k.mul(number, self.columns)
        count = k.sub(k.min(k.add(left, self.columns), self.sums.axes[2].count), left)
        panels = k.shift(k.arg(ROOM), k.mul(k.thread, self.room))
        tiles = k.shift(panels, self.panels * self.held)
        with k.loop(count) as q:
            pixel = k.add(left, q)
            narrow = k.shift(k.arg(NARROW), k.mul(pixel, self.narrow_strides[4]))
            wide = k.shift(k.arg(WIDE), k.mul(pixel, self.wide_strides[4]))
            self._copy_panels(k, narrow, k.shift(panels, k.mul(q, self.width)))
            line = k.shift(tiles, k.mul(q, self.pitch))

            def move(tile: Index, first: Index, channels: int) -> None:
                source, room = k.shift(wide, first), k.shift(line, k.mul(tile, self.read))
                for at in range(0, channels, self.lanes):
                    # What a vector has too many is written over by the next position, or lies in the gap.
                    k.store(k.load(source, at, count=channels - at), room, at)

            self._each(k, move)
        with k.loop(self.panels) as panel:
            own = PanelPassEmission(self, k, k.shift(y, k.mul(panel, self.each)), panel, number)
            held = k.shift(panels, k.mul(panel, self.held))

            def multiply(tile: Index, first: Index, channels: int) -> None:
                read = k.shift(tiles, k.mul(tile, self.read))
                sums = own.begin_sums(channels)
                with k.loop(count) as q:
                    own.multiply(sums, k.shift(read, k.mul(q, self.pitch)), 1, k.shift(held, k.mul(q, self.width)))
                own.add(sums, own.y, first)

            self._each(k, multiply)

    def _copy_panels(self, k: Kernel, source: Pointer, room: Pointer) -> None:
        """One position of all panels."""
        whole, rest = divmod(self.sums.narrow, self.width)
        with k.loop(whole) as panel:
            place = k.shift(room, k.mul(panel, self.held))
            for v in range(self.tile.vectors):
                k.store(k.load(k.shift(source, k.mul(panel, self.width)), v * self.lanes), place, v * self.lanes)
        if rest:
            place = k.shift(room, whole * self.held)
            for first in range(0, self.width, self.lanes):
                some = min(rest - first, self.lanes)
                value = k.load(source, whole * self.width + first, count=some) if some > 0 else k.splat(0.0)
                k.store(value, place, first)

    def _each(self, k: Kernel, body: Callable[[Index, Index, int], None]) -> None:
        """Run ``body(tile, first channel, channels)`` for all tiles."""
        size, more = divmod(self.sums.wide, self.tiles)
        with k.loop(more) as tile:
            body(tile, k.mul(tile, size + 1), size + 1)
        with k.loop(self.tiles, start=more) as tile:
            body(tile, k.add(k.mul(tile, size), more), size)
