"""The lane kernel of weight gradients over copies: what a pass needs of a few channels is copied first, these channels
side by side, to memory of the thread.

That serves values whose channels are far apart, of which one vector of channels is copied, and values whose pixels lie
so that they share few sets of the first-level cache, of which whole lines are.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.kernels.weights.lane import BLOCKS, NARROW, WIDE, ZERO, LaneStretch, LaneSums, Y
from omniconv.compiler.kernels.weights.turned import emit_turned
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

ROOM = ZERO + 1
"""Position of the thread's memory in ``args``, behind those of the lane kernel."""

Strides = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSums(LaneSums):
    """The recipe of one kernel. ``narrow_strides`` and ``wide_strides`` are those of the copies.

    Attributes:
        narrow_source, wide_source: N, C, D, H, W strides of the values [elements].
        lines: rows of narrow in a pass.
        together: vectors of channels that are copied together.
    """

    narrow_source: Strides
    wide_source: Strides
    lines: int
    together: int

    @classmethod
    def of(cls, recipe: LaneSums, narrow: Strides, wide: Strides, target: Target) -> StagedSums | None:
        """The same sums over values of these strides; ``None`` where a single row is more than the cache holds, or
        where whole lines of neighbouring channels are no whole vectors of all groups.
        """
        depth, height, width = recipe.sums.axes
        lanes, together = recipe.lanes, 1
        if narrow[1] == wide[1] == 1:
            together = max(1, target.traits.line_bytes // (target.element.bytes * lanes))
            alike = recipe.sums.narrow == recipe.sums.wide and recipe.grouping.width == lanes
            if not alike or recipe.sums.groups % (recipe.grouping.groups * together):
                return None
        pitch = lanes * together
        room = target.cache_bytes // (2 * target.element.bytes * pitch)
        own, met = width.count, depth.kernel * width.size
        extent = (height.kernel - 1) * height.dilation + 1
        lines = (room - met * (extent - height.stride)) // (own + met * height.stride)
        if lines < 1:
            return None
        lines = ceil_div(height.count, ceil_div(height.count, min(lines, height.count)))
        rows = (lines - 1) * height.stride + extent
        same: dict[str, Any] = {field.name: getattr(recipe, field.name) for field in fields(LaneSums)}
        same |= {
            "narrow_strides": (0, 0, width.count * pitch, pitch),
            "wide_strides": (0, rows * width.size * pitch, width.size * pitch, pitch),
            "narrow_readable": True,
            "wide_readable": True,
            "ahead": 0,
        }
        found = cls(**same, narrow_source=narrow, wide_source=wide, lines=lines, together=together)
        # Neighbouring lines of channels-last values are fetched one soon after the other.
        blocks = min(BLOCKS, found.passes) if together > 1 else ceil_div(2 * BLOCKS, found.teams)
        blocks = max(1, min(BLOCKS, found.passes, blocks))
        split = min(found.teams, ceil_div(BLOCKS, blocks)) if together > 1 else found.teams
        return replace(found, tile=replace(recipe.tile, block=ceil_div(found.passes, blocks), split=split))

    @property
    def teams(self) -> int:
        """Numbers of vectors of channels that are copied together."""
        return self.vectors // self.together

    @property
    def segments(self) -> int:
        """Passes over the rows of a plane."""
        return ceil_div(self.sums.axes[1].count, self.lines)

    @property
    def passes(self) -> int:
        """Passes over all images."""
        return self.sums.batch * self.sums.axes[0].count * self.segments

    @property
    def blocks(self) -> int:
        """Blocks of passes, each with sums of its own."""
        return ceil_div(self.passes, self.tile.block)

    @property
    def terms(self) -> int:
        """Roundings of one sum, at most."""
        return self.longest + self.tile.block * self.lines * self.stretches + self.blocks

    @property
    def room(self) -> int:
        """Elements of the copies, for each thread."""
        return self.lines * self.narrow_strides[2] + self.sums.axes[0].kernel * self.wide_strides[1]

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        depth, height, _ = self.sums.axes
        room = k.own(ROOM)
        with k.loop(k.end, start=k.begin) as unit:
            part, block = k.split(unit, self.tile.split, self.blocks)
            sums = k.shift(k.arg(Y), k.mul(block, self.size))
            low, high = (k.divmod(k.mul(k.add(part, i), self.teams), self.tile.split)[0] for i in (0, 1))
            self._clear(k, sums, k.mul(low, self.together), k.mul(high, self.together))
            begin = k.mul(block, self.tile.block)
            with (
                k.loop(k.min(k.add(begin, self.tile.block), self.passes), start=begin) as number,
                k.loop(high, start=low) as team,
            ):
                v = k.mul(team, self.together)
                n, od, segment = k.split(number, self.sums.batch, depth.count, self.segments)
                first = k.mul(segment, self.lines)
                last = k.min(k.add(first, self.lines), height.count)
                self._copy(k, room, v, (n, od, first, last))
                top = k.sub(k.mul(first, height.stride), height.before)
                wide = k.shift(room, self.lines * self.narrow_strides[2])
                wide = k.shift(wide, k.mul(top, -self.wide_strides[2]))
                with (
                    k.loop(last, start=first) as oh,
                    k.loop(self.stretches) as along,
                    k.loop(self.together) as t,
                ):
                    lane = k.mul(t, self.lanes)
                    narrow = k.shift(room, k.add(k.mul(k.sub(oh, first), self.narrow_strides[2]), lane))
                    source = k.shift(wide, lane)
                    LaneStretch(self, k, sums, narrow, source, od, oh, along, copied=True).emit(k.add(v, t))
        return k.finish()

    def _copy(self, k: Kernel, room: Pointer, v: Index, place: tuple[Index, Index, Index, Index]) -> None:
        """The rows of a pass, and those that they meet."""
        n, od, first, last = place
        depth, height, width = self.sums.axes
        group = k.min(k.mul(v, self.grouping.groups), self.firsts[-1])
        ns, ws = self.narrow_source, self.wide_source
        image = k.add(k.mul(n, ns[0]), k.add(k.mul(od, ns[2]), k.mul(group, self.sums.narrow * ns[1])))
        with k.loop(last, start=first) as oh:
            source = k.shift(k.arg(NARROW), k.add(image, k.mul(oh, ns[3])))
            target = k.shift(room, k.mul(k.sub(oh, first), self.narrow_strides[2]))
            self._row(k, source, target, width.count, self.sums.narrow, ns)
        image = k.add(k.mul(n, ws[0]), k.mul(group, self.sums.wide * ws[1]))
        top = k.sub(k.mul(first, height.stride), height.before)
        extent = (height.kernel - 1) * height.dilation + 1
        end = k.add(top, k.add(k.mul(k.sub(k.sub(last, first), 1), height.stride), extent))
        planes = k.shift(room, self.lines * self.narrow_strides[2])
        with k.loop(depth.kernel) as td:
            iz = k.sub(k.add(k.mul(od, depth.stride), k.mul(td, depth.dilation)), depth.before)
            with (
                k.when(k.within(iz, depth.size) if depth.bordered else True),
                k.loop(k.min(end, height.size), start=k.max(top, 0)) as iy,
            ):
                source = k.shift(k.arg(WIDE), k.add(image, k.add(k.mul(iz, ws[2]), k.mul(iy, ws[3]))))
                row = k.add(k.mul(td, self.wide_strides[1]), k.mul(k.sub(iy, top), self.wide_strides[2]))
                self._row(k, source, k.shift(planes, row), width.size, self.sums.wide, ws)

    def _row(self, k: Kernel, source: Pointer, room: Pointer, count: int, channels: int, strides: Strides) -> None:
        """One row of the channels of a team."""
        if strides[1] == 1:
            with k.loop(count) as q:
                pixel, own = k.shift(source, k.mul(q, strides[4])), k.shift(room, k.mul(q, self.lanes * self.together))
                for at in range(0, self.lanes * self.together, self.lanes):
                    k.store(k.load(pixel, at), own, at)
            return
        wide = min(self.grouping.groups, self.sums.groups) * channels
        emit_turned(k, source, room, count, wide, (strides[1], strides[4]), self.lanes)
