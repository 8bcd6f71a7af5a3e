"""One unit of the panel kernel: a block of tiles of one output row, for one panel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, emit_epilogue
from omniconv.compiler.emit.machine import Index, Pointer, Slot, Value
from omniconv.compiler.emit.phases import PhaseTables, PhaseValues
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors
from omniconv.compiler.kernels.panel.ahead import ask_next_panel, ask_next_span, count_turns
from omniconv.compiler.kernels.panel.tiles import SPAN
from omniconv.open_size import may_exceed

if TYPE_CHECKING:
    from omniconv.compiler.kernels.panel.kernel import Panel

X, W, B, Y, ZERO, MAP = range(6)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 6


def divide_spans(inputs: int) -> tuple[int, int]:
    """Where the last span of input channels begins, and how long it is; it begins at 0, or before, if there is one."""
    spans, rest = divmod(inputs, SPAN)
    return (spans * SPAN, rest) if rest >= SPAN // 2 else ((spans - 1) * SPAN, rest + SPAN)


class Held(NamedTuple):
    """What a panel holds.

    Attributes:
        widths: lanes of its vectors.
        tail: output channels of the last one; ``None`` of a full one.
        dots: whether it is one channel, summed by vectors along its inputs.
    """

    widths: tuple[int, ...]
    tail: int | None = None
    dots: bool = False


class PanelRow:
    """Emission of one unit: a block of tiles of one output row, for one panel."""

    def __init__(
        self,
        panel: Panel,
        k: Kernel,
        tables: Sequence[PhaseTables],
        n: Index,
        od: Index,
        oh: Index,
        block: Index,
        group: Index,
        within: Index,
    ) -> None:
        self.p, self.k = panel, k
        self.turns = count_turns(panel, k)
        self.turn: Index = 0
        self.n, self.od, self.oh, self.block, self.group = n, od, oh, block, group
        self.depth, self.depth_q = tables[0].at(od)
        self.height, self.height_q = tables[1].at(oh)
        self.width_tables = tables[2]
        xn, yn = panel.x_strides[0], panel.y_strides[0]
        first = 0 if panel.mapped else k.mul(group, panel.x_group)
        self.x = k.shift(k.arg(X), k.add(k.mul(n, xn), first))
        self.zero = k.arg(ZERO)
        rows = k.add(k.mul(od, panel.y_strides[1]), k.mul(oh, panel.y_strides[2]))
        self.y = k.shift(k.arg(Y), k.add(k.mul(n, yn), rows))
        self.channel = k.add(k.mul(group, panel.outputs), within)
        self.column = k.add(k.mul(group, panel.y_group), within)
        weights, place = k.arg(W), k.mul(group, panel.depth * panel.columns)
        place = k.add(place, k.mul(within, 1 if panel.w_line else panel.depth))
        for position, stride in zip((n, od, oh), panel.w_strides, strict=True):
            place = k.add(place, k.mul(position, stride))
        self.w = self.columns = k.shift(weights, place)
        self.bias = k.arg(B)
        if panel.turned or panel.widens or panel.parted:
            self.room = k.own(ARGS + sum(post.operand is not None for post in panel.posts))
        if panel.turned:
            self.w = self.room
        else:
            self.bias = k.shift(self.bias, k.add(k.mul(group, panel.columns), within))

    def emit(self, held: Held) -> None:
        """All tiles of the unit, for what a panel holds."""
        k, p = self.k, self.p
        axis = p.axes[2]
        before = self._count_before() if self.turns else 0
        with k.loop(axis.phases) as index:
            phase = self.width_tables.phase(index)
            rows = min(p.tile.rows, *axis.counts)
            tiles = k.divmod(k.add(phase.count, rows - 1), rows)[0]
            begin = k.mul(self.block, p.tile.block)
            end = k.min(tiles, k.add(begin, p.tile.block)) if may_exceed(p.blocks, 1) else tiles
            whole, rest = divmod(axis.counts[0], rows)
            cut = p.tile.cut and axis.phases == 1 and rest > 0
            if p.widens:
                self._widen(phase, begin, end, rows, cut=cut)
            if p.turned:
                self._gather(held)

            def sweep(make: Callable[[Index, Index, int], None]) -> None:
                with k.loop(k.min(end, whole) if cut else end, start=begin) as tile:
                    self.turn = k.add(before, tile)
                    # The last tile overlaps the one before it, if it is not cut.
                    make(tile, k.mul(tile, rows) if cut else k.min(k.mul(tile, rows), k.sub(phase.count, rows)), rows)
                if cut:
                    with k.when(k.compare("==", end, whole + 1)):
                        self.turn = k.add(before, whole)
                        make(whole, whole * rows, rest)

            if p.parted and not held.dots:
                self._emit_parts(phase, sweep, begin, held)
            else:
                sweep(lambda _, q, many: self._tile(phase, q, many, held))

    def _count_before(self) -> Index:
        """Tiles of the panel that come before those of this line."""
        k, p = self.k, self.p
        lines: Index = self.n
        for axis, q in ((p.axes[0], self.depth_q), (p.axes[1], self.height_q)):
            lines = k.add(k.mul(lines, max(axis.counts)), q)
        return k.mul(lines, p.tiles)

    def _emit_parts(
        self,
        phase: PhaseValues,
        sweep: Callable[[Callable[[Index, Index, int], None]], None],
        begin: Index,
        held: Held,
    ) -> None:
        """All tiles of a pointwise layer at one span of inputs after the other. Each asks for its share of the weights
        of the next span, which all of them read.
        """
        k, p = self.k, self.p
        wide, pitch = sum(held.widths), p.tile.vectors * p.lanes
        x = k.shift(self.x, k.add(k.mul(self.od, p.x_strides[1]), k.mul(self.oh, p.x_strides[2])))

        def add(first: Index, size: int, tile: Index, q: Index, rows: int) -> None:
            number = k.sub(tile, begin)
            ask_next_span(p, k, self.w, first, number, wide)
            place = k.anchor(k.shift(self.room, k.mul(number, p.tile.rows * pitch)))
            begins = k.compare("==", first, 0)
            source, step = k.choose(begins, self.bias, place), k.choose(begins, k.index(0), k.index(pitch))
            acc = [[k.variable(k.vector_type(lanes)) for lanes in held.widths] for _ in range(rows)]
            for r, row in enumerate(acc):
                for v, (slot, lanes) in enumerate(zip(row, held.widths, strict=True)):
                    k.set(slot, k.load(source, k.add(k.mul(step, r), v * p.lanes), lanes=lanes))
            base = k.anchor(k.shift(x, k.mul(q, p.x_strides[3])))
            pixels = [k.shift(base, r * p.x_strides[3]) for r in range(rows)]
            self._add_span(pixels, k.anchor(self.w), acc, held, first, size)
            if first == last:
                self._finish(phase, q, acc, held)
                return
            for r, row in enumerate(acc):
                for v, slot in enumerate(row):
                    k.store(k.get(slot), place, r * pitch + v * p.lanes)

        last, rest = divide_spans(p.inputs)
        with k.loop(last, step=SPAN) as first:
            sweep(partial(add, first, SPAN))
        sweep(partial(add, last, rest))

    def _widen(self, phase: PhaseValues, begin: Index, end: Index, rows: int, *, cut: bool) -> None:
        """Widen the inputs of the positions of all tiles of the unit."""
        k, p = self.k, self.p
        self.first = k.mul(begin, rows) if cut else k.min(k.mul(begin, rows), k.sub(phase.count, rows))
        row = k.add(k.mul(self.od, p.x_strides[1]), k.mul(self.oh, p.x_strides[2]))
        x = k.shift(self.x, k.add(row, k.mul(self.first, p.x_strides[3])))
        with k.loop(k.sub(k.min(k.mul(end, rows), phase.count), self.first)) as position:
            source = k.shift(x, k.mul(position, p.x_strides[3]))
            target = k.shift(self.room, k.mul(position, p.pitch))

            def widen(c: Index, vectors: int, _: int | None) -> None:
                for v in range(vectors):
                    at = k.add(c, v * p.lanes)
                    k.store(k.load(source, at), target, at)

            emit_vectors(k, p.inputs, widen, group=4, masked=False)

    def _gather(self, held: Held) -> None:
        """Copy the columns of the panel side by side."""
        k, p, line = self.k, self.p, sum(held.widths)
        counts = [*(None for _ in held.widths[1:]), held.tail]
        with k.loop(p.depth) as j:
            for v, (lanes, count) in enumerate(zip(held.widths, counts, strict=True)):
                value = k.load(self.columns, k.add(k.mul(j, p.w_line), v * p.lanes), lanes=lanes, count=count)
                k.store(value, self.room, k.add(k.mul(j, line), v * p.lanes))

    def _tile(self, phase: PhaseValues, q: Index, rows: int, held: Held) -> None:
        k, p = self.k, self.p
        axis = p.axes[2]
        first = [[k.splat(0.0)]] * rows if held.dots else self._biases(q, rows, held)
        acc = [[k.variable(value.type, value) for value in row] for row in first]
        if not axis.bordered:
            self._taps(phase, q, acc, held, checked=False)
        else:
            reach = k.mul(k.sub(phase.taps, 1), axis.ostep)
            low, high = (phase.first, k.add(phase.first, reach))
            if axis.ostep < 0:
                low, high = high, low
            left = k.compare(">=", k.add(k.mul(q, axis.in_step), low), 0)
            right = k.compare("<", k.add(k.mul(k.add(q, rows - 1), axis.in_step), high), axis.size)
            k.both_ways(k.both(left, right), lambda inside: self._taps(phase, q, acc, held, checked=not inside))
        self._finish(phase, q, acc, held)

    def _biases(self, q: Index, rows: int, held: Held) -> list[list[Value]]:
        """For each row of a tile the biases of its vectors, which are of one width where the rows have their own."""
        k, p = self.k, self.p
        if p.turned:
            return [[k.load_splat(self.bias, k.add(q, r), lanes=lanes) for lanes in held.widths] for r in range(rows)]
        return [[k.load(self.bias, v * p.lanes, lanes=lanes) for v, lanes in enumerate(held.widths)]] * rows

    def _finish(self, phase: PhaseValues, q: Index, acc: list[list[Slot]], held: Held) -> None:
        """The epilogue of a tile's sums, and where they are written."""
        k, p = self.k, self.p
        axis, widths = p.axes[2], held.widths
        bias = self._biases(q, len(acc), held) if held.dots else []
        start = k.add(phase.start, k.mul(q, axis.out_step))
        target = k.anchor(k.shift(self.y, k.add(k.mul(start, p.y_strides[3]), self.column)))
        for r in range(len(acc)):
            ow = k.add(start, r * axis.out_step)
            for v in range(len(widths)):
                channel = k.add(self.channel, v * p.lanes)
                count = held.tail if v == len(widths) - 1 else None
                at = Position(self.n, self.od, self.oh, ow, channel)
                total = self._fold(k.get(acc[r][v]), bias[r][v]) if held.dots else k.get(acc[r][v])
                value = emit_epilogue(k, p.posts, total, at, count)
                k.store(
                    value, target, r * axis.out_step * p.y_strides[3] + v * p.lanes, count=None if p.tail else count
                )

    def _fold(self, sums: Value, bias: Value) -> Value:
        """The lanes of a vector along the inputs, added to the bias of its one output channel."""
        k = self.k
        spare = [k.splat(0.0, k.scalar)] * (bias.type.count - 1)
        return k.b.fadd(bias, k.gather([emit_fold(k, k.b.fadd, sums), *spare]))

    def _taps(self, phase: PhaseValues, q: Index, acc: list[list[Slot]], held: Held, *, checked: bool) -> None:
        k, p = self.k, self.p
        depth, height, width = p.axes
        step = p.lines * sum(held.widths)
        with k.loop(self.depth.taps) as td:
            iz = k.add(k.add(k.mul(self.depth_q, depth.in_step), self.depth.first), k.mul(td, depth.ostep))
            kz = k.add(self.depth.k0, k.mul(td, depth.kstep))
            with k.when(k.within(iz, depth.size) if depth.bordered else True), k.loop(self.height.taps) as th:
                iy = k.add(k.add(k.mul(self.height_q, height.in_step), self.height.first), k.mul(th, height.ostep))
                ky = k.add(self.height.k0, k.mul(th, height.kstep))
                with k.when(k.within(iy, height.size) if height.bordered else True):
                    row = k.shift(self.x, k.add(k.mul(iz, p.x_strides[1]), k.mul(iy, p.x_strides[2])))
                    line = k.mul(k.add(k.mul(kz, height.kernel), ky), width.kernel)
                    with k.loop(phase.taps) as tw:
                        ix = k.add(k.add(k.mul(q, width.in_step), phase.first), k.mul(tw, width.ostep))
                        kx = k.add(phase.k0, k.mul(tw, width.kstep))
                        weights = k.anchor(k.shift(self.w, k.mul(k.add(line, kx), step)))
                        if p.widens:
                            base = k.anchor(k.shift(self.room, k.mul(k.sub(q, self.first), p.pitch)))
                            self._reduce([k.shift(base, r * p.pitch) for r in range(len(acc))], weights, acc, held)
                        elif not checked:
                            base = k.anchor(k.shift(row, k.mul(ix, p.x_strides[3])))
                            pixels = [k.shift(base, r * width.in_step * p.x_strides[3]) for r in range(len(acc))]
                            self._reduce(pixels, weights, acc, held)
                        else:
                            self._reduce_inside(row, ix, weights, acc, held)

    def _reduce_inside(self, row: Pointer, ix: Index, weights: Pointer, acc: list[list[Slot]], held: Held) -> None:
        """One tap of a tile at the border: positions outside read zeros; a tap that is all outside is left out."""
        k, width = self.k, self.p.axes[2]
        reach = (len(acc) - 1) * width.in_step
        touches = k.both(k.compare(">=", k.add(ix, reach), 0), k.compare("<", ix, width.size))
        with k.when(touches):
            pixels, stride = [], self.p.x_strides[3]
            origin = k.anchor(k.shift(row, k.mul(ix, stride)))
            for r in range(len(acc)):
                at = k.add(ix, r * width.in_step)
                pixel = k.shift(origin, r * width.in_step * stride)
                pixels.append(k.anchor(k.choose(k.within(at, width.size), pixel, self.zero)))
            self._reduce(pixels, weights, acc, held)

    def _reduce(self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: Held) -> None:
        """One tap of all input channels; many of them in spans, each a sum of its own that is added at its end."""
        k, inputs = self.k, self.p.inputs
        if held.dots:
            self._dot(pixels, weights, acc, held)
            return
        last, rest = divide_spans(inputs)
        if last > 0:
            with k.loop(last, step=SPAN) as first:
                self._add_span(pixels, weights, acc, held, first, SPAN)
            self._add_span(pixels, weights, acc, held, last, rest)
        else:
            self._sum(pixels, weights, acc, held, 0, inputs)

    def _dot(self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: Held) -> None:
        """One tap of all input channels of one output channel, each lane for some of them."""
        k, p = self.k, self.p
        line = p.line or sum(held.widths)
        whole, rest = divmod(p.inputs, p.lanes)

        def step(first: Index, count: int) -> None:
            places = [lane // 2 * 2 * line + lane % 2 if p.pairs else lane * line for lane in range(count)]
            found = [k.load_scalar(weights, k.add(k.mul(first, line), place)) for place in places]
            w = k.gather(found + [k.splat(0.0, k.scalar)] * (p.lanes - count))
            for pixel, [slot] in zip(pixels, acc, strict=True):
                k.set(slot, k.fma(k.load(pixel, first, count=count), w, k.get(slot)))

        with k.loop(whole * p.lanes, step=p.lanes) as first:
            step(first, p.lanes)
        if rest:
            step(whole * p.lanes, rest)

    def _add_span(
        self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: Held, first: Index, size: int
    ) -> None:
        """Add the sum over ``size`` input channels from ``first`` on."""
        k = self.k
        parts = [[k.variable(slot.allocated_type, k.splat(0.0, slot.allocated_type)) for slot in row] for row in acc]
        self._sum(pixels, weights, parts, held, first, size)
        for row, slots in zip(parts, acc, strict=True):
            for part, slot in zip(row, slots, strict=True):
                k.set(slot, k.b.fadd(k.get(slot), k.get(part)))

    def _sum(
        self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: Held, start: Index, size: int
    ) -> None:
        """One tap of ``size`` input channels from ``start`` on."""
        k, p = self.k, self.p
        widths = held.widths
        unroll = min(p.tile.unroll, size)
        rounds, rest = divmod(size, unroll)
        # What is read as it lies may end with its last column.
        counts = [*(None for _ in widths[1:]), held.tail if p.line else None]

        def step(first: Index, number: int) -> None:
            if self.turns:
                ask_next_panel(p, k, self.turns, self.turn, weights, first, number, sum(widths))
            values = [[k.get(slot) for slot in row] for row in acc]
            if p.adds_pairs:
                self._add_pairs(pixels, weights, values, first, number)
                number = 0
            for w, x in self._operands(pixels, weights, widths, counts, first, number):
                for r, value in enumerate(x):
                    for v in range(len(widths)):
                        values[r][v] = k.fma(value, w[v], values[r][v])
            for row, slots in zip(values, acc, strict=True):
                for value, slot in zip(row, slots, strict=True):
                    k.set(slot, value)

        if rounds:
            with k.loop(k.add(start, rounds * unroll), start=start, step=unroll) as j:
                step(j, unroll)
        if rest:
            step(k.add(start, rounds * unroll), rest)

    def _add_pairs(
        self, pixels: list[Pointer], weights: Pointer, values: list[list[Value]], first: Index, number: int
    ) -> None:
        """Add ``number`` input channels from ``first`` on, two at a time; the last one alone where that is odd."""
        k, p = self.k, self.p
        widths = [value.type.count for value in values[0]]
        for u in range(0, number, 2):
            j = k.add(first, u)
            line = k.mul(j, sum(widths))
            w = [k.load_pairs(weights, k.add(line, 2 * v * p.lanes), lanes) for v, lanes in enumerate(widths)]
            for pixel, row in zip(pixels, values, strict=True):
                for v, lanes in enumerate(widths):
                    row[v] = k.add_pairs(row[v], k.spread_pair(pixel, j, lanes, alone=u + 1 == number), w[v])

    def _operands(
        self,
        pixels: list[Pointer],
        weights: Pointer,
        widths: Sequence[int],
        counts: Sequence[int | None],
        first: Index,
        number: int,
    ) -> Iterator[tuple[list[Value], Iterator[Value]]]:
        """For each of ``number`` input channels from ``first`` on the weights, and the inputs of all rows."""
        k, p = self.k, self.p
        for u in range(number):
            j, half = k.add(first, u), u % 2
            line = k.mul(k.add(first, u - half) if p.pairs else j, p.line or sum(widths))
            if p.pairs:
                if u:
                    k.fence()  # the weights of several inputs at once would need more registers
                w = [
                    k.load_half(weights, k.add(line, 2 * v * p.lanes), half, lanes=lanes)
                    for v, lanes in enumerate(widths)
                ]
            else:
                w = [
                    k.load(weights, k.add(line, v * p.lanes), lanes=lanes, count=count)
                    for v, (lanes, count) in enumerate(zip(widths, counts, strict=True))
                ]
            offset: Index
            if p.mapped:
                offset = k.lookup(k.arg(MAP), k.add(k.mul(self.group, p.inputs), j))
            else:
                offset = k.mul(j, p.x_channel)
            yield w, (k.load_splat(pixel, offset, lanes=widths[0]) for pixel in pixels)
