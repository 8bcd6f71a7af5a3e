r"""The series kernel: each SIMD lane is one output position along the width, all lanes of one channel.

.. math:: y_{c, q} = b_c + \sum_t x_{\lfloor c / m \rfloor,\; q s + \delta_t} \; w_{c, t}

It serves depthwise layers (with a multiplier m) on arrays in which the width, not the channels, has its elements side
by side: NCW and NCHW. A weight is one number in all lanes; an input vector is an unaligned load that serves every tap
and row of the tile that needs it. Rows are read from a padded copy of a block of the channel, which stays in the
first-level cache and belongs to the thread (:mod:`omniconv.compiler.kernels.series.window`).

Taps that lie a whole vector apart share their loads: of a long kernel, ``across`` taps ``step`` apart are taken
together, such that the input of one for a vector of outputs is that of the next for the vector before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from omniconv.compiler.emit.machine import Index, Pointer, Slot
from omniconv.compiler.kernels.series.blocks import SeriesBlock, SeriesBlocks
from omniconv.compiler.kernels.series.tiles import SeriesTile, Span, spans
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Series(SeriesBlocks):
    """The recipe of one series kernel; see :class:`omniconv.compiler.kernels.series.blocks.SeriesBlocks`."""

    tile: SeriesTile

    @property
    def block(self) -> type[_Stretches]:
        """What emits a unit."""
        return _Stretches


class _Stretches(SeriesBlock):
    """Emission of one unit: tiles of neighbouring rows."""

    p: Series

    def plane(self) -> None:
        """All tiles of a plane. Every ``spread`` of them fill rows side by side; the last lie over those before."""
        k, tile = self.k, self.p.tile
        extent = tile.rows * tile.spread
        groups, rest = k.divmod(self.rows, extent)
        whole = k.mul(groups, tile.spread)
        tiles = k.add(whole, k.min(rest, tile.spread))
        with k.loop(tiles) as index:
            group, residue = k.divmod(index, tile.spread)
            last = k.add(k.sub(index, tiles), k.sub(self.rows, extent - tile.spread))
            oh = k.choose(k.compare("<", index, whole), k.index(k.add(k.mul(group, extent), residue)), k.index(last))
            rounds, width = self._down(oh), tile.vectors * self.p.lanes
            with k.loop(self.p.column_tiles) as column:
                ow = k.min(k.mul(column, width), tile.block[1] - width) if self.p.column_tiles > 1 else 0
                self._tile(oh, ow, rounds)

    def _tile(self, oh: Index, ow: Index, rounds: list[tuple[Index, Index, int]]) -> None:
        k, p = self.k, self.p
        acc = [[k.variable(k.vector_type(), self.bias) for _ in p.starts] for _ in range(p.tile.rows)]
        with self._planes() as (plane, line):
            for first, last, down in rounds:
                with k.loop(last, start=first, step=p.tile.down) as ky:
                    row = k.add(k.mul(oh, p.axes[1].in_step), k.mul(ky, p.axes[1].ostep))
                    base = k.shift(plane, k.add(k.mul(row, self.window.pitch), ow))
                    self._across(base, k.mul(k.add(line, ky), p.axes[2].kernel), down, acc)
        narrow = p.tile.block[1] if p.tile.block[1] < p.lanes else None
        for r, slots in enumerate(acc):
            y = k.add(k.add(self.oh, oh), r * p.tile.spread)
            for start, slot in zip(p.starts, slots, strict=True):
                self.store(k.get(slot), y, k.add(k.add(self.ow, ow), start), narrow)

    @contextmanager
    def _planes(self) -> Iterator[tuple[Pointer, Index]]:
        """Loop over the taps of the depth that land inside: the plane and the first row of the kernel."""
        k, p = self.k, self.p
        depth = p.axes[0]
        with k.loop(depth.kernel) as kz:
            iz = k.add(k.add(k.mul(self.od, depth.in_step), depth.first[0]), k.mul(kz, depth.ostep))
            with k.when(k.within(iz, depth.size) if p.deep and depth.bordered else True):
                yield k.shift(self.room, k.mul(iz, self.window.plane) if p.deep else 0), k.mul(kz, p.axes[1].kernel)

    def _down(self, oh: Index) -> list[tuple[Index, Index, int]]:
        """Loops over the taps of the height, as (first, end, taps of a round). Rounds without a row inside are left
        out.
        """
        k, p = self.k, self.p
        height, down = p.axes[1], p.tile.down
        whole, rest = height.kernel // down * down, height.kernel % down
        first: Index = 0
        last: Index = height.kernel
        if height.kernel > down and height.bordered:
            top = k.add(k.mul(k.add(self.oh, oh), height.in_step), height.first[0])
            above = k.add(top, (p.tile.rows - 1) * p.tile.spread * height.in_step)
            # First round that reaches row 0, and one past the last tap at or above the last row.
            first = k.divmod(k.sub(0, k.min(above, 0)), height.ostep * down)[0]
            first = k.mul(first, down)
            below = k.add(k.sub(height.size - 1, top), height.ostep)
            last = k.min(k.divmod(k.sub(0, k.min(k.sub(0, below), 0)), height.ostep)[0], height.kernel)
        found: list[tuple[Index, Index, int]] = [(first, k.min(last, whole), down)] if whole else []
        return [*found, (whole, k.min(last, whole + 1), rest)] if rest else found

    def _across(self, base: Pointer, line: Index, down: int, acc: list[list[Slot]]) -> None:
        """Loops over the taps of the width."""
        k, width = self.k, self.p.axes[2]
        for span in spans(width.kernel, self.p.tile.across, self.p.tile.step):
            with k.loop(span.outer) as i, k.loop(span.inner) as j:
                # Whole rounds are whole numbers of strides, so that the residue of a tap is known.
                at = k.add(k.mul(i, span.outer_step * width.ostep // width.in_step), k.mul(j, width.ostep))
                tap = k.add(k.add(k.mul(i, span.outer_step), j), span.first)
                self._taps(k.shift(base, at), k.add(line, tap), down, span, acc)

    def _taps(self, base: Pointer, tap: Index, down: int, span: Span, acc: list[list[Slot]]) -> None:
        """Multiply-adds of ``down`` times ``span.taps`` taps: every input vector is loaded once."""
        k, p = self.k, self.p
        height, width = p.axes[1], p.axes[2]
        users: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for t in range(span.taps):
            index, part = divmod((span.first + t * span.step) * width.ostep, width.in_step)
            for v, start in enumerate(p.starts):
                for i in range(down):
                    for r in range(p.tile.rows):
                        dy = r * p.tile.spread * height.in_step + i * height.ostep
                        users.setdefault((index + start + part * self.window.part, dy), []).append((r, v, i, t))
        weights = {
            (i, t): k.load_splat(self.weights, k.add(tap, i * width.kernel + t * span.step))
            for i in range(down)
            for t in range(span.taps)
        }
        values = [[k.get(slot) for slot in row] for row in acc]
        base = k.anchor(base)
        for (dx, dy), uses in users.items():
            value = k.load(base, dy * self.window.pitch + dx)
            for r, v, i, t in uses:
                values[r][v] = k.fma(value, weights[i, t], values[r][v])
        for row, slots in zip(values, acc, strict=True):
            for value, slot in zip(row, slots, strict=True):
                k.set(slot, value)
