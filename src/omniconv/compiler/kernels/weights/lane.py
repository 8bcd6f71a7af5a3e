r"""The lane kernel of weight gradients: each SIMD lane is one channel, whose partners lie in the same vector.

Sums of some taps are held in registers along a stretch of a row of narrow, each loaded vector of wide serves all taps
that meet it. At the end of a stretch they are added to the sums of the block, in memory of its own; the blocks are
added up afterwards, in their order. So a sum is a sum of stretches, of blocks, of the whole: its error grows with the
lengths of the three, not with their product.

Channels of a group reach each other as in :mod:`omniconv.compiler.kernels.lane.grouping`: the side with more channels
in a group fills the lanes, each channel of the other side is brought to the lanes of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.compiler.emit.asking import ask
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Slot, Value
from omniconv.compiler.emit.vectors import emit_share
from omniconv.compiler.kernels.lane.grouping import Grouping
from omniconv.compiler.kernels.weights.ahead import find_next
from omniconv.compiler.kernels.weights.sums import Sums
from omniconv.integers import ceil_div
from omniconv.records import dataclass
from omniconv.target.model import Target

NARROW, WIDE, Y, ZERO = range(4)
"""Positions of the buffers in ``args``."""

Strides = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePass:
    """Sizes of one pass: taps of height and width whose sums are held together, positions of a step, steps of a
    stretch, stretches in a block, and parts that the channels are divided into.
    """

    down: int
    across: int
    step: int
    steps: int
    block: int
    split: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSums:
    """The recipe of one kernel: everything its code depends on.

    Attributes:
        sums: what is summed.
        narrow_strides, wide_strides: N, D, H, W strides [elements]; channels are neighbours.
        narrow_readable, wide_readable: whether whole vectors may be read past the last channel.
        tile: sizes of one pass.
        lanes: of a vector.
        halved: whether permutations had better stay inside the halves of a vector.
        ahead: elements of a cache line where rows are asked for before they are needed, in the order of memory; 0 where
            they are near in any case.
    """

    sums: Sums
    narrow_strides: Strides
    wide_strides: Strides
    narrow_readable: bool
    wide_readable: bool
    tile: LanePass
    lanes: int
    halved: bool
    ahead: int = 0

    @property
    def wide_lanes(self) -> bool:
        """Whether the channels of wide fill the lanes."""
        return self.sums.wide > self.sums.narrow

    @property
    def grouping(self) -> Grouping:
        """How groups sit in a vector."""
        inner, outer = sorted((self.sums.narrow, self.sums.wide))
        return Grouping(self.lanes, inner, outer, self.halved)

    @property
    def vectors(self) -> int:
        """Vectors of channels."""
        return ceil_div(self.sums.groups, self.grouping.groups)

    @property
    def firsts(self) -> list[int]:
        """The first group of each vector; the last one is moved back to end with the last group."""
        whole = self.grouping.groups
        return [max(0, min(first, self.sums.groups - whole)) for first in range(0, self.sums.groups, whole)]

    @property
    def stretches(self) -> int:
        """Stretches of a row."""
        low, high = self.sums.axes[2].interior
        return max(1, ceil_div(high - low, self.tile.step * self.tile.steps))

    @property
    def blocks(self) -> int:
        """Blocks of stretches, each with sums of its own."""
        return ceil_div(self.sums.rows * self.stretches, self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: parts of the channels, times blocks."""
        return self.tile.split * self.blocks

    @property
    def each(self) -> int:
        """Sums of a vector of channels."""
        return self.sums.taps * self.grouping.inputs * self.lanes

    @property
    def size(self) -> int:
        """Sums of a block."""
        return self.vectors * self.each

    @property
    def longest(self) -> int:
        """Positions of the longest stretch."""
        low, high = self.sums.axes[2].interior
        return self.tile.step * self.tile.steps + self.sums.axes[2].count - (high - low)

    @property
    def terms(self) -> int:
        """Roundings of one sum, at most: products of a stretch, stretches of a block, blocks."""
        return self.longest + self.tile.block + self.blocks

    def places(self) -> npt.NDArray[np.int64]:
        """Where each weight ``[group, narrow, wide, *kernel]`` is among the sums of a block."""
        grouping, sums = self.grouping, self.sums
        vector, within = np.divmod(np.arange(sums.groups), grouping.groups)
        last = vector == self.vectors - 1
        within = np.where(last, np.arange(sums.groups) - self.firsts[-1], within)
        lane = np.asarray(grouping.slots).reshape(grouping.groups, grouping.outputs)[within]
        taps, inner = np.arange(sums.taps), np.arange(grouping.inputs)
        # [group, lane channel, tap, inner channel]
        found = vector[:, None, None, None] * self.each + lane[:, :, None, None]
        found = found + (taps[:, None] * grouping.inputs + inner) * self.lanes
        order = (0, 3, 1, 2) if self.wide_lanes else (0, 1, 3, 2)
        return np.ascontiguousarray(found.transpose(order)).reshape(-1)

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        total = self.sums.rows * self.stretches
        with k.loop(k.end, start=k.begin) as unit:
            part, block = k.split(unit, self.tile.split, self.blocks)
            sums = k.shift(k.arg(Y), k.mul(block, self.size))
            split, count = self.tile.split, self.vectors
            self._clear(k, sums, *(k.divmod(k.mul(k.add(part, i), count), split)[0] for i in (0, 1)))
            first = k.mul(block, self.tile.block)
            with k.loop(k.min(k.add(first, self.tile.block), total), start=first) as stretch:
                row, along = k.divmod(stretch, self.stretches)
                n, od, oh = k.split(row, self.sums.batch, *(axis.count for axis in self.sums.axes[:2]))
                ns, ws = self.narrow_strides, self.wide_strides
                narrow = k.shift(k.arg(NARROW), k.add(k.mul(n, ns[0]), k.add(k.mul(od, ns[1]), k.mul(oh, ns[2]))))
                wide = k.shift(k.arg(WIDE), k.mul(n, ws[0]))
                lines = LaneStretch(self, k, sums, narrow, wide, od, oh, along)

                def emit(v: Index, _: bool) -> None:
                    self.ask_ahead(k, narrow, wide, od, oh, k.add(k.mul(along, self.vectors), v))
                    lines.emit(v)

                emit_share(k, self.vectors, emit, ragged=False, part=part, parts=self.tile.split)
        return k.finish()

    def ask_ahead(self, k: Kernel, narrow: Pointer, wide: Pointer, od: Index, oh: Index, part: Index) -> None:
        """Ask for a part of what the row after ``oh`` reads and ``oh`` does not."""
        if self.ahead:
            parts = self.stretches * self.vectors
            ns, ws = self.narrow_strides, self.wide_strides
            ask(k, k.shift(narrow, ns[2]), ns[2], part, parts, self.ahead)
            first = find_next(k, self.sums, od, k.add(oh, 1), (ws[1], ws[2]))
            ask(k, k.shift(wide, first), self.sums.axes[1].stride * ws[2], part, parts, self.ahead)

    def _clear(self, k: Kernel, sums: Pointer, begin: Index, end: Index) -> None:
        """Zeros in the sums of some vectors of channels."""
        with k.loop(k.mul(end, self.each), start=k.mul(begin, self.each), step=self.lanes) as at:
            k.store(k.splat(0.0), sums, at)


class LaneStretch:
    """Emission of one stretch of a row.

    Args:
        recipe, k: what is made.
        sums: of the block.
        narrow: the row.
        wide: the image that it meets, or a copy of its planes under the kernel, one for each tap of the depth.
        od, oh: the row's place.
        along: number of the stretch.
        copied: whether they are copies of the channels of one vector.
    """

    def __init__(
        self,
        recipe: LaneSums,
        k: Kernel,
        sums: Pointer,
        narrow: Pointer,
        wide: Pointer,
        od: Index,
        oh: Index,
        along: Index,
        *,
        copied: bool = False,
    ) -> None:
        self.p, self.k, self.sums, self.narrow, self.wide = recipe, k, sums, narrow, wide
        self.od, self.oh, self.along, self.copied = od, oh, along, copied

    def emit(self, v: Index) -> None:
        """One vector of channels."""
        k, p = self.k, self.p
        grouping = p.grouping
        group = 0 if self.copied else k.min(k.mul(v, grouping.groups), p.firsts[-1])
        self.inner, self.outer = k.mul(group, grouping.inputs), k.mul(group, grouping.outputs)
        self.y = k.shift(self.sums, k.mul(v, p.each))
        depth, height, _ = p.sums.axes
        with k.loop(depth.kernel) as td:
            iz = k.sub(k.add(k.mul(self.od, depth.stride), k.mul(td, depth.dilation)), depth.before)
            with k.when(k.within(iz, depth.size) if depth.bordered else True):
                plane = k.shift(self.wide, k.mul(td if self.copied else iz, p.wide_strides[1]))
                whole, rest = divmod(height.kernel, p.tile.down)
                if whole:
                    with k.loop(whole) as chunk:
                        self._lines(plane, td, k.mul(chunk, p.tile.down), p.tile.down)
                if rest:
                    self._lines(plane, td, whole * p.tile.down, rest)

    def _lines(self, plane: Pointer, td: Index, th: Index, count: int) -> None:
        """Some taps of the height: together where all of them meet a row, else one by one."""
        k, height = self.k, self.p.sums.axes[1]
        first = k.sub(k.add(k.mul(self.oh, height.stride), k.mul(th, height.dilation)), height.before)
        line = k.add(k.mul(td, height.kernel), th)

        def one_by_one() -> None:
            with k.loop(count) as i:
                iy = k.add(first, k.mul(i, height.dilation))
                with k.when(k.within(iy, height.size)):
                    self._columns(self._row(plane, iy), k.add(line, i), 1)

        if not height.bordered:
            self._columns(self._row(plane, first), line, count)
            return
        last = k.add(first, (count - 1) * height.dilation)
        whole: Condition = k.both(k.compare(">=", first, 0), k.compare("<", last, height.size))
        if count == 1:
            with k.when(whole):
                self._columns(self._row(plane, first), line, 1)
            return
        k.both_ways(whole, lambda all_: self._columns(self._row(plane, first), line, count) if all_ else one_by_one())

    def _row(self, plane: Pointer, iy: Index) -> Pointer:
        return self.k.shift(plane, self.k.mul(iy, self.p.wide_strides[2]))

    def _columns(self, row: Pointer, line: Index, count: int) -> None:
        """Some rows of the kernel, ``across`` taps of each at a time."""
        k, width = self.k, self.p.sums.axes[2]
        across = self.p.tile.across
        whole, rest = divmod(width.kernel, across)
        if whole:
            with k.loop(whole) as chunk:
                self._sum(row, line, count, k.mul(chunk, across), across)
        if rest:
            self._sum(row, line, count, whole * across, rest)

    def _sum(self, row: Pointer, line: Index, down: int, tw: Index, across: int) -> None:
        """The sums of ``down`` by ``across`` taps along the stretch."""
        k, p = self.k, self.p
        width, tile, inner = p.sums.axes[2], p.tile, p.grouping.inputs
        zero = k.splat(0.0)
        acc = {
            (i, c, j): k.variable(k.vector_type(), zero)
            for i in range(down)
            for c in range(across)
            for j in range(inner)
        }
        low, high = width.interior
        length = tile.step * tile.steps
        begin = k.add(low, k.mul(self.along, length))
        end = k.min(k.add(begin, length), high)
        steps = k.divmod(k.sub(end, begin), tile.step)[0]
        middle = k.add(begin, k.mul(steps, tile.step))
        if low > 0:
            with k.when(k.compare("==", self.along, 0)), k.loop(low) as q:
                self._step(row, q, tw, acc, 1, checked=True)
        if high > low:
            with k.loop(middle, start=begin, step=tile.step) as q:
                self._step(row, q, tw, acc, tile.step, checked=False)
        last = k.choose(k.compare("==", self.along, p.stretches - 1), k.index(width.count), k.index(end))
        with k.loop(last, start=middle) as q:
            self._step(row, q, tw, acc, 1, checked=width.bordered)
        kernel = width.kernel
        for (i, c, j), slot in acc.items():
            tap = k.add(k.add(k.mul(k.add(line, i), kernel), tw), c)
            at = k.mul(k.add(k.mul(tap, inner), j), p.lanes)
            k.store(k.b.fadd(k.load(self.y, at), k.get(slot)), self.y, at)

    def _step(
        self, row: Pointer, q: Index, tw: Index, acc: dict[tuple[int, int, int], Slot], count: int, *, checked: bool
    ) -> None:
        """``count`` neighbouring positions of narrow, and what they meet."""
        k, p = self.k, self.p
        height, width = p.sums.axes[1:]
        inner = range(p.grouping.inputs)
        taps = sorted({(i, c) for i, c, _ in acc})
        values = {place: k.get(slot) for place, slot in acc.items()}
        base = k.anchor(k.shift(self.narrow, k.mul(q, p.narrow_strides[3])))
        narrow = [self._side(k.shift(base, u * p.narrow_strides[3]), wide=False) for u in range(count)]
        ix = k.sub(k.add(k.mul(q, width.stride), k.mul(tw, width.dilation)), width.before)
        origin = k.anchor(k.shift(row, k.mul(ix, p.wide_strides[3])))
        users: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for i, c in taps:
            for u in range(count):
                users.setdefault((i, u * width.stride + c * width.dilation), []).append((u, c))
        for (i, dx), pairs in sorted(users.items()):
            pixel = k.shift(origin, i * height.dilation * p.wide_strides[2] + dx * p.wide_strides[3])
            if checked:
                pixel = k.choose(k.within(k.add(ix, dx), width.size), pixel, k.arg(ZERO))
            wide = self._side(pixel, wide=True)
            for j in inner:
                for u, c in pairs:
                    values[i, c, j] = k.fma(wide(j), narrow[u](j), values[i, c, j])
        for place, value in values.items():
            k.set(acc[place], value)

    def _side(self, pixel: Pointer, *, wide: bool) -> Callable[[int], Value]:
        """The vectors of one pixel of wide or narrow: one where it fills the lanes, else one for each channel of a
        group.
        """
        k, p = self.k, self.p
        grouping = p.grouping
        readable = p.wide_readable if wide else p.narrow_readable
        groups = min(grouping.groups, p.sums.groups)
        if wide == p.wide_lanes:
            count = None if readable else min(groups * grouping.outputs, p.lanes)
            loaded = k.load(pixel, self.outer, count=count)
            lanes = [0] * p.lanes
            for place, lane in enumerate(grouping.slots):
                lanes[lane] = place
            spread = k.permute(loaded, lanes) if grouping.slots != tuple(range(p.lanes)) else loaded
            return lambda _: spread
        count = None if readable else groups * grouping.inputs
        found = dict(self._inner(pixel, count))
        return lambda j: found[j]

    def _inner(self, pixel: Pointer, count: int | None) -> Iterator[tuple[int, Value]]:
        grouping = self.p.grouping
        return grouping.emit_inputs(self.k, pixel, self.inner, count, range(grouping.inputs))


STEP: Final = 4
"""Positions of a step, at most."""
STRETCH: Final = 24
"""Positions of a stretch, about."""
BLOCKS: Final = 16
"""Blocks wanted, so that a few threads get even shares."""


def plan_lane_sums(sums: Sums, target: Target) -> LanePass:
    """The sizes of a pass: as many taps of a few rows as fit the registers beside the positions of a step."""
    inner = min(sums.narrow, sums.wide)
    height, width = sums.axes[1:]
    room = max(1, (target.registers - 4) // inner)
    across = min(width.kernel, room)
    across = ceil_div(width.kernel, ceil_div(width.kernel, across))
    down = max(1, min(height.kernel, room // across)) if across == width.kernel else 1
    held = down * across * inner
    low, high = width.interior
    columns = max(1, high - low)
    most = 1 if inner > 1 else max(1, min(STEP, target.registers - 2 - held, columns))
    step = min(range(1, most + 1), key=lambda s: (_cost_step(sums, s, down, across, columns), -s))
    stretches = max(1, round(columns / STRETCH))
    steps = max(1, ceil_div(ceil_div(columns, stretches), step))
    total = sums.rows * max(1, ceil_div(columns, step * steps))
    vectors = ceil_div(sums.groups, max(1, target.lanes // max(sums.narrow, sums.wide)))
    size = vectors * target.lanes * sums.taps * inner
    data = sums.groups * (sums.narrow + sums.wide) * total * step * steps
    blocks = max(1, min(BLOCKS, total, data // (4 * size)))
    split = min(vectors, ceil_div(BLOCKS, blocks))
    return LanePass(down=down, across=across, step=step, steps=steps, block=ceil_div(total, blocks), split=split)


def _cost_step(sums: Sums, step: int, down: int, across: int, columns: int) -> float:
    """Loads and multiply-adds of a row, whichever takes longer; what is left over goes one by one."""
    width = sums.axes[2]

    def cost(count: int) -> float:
        met = {u * width.stride + c * width.dilation for u in range(count) for c in range(across)}
        return max(float(count * down * across), count + down * len(met) + 0.0) + 2.0

    whole, rest = divmod(columns, step)
    return whole * cost(step) + rest * 1.5 * cost(1)
