r"""A window of one channel, padded: what the series kernel reads instead of the caller's rows.

Rows whose elements along the width are neighbours are copied into memory of the thread, with zeros where the window
leaves the input, so that whatever reads them needs no border code. A stride :math:`s` along the width is taken out on
the way: a row becomes s rows, the columns of each residue modulo s, so that a tap reads neighbours again:

.. math:: \text{window}[r, f, j] = x[r_0 + r,\; c_0 + s j + f]
"""

from __future__ import annotations

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.emit.vectors import emit_gather
from omniconv.integers import ceil_div
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class PaddedWindow:
    """Sizes of a window.

    Attributes:
        planes, rows: how many.
        columns: of each residue.
        stride: residues.
        height, width: rows and columns of the input.
        source: distance between rows of the input [elements].
        lanes: of a vector.
    """

    planes: int
    rows: int
    columns: int
    stride: int
    height: int
    width: int
    source: int
    lanes: int

    @property
    def part(self) -> int:
        """Distance between the residues of a row [elements]."""
        return ceil_div(self.columns, self.lanes) * self.lanes

    @property
    def pitch(self) -> int:
        """Distance between rows [elements]: never a multiple of 1 KiB, which would alias in the first-level cache."""
        whole = self.part * self.stride
        return whole + self.lanes if whole % 256 == 0 else whole

    @property
    def plane(self) -> int:
        """Distance between planes [elements]."""
        return self.pitch * self.rows

    @property
    def elements(self) -> int:
        """Room that a window takes, with a vector to spare for stores that end past it."""
        return ceil_div(self.plane * self.planes + self.lanes, 32) * 32

    def emit_clear(self, k: Kernel, room: Pointer) -> None:
        """Zeros everywhere."""
        with k.loop(self.plane * self.planes, step=self.lanes) as at:
            k.store(k.splat(0.0), room, at)

    def emit_fill(self, k: Kernel, plane: Pointer | None, room: Pointer, row: Index, column: Index) -> None:
        """Copy the rows of one plane from ``row`` on, its columns from ``column`` on, into ``room``; zeros where there
        is no plane. The margins of a ``column`` that is known are expected to be clear, and so are the rows outside of
        a ``row`` that is known.
        """
        first: Index = 0
        end: Index = self.rows
        if plane is not None and isinstance(row, int):
            first, end = min(self.rows, max(0, -row)), max(0, min(self.rows, self.height - row))
        with k.loop(end, start=first) as r:
            y, line = k.add(row, r), k.shift(room, k.mul(r, self.pitch))

            def fill(inside: bool) -> None:
                if inside and plane is not None:
                    self._copy(k, k.shift(plane, k.add(k.mul(y, self.source), column)), line, column)
                else:
                    with k.loop(self.pitch, step=self.lanes) as at:
                        k.store(k.splat(0.0), line, at)

            known = isinstance(row, int) or plane is None
            k.both_ways(plane is not None if known else k.within(y, self.height), fill)

    def _copy(self, k: Kernel, source: Pointer, line: Pointer, column: Index) -> None:
        """One row: ``source`` is where its first column, which may not exist, would be."""
        s, total = self.stride, self.columns * self.stride
        low = k.min(k.sub(0, k.min(column, 0)), total)
        high = k.sub(0, k.min(k.sub(0, k.min(k.sub(self.width, column), total)), k.sub(0, low)))
        first, last = k.divmod(k.add(low, s - 1), s)[0], k.divmod(high, s)[0]
        if not isinstance(column, int):
            for part in range(s):
                for begin, end in ((0, first), (last, self.columns)):
                    with k.loop(end, start=begin, step=self.lanes) as at:
                        k.store(k.splat(0.0), line, k.add(at, part * self.part))
        if s == 1:
            self._neighbours(k, k.shift(source, low), k.shift(line, low), k.sub(high, low))
            return
        count = k.sub(last, first)
        lanes = self.lanes if not isinstance(count, int) else min(self.lanes, 1 << max(1, count.bit_length() - 1))

        def split(whole: bool) -> None:
            if not whole:
                self._scalars(k, source, line, low, high)
                return
            self._scalars(k, source, line, low, k.mul(first, s))
            with k.loop(count, step=lanes) as j:
                self._split(k, source, line, k.add(first, k.min(j, k.sub(count, lanes))), lanes)
            self._scalars(k, source, line, k.mul(last, s), high)

        k.both_ways(k.compare(">=", count, lanes), split)

    def _neighbours(self, k: Kernel, source: Pointer, line: Pointer, count: Index) -> None:
        """Copy ``count`` neighbours, the last vector over the one before it."""
        if isinstance(count, int):
            if count < self.lanes:
                for at, lanes in pieces(count):
                    if lanes == 1:
                        k.store_scalar(k.load_scalar(source, at), line, at)
                    else:
                        k.store(k.load(source, at, lanes=lanes), line, at)
                return
            group = 4 * self.lanes
            whole = count // group * group
            with k.loop(whole, step=group) as j:
                for value, place in [(k.load(source, at), at) for at in (k.add(j, m * self.lanes) for m in range(4))]:
                    k.store(value, line, place)
            for j in range(whole, count, self.lanes):
                at = min(j, count - self.lanes)
                k.store(k.load(source, at), line, at)
            return

        def copy(whole: bool) -> None:
            if not whole:
                self._scalars(k, source, line, 0, count)
                return
            with k.loop(count, step=self.lanes) as j:
                at = k.min(j, k.sub(count, self.lanes))
                k.store(k.load(source, at), line, at)

        k.both_ways(k.compare(">=", count, self.lanes), copy)

    def _split(self, k: Kernel, source: Pointer, line: Pointer, at: Index, lanes: int) -> None:
        """Copy ``lanes`` columns of every residue."""
        s = self.stride
        loaded = [k.load(source, k.add(k.mul(at, s), m * lanes), lanes=lanes) for m in range(s)]
        for part in range(s):
            wanted = [divmod(lane * s + part, lanes) for lane in range(lanes)]
            k.store(emit_gather(k, loaded, wanted), line, k.add(at, part * self.part))

    def _scalars(self, k: Kernel, source: Pointer, line: Pointer, begin: Index, end: Index) -> None:
        """Copy columns one by one."""
        with k.loop(end, start=begin) as c:
            index, part = k.divmod(c, self.stride)
            k.store_scalar(k.load_scalar(source, c), line, k.add(index, k.mul(part, self.part)))


def pieces(count: int) -> list[tuple[int, int]]:
    """Fewer neighbours than a vector as (first, lanes) of one or two shorter vectors, which may overlap."""
    if count < 1:
        return []
    lanes = 1 << (count.bit_length() - 1)
    return [(0, lanes)] if lanes == count else [(0, lanes), (count - lanes, lanes)]
