"""A row whose channels are far apart, copied with its channels side by side."""

from __future__ import annotations

from functools import partial

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.emit.vectors import emit_transpose_from
from omniconv.integers import ceil_div
from omniconv.records import dataclass


def emit_turned(
    k: Kernel, source: Pointer, room: Pointer, count: Index, channels: int, steps: tuple[int, int], pitch: int
) -> None:
    """Copy ``count`` positions of some channels to ``room``, ``pitch`` apart there.

    Neighbouring positions are turned in square tiles, the last of which overlaps the one before it; others, and rows
    that are shorter than a tile, go one by one. Vectors are filled up by repeating the last channel.

    Args:
        k: the kernel.
        source, room: the first position.
        count, channels: how many of both.
        steps: distances between channels and between positions of ``source`` [elements].
        pitch: distance between positions of ``room`` [elements].
    """
    channel, position = steps
    for first in range(0, ceil_div(channels, k.lanes) * k.lanes, k.lanes):
        offsets = [min(first + lane, channels - 1) * channel for lane in range(k.lanes)]
        vector = _Vector(k, source, k.shift(room, first), offsets, position, pitch)
        if position == 1:
            k.both_ways(k.compare(">=", count, k.lanes), partial(vector.emit, count))
        else:
            vector.emit(count, tiles=False)


@dataclass(frozen=True, slots=True)
class _Vector:
    """One vector of channels of a row."""

    k: Kernel
    source: Pointer
    room: Pointer
    offsets: list[int]
    position: int
    pitch: int

    def emit(self, count: Index, tiles: bool) -> None:
        """All positions, in tiles or one by one."""
        k = self.k
        if not tiles:
            with k.loop(count) as q:
                for lane, offset in enumerate(self.offsets):
                    value = k.load_scalar(self.source, k.add(k.mul(q, self.position), offset))
                    k.store_scalar(value, self.room, k.add(k.mul(q, self.pitch), lane))
            return
        with k.loop(k.mul(k.divmod(count, k.lanes)[0], k.lanes), step=k.lanes) as q:
            self._tile(q)
        self._tile(k.sub(count, k.lanes))

    def _tile(self, q: Index) -> None:
        k = self.k
        rows = [k.shift(self.source, k.add(q, offset)) for offset in self.offsets]
        for u, value in enumerate(emit_transpose_from(k, rows)):
            k.store(value, self.room, k.mul(k.add(q, u), self.pitch))
