r"""The phased series kernel: strided transposed layers, every phase of a row in vectors of its own.

.. math:: y_{c, q s + f} = b_c + \sum_t x_{\lfloor c / m \rfloor,\; q + \delta_{f, t}} \; w_{c, k_f + t \kappa}

All outputs of phase f read neighbours, whatever the stride s is. A tile is a stretch of one output row: its sums are
kept phase by phase, each input vector is loaded once for all of them, and lanes of the phases are put in turns when
they are stored. Taps of the width are unrolled, those of height and depth looped over, with the numbers of their phases
in tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from omniconv.compiler.emit.machine import Index, Pointer, Slot
from omniconv.compiler.emit.phases import PhaseTables, PhaseValues
from omniconv.compiler.emit.vectors import emit_gather
from omniconv.compiler.kernels.series.blocks import SeriesBlock, SeriesBlocks
from omniconv.compiler.kernels.series.tiles import PhasedTile, meetings
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Phased(SeriesBlocks):
    """The recipe of one phased kernel; see :class:`omniconv.compiler.kernels.series.blocks.SeriesBlocks`."""

    tile: PhasedTile

    @property
    def block(self) -> type[_Turns]:
        """What emits a unit."""
        return _Turns


class _Turns(SeriesBlock):
    """Emission of one unit: rows whose phases are put in turns."""

    p: Phased

    def plane(self) -> None:
        """All rows of a plane, phase by phase."""
        k, p = self.k, self.p
        height = p.axes[1]
        phases = PhaseTables(k, height)
        self.depth, self.place = PhaseTables(k, p.axes[0]).at(self.od)
        with k.loop(self.rows) as row, k.loop(height.phases) as phase:
            oh = k.add(k.mul(k.add(self.oh, row), height.out_step), phase)
            with k.when(k.compare("<", oh, height.output) if height.output % height.out_step else True):
                self._row(row, phases.phase(phase), oh)

    def _row(self, row: Index, phase: PhaseValues, oh: Index) -> None:
        """All tiles of a row of outputs."""
        k, p = self.k, self.p
        width = p.tile.vectors * p.lanes
        with k.loop(p.column_tiles) as column:
            ow = k.min(k.mul(column, width), p.tile.block[1] - width) if p.column_tiles > 1 else 0
            self._stretch(row, phase, oh, ow)

    def _stretch(self, row: Index, phase: PhaseValues, oh: Index, ow: Index) -> None:
        """A tile: the outputs of all phases of the width at the places from ``ow`` of the block on."""
        k, p = self.k, self.p
        stride = p.axes[2].out_step
        acc = [[k.variable(k.vector_type(), self.bias) for _ in range(stride)] for _ in p.starts]
        with self._lines(row, phase) as (line, weights):
            self._line(k.shift(line, ow), weights, acc)
        for start, slots in zip(p.starts, acc, strict=True):
            self._interleave(slots, oh, k.add(k.add(self.ow, ow), start), last=start == p.starts[-1])

    @contextmanager
    def _lines(self, row: Index, phase: PhaseValues) -> Iterator[tuple[Pointer, Pointer]]:
        """Loops over the taps of depth and height: a row of the window, and the weights of its taps."""
        k, p = self.k, self.p
        depth, height, width = p.axes
        with k.loop(self.depth.taps) as dt:
            iz = k.add(k.add(k.mul(self.place, depth.in_step), self.depth.first), k.mul(dt, depth.ostep))
            kz = k.add(self.depth.k0, k.mul(dt, depth.kstep))
            with k.when(k.within(iz, depth.size) if p.deep and depth.bordered else True), k.loop(phase.taps) as t:
                line = k.add(k.add(k.mul(row, height.in_step), k.sub(phase.first, height.low)), k.mul(t, height.ostep))
                at = k.add(k.mul(line, self.window.pitch), k.mul(iz, self.window.plane) if p.deep else 0)
                ky = k.add(k.add(k.mul(kz, height.kernel), phase.k0), k.mul(t, height.kstep))
                yield k.shift(self.room, at), k.shift(self.weights, k.mul(ky, width.kernel))

    def _line(self, line: Pointer, weights: Pointer, acc: list[list[Slot]]) -> None:
        """Multiply-adds of all taps of the width: each phase adds them in their order."""
        k, p = self.k, self.p
        values = [[k.get(slot) for slot in slots] for slots in acc]
        line = k.anchor(line)
        for dx, users in meetings(p.axes[2]).items():
            factors = [(f, k.load_splat(weights, tap)) for f, tap in users]
            for start, sums in zip(p.starts, values, strict=True):
                value = k.load(line, start + dx)
                for f, factor in factors:
                    sums[f] = k.fma(value, factor, sums[f])
        for sums, slots in zip(values, acc, strict=True):
            for value, slot in zip(sums, slots, strict=True):
                k.set(slot, value)

    def _interleave(self, slots: list[Slot], oh: Index, place: Index, *, last: bool) -> None:
        """Store the phases of a vector of places in turns; what lies past the end of a row is left out."""
        k, p = self.k, self.p
        width, lanes = p.axes[2], p.lanes
        sums, stride = [k.get(slot) for slot in slots], width.out_step
        end = max(0, width.counts[0] - lanes)

        def store(cut: bool) -> None:
            for part in range(stride):
                wanted = [divmod(part * lanes + lane, stride)[::-1] for lane in range(lanes)]
                count = min(lanes, width.output - stride * end - part * lanes) if cut else lanes
                if count > 0:
                    ow = k.add(k.mul(place, stride), part * lanes)
                    self.store(emit_gather(k, sums, wanted), oh, ow, count if count < lanes else None)

        over = stride * (end + lanes) > width.output
        k.both_ways(k.compare("==", place, end) if last and over else False, store)
