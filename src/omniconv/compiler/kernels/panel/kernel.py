r"""The panel kernel: one input value, broadcast, times a panel of output-channel vectors.

.. math:: y_{q, c} = b_c + \sum_{t} \sum_{j < C_{in}/g} x_{q + \delta_t,\; m_j} \; w_{t, j, c}

A tile holds ``rows`` output positions by ``vectors`` vectors of output channels in registers while taps and input
channels run past. It serves every layer whose groups fill a vector, and every other layer correctly: pointwise, dense,
transposed, grouped. Input channels may lie anywhere (a stride or a list of positions), so shuffles and channels-first
inputs are read in place. Positions outside the input are read from a block of zeros. Vectors of an output channel
that is left over, the last of 49, would waste all lanes but one: they run along its inputs instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Position, Post, emit_epilogue, open_posts, share_posts
from omniconv.compiler.emit.machine import Index, Pointer, Slot, Value
from omniconv.compiler.emit.phases import PhaseTables, PhaseValues
from omniconv.compiler.emit.vectors import emit_fold, emit_vectors
from omniconv.compiler.kernels.panel.ahead import ask_next_matrix, ask_next_panel, count_turns
from omniconv.compiler.kernels.panel.tiles import SPAN, PanelTile, sums_along_inputs
from omniconv.compiler.problem.open_images import open_images
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, is_open, may_exceed
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.target.model import Target

X, W, B, Y, ZERO, MAP = range(6)
"""Positions of the buffers in ``args``; operands of the epilogue follow."""
ARGS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The recipe of one panel kernel: everything its code depends on.

    Attributes:
        batch: images.
        axes: walks along depth, height, width.
        groups: independent groups.
        inputs, outputs: channels of one group.
        x_strides, y_strides: N, D, H, W strides [elements].
        x_channel: distance between input channels [elements].
        x_group, y_group: distance between the first channels of neighbouring groups [elements].
        mapped: whether channel positions come from the list at ``args[MAP]``, one for each input channel of each group.
        tail: whether lanes after the last output channel may be written.
        posts: the epilogue.
        w_strides: N, D, H strides of the weights [elements]: 0 but for products of values, in which every image, plane
            or row may have weights of its own.
        w_line: distance between the weights of neighbouring inputs where they are read as they lie, without panels
            [elements]; 0 where they are packed.
        sweep: whether a unit of work has all panels at its block of positions, so that it writes whole rows.
        along: whether a channel that is left over may be summed along its inputs, in another order than other channels:
            not where the tile, which decides, depends on the number of threads.
        pairs: whether weights are bfloat16, those of two neighbouring inputs side by side.
        adds_pairs: whether one instruction adds the products of two neighbouring inputs, which are bfloat16.
        widens: whether a unit of work first widens the inputs of its positions, which are bfloat16, into the memory of
            its thread: the last arg, behind the operands.
    """

    batch: int
    axes: tuple[AxisWalk, AxisWalk, AxisWalk]
    groups: int
    inputs: int
    outputs: int
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]
    x_channel: int
    x_group: int
    y_group: int
    mapped: bool
    tail: bool
    posts: tuple[Post, ...]
    tile: PanelTile
    lanes: int
    w_strides: tuple[int, int, int] = (0, 0, 0)
    w_line: int = 0
    sweep: bool = False
    along: bool = True
    pairs: bool = False
    adds_pairs: bool = False
    widens: bool = False

    @property
    def vectors(self) -> int:
        """Vectors of output channels in a group."""
        return ceil_div(self.outputs, self.lanes)

    @property
    def narrow(self) -> int:
        """Lanes of a group's last vector: fewer where that holds its channels and is a panel by itself.

        Beside wide vectors it would need broadcasts of its own, which cost what it saves.
        """
        if self.vectors - (self.panels - 1) * self.tile.vectors > 1:
            return self.lanes
        rest = self.outputs - (self.vectors - 1) * self.lanes
        return next(lanes for lanes in (4, 8, 16, self.lanes) if min(rest, self.lanes) <= lanes <= self.lanes)

    @property
    def columns(self) -> int:
        """Weights of one group for one tap and input channel, spare lanes included."""
        return (self.vectors - 1) * self.lanes + self.narrow

    @property
    def pitch(self) -> int:
        """Distance between the widened inputs of two positions: whole vectors [elements]."""
        return ceil_div(self.inputs, self.lanes) * self.lanes

    @property
    def room(self) -> int:
        """Memory of a thread for widened inputs [elements]."""
        return self.tile.block * self.tile.rows * self.pitch

    @property
    def neighbours(self) -> bool:
        """Whether input channels lie side by side."""
        return not self.mapped and not is_open(self.x_channel) and self.x_channel == 1

    @property
    def dots(self) -> bool:
        """Whether the last output channel of a group, a panel by itself, has vectors along its inputs."""
        alone = (self.vectors - 1) % self.tile.vectors == 0
        taps = self.depth // self.lines
        return (
            self.along and alone and self.neighbours and sums_along_inputs(self.inputs, taps, self.outputs, self.lanes)
        )

    @property
    def panels(self) -> int:
        """Panels of output channels in a group."""
        return ceil_div(self.vectors, self.tile.vectors)

    @property
    def tiles(self) -> int:
        """Tiles along the width, of one phase."""
        return ceil_div(max(self.axes[2].counts), self.tile.rows)

    @property
    def blocks(self) -> int:
        """Blocks of tiles along the width."""
        return ceil_div(self.tiles, self.tile.block)

    @property
    def units(self) -> int:
        """Units of work: panels, times rows, times blocks."""
        places = self.batch * self.axes[0].output * self.axes[1].output * self.blocks
        return places if self.sweep else self.groups * self.panels * places

    @property
    def depth(self) -> int:
        """Weights of one output channel: taps times input channels; a pair that lacks one has a zero."""
        return self.lines * self.axes[0].kernel * self.axes[1].kernel * self.axes[2].kernel

    @property
    def lines(self) -> int:
        """Weights of one tap and output channel."""
        return 2 * ceil_div(self.inputs, 2) if self.pairs else self.inputs

    def opened(self, opener: Opener) -> Panel:
        """The same kernel for images of any size. Inputs that lie channels first are an image apart."""
        apart = self.x_strides[3] == 1 != self.x_channel
        return open_images(
            self,
            opener,
            x_channel=opener(self.x_channel) if apart else self.x_channel,
            x_group=opener(self.x_group) if apart else self.x_group,
            posts=open_posts(self.posts, opener),
            tile=replace(self.tile, block=opener.any(self.tile.block), cut=False),
        )

    def shared(self, opener: Opener) -> Panel:
        """The same kernel for pointwise layers of other sizes and channels, as far as its tiles and their sums are
        alike. Others stay as they are: their loops over taps and a few channels take a fifth longer where they read
        how long they are.
        """
        depth, height, width = self.axes
        if (
            self.tile.cut
            or self.mapped
            or self.w_line
            or not (depth.pointwise and height.pointwise and width.pointwise)
        ):
            return self
        return replace(
            self,
            axes=(depth.opened(opener), height.opened(opener), width.opened(opener)),
            inputs=opener(self.inputs),
            outputs=opener(self.outputs),
            x_strides=opener.all(self.x_strides),
            y_strides=opener.all(self.y_strides),
            x_group=opener(self.x_group),
            y_group=opener(self.y_group),
            posts=share_posts(self.posts, opener),
            tile=replace(self.tile, block=opener.any(self.tile.block)),
        )

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        tables = tuple(PhaseTables(k, axis) for axis in self.axes)
        with k.loop(k.end, start=k.begin) as unit:
            panels = self.groups * self.panels
            place = self.batch, self.axes[0].output, self.axes[1].output, self.blocks
            if self.sweep:
                n, od, oh, block = k.split(unit, *place)
                with k.loop(panels) as each:
                    part = k.add(k.mul(block, panels), each)
                    ask_next_matrix(self, k, k.arg(W), (n, od, oh), part, self.blocks * panels)
                    self._emit_unit(k, tables, n, od, oh, block, each)
            elif self.tile.inner:
                n, od, oh, block, panel = k.split(unit, *place, panels)
                self._emit_unit(k, tables, n, od, oh, block, panel)
            else:
                panel, n, od, row, block = k.split(unit, panels, *place)
                oh = tables[1].by_phase(row)
                self._emit_unit(k, tables, n, od, oh, block, panel)
        return k.finish()

    def _emit_unit(
        self, k: Kernel, tables: Sequence[PhaseTables], n: Index, od: Index, oh: Index, block: Index, panel: Index
    ) -> None:
        """One panel at a block of positions."""
        group, index = k.divmod(panel, self.panels)
        last = self.vectors - (self.panels - 1) * self.tile.vectors
        tail = self.outputs - (self.vectors - 1) * self.lanes
        full = _Held((self.lanes,) * self.tile.vectors)
        rest = _Held((self.lanes,) * (last - 1) + (self.narrow,), tail, self.dots)
        row = _PanelRow(self, k, tables, n, od, oh, block, group, index)
        if full.widths == rest.widths and tail == self.lanes:
            row.emit(full)
        else:
            k.both_ways(k.compare("<", index, self.panels - 1), lambda whole: row.emit(full if whole else rest))

    @property
    def packing(self) -> Hashable:
        """All of the recipe that packed weights and biases depend on."""
        taps = tuple(axis.kernel for axis in self.axes)
        return "panel", self.groups, self.inputs, self.outputs, self.tile.vectors, self.lanes, taps, self.pairs

    def pack_weights(self, w: Array, *, transposed: bool, flip: bool) -> Array:
        """Weights in reading order: group, panel, tap, input channel, then the panel's lanes; zeros in spare lanes."""
        taps = tuple(axis.kernel for axis in self.axes)
        if transposed:
            w = w.reshape(self.groups, self.inputs, self.outputs, *taps).transpose(0, 3, 4, 5, 1, 2)
        else:
            w = w.reshape(self.groups, self.outputs, self.inputs, *taps).transpose(0, 3, 4, 5, 2, 1)
        if flip:
            w = w[:, ::-1, ::-1, ::-1]
        depth, columns, width = self.depth, self.columns, self.tile.vectors * self.lanes
        if self.lines > self.inputs:
            w = np.pad(w, [(0, 0)] * (w.ndim - 2) + [(0, self.lines - self.inputs), (0, 0)])
        packed = np.zeros((self.groups, depth * columns), w.dtype)
        for first in range(0, self.outputs, width):
            wide = min(width, columns - first)
            part = w[..., first : first + wide]
            panel = packed[:, depth * first : depth * (first + wide)]
            if self.pairs:
                pairs = part.reshape(self.groups, depth // 2, 2, -1).swapaxes(2, 3)
                panel.reshape(self.groups, depth // 2, wide, 2)[:, :, : part.shape[-1]] = pairs
            else:
                panel.reshape(*w.shape[:-1], wide)[..., : part.shape[-1]] = part
        return packed.reshape(-1)

    def pack_bias(self, b: Array | None) -> Array:
        """Bias of each group, spare lanes included."""
        packed = np.zeros((self.groups, self.columns), np.float32 if b is None else b.dtype)
        if b is not None:
            packed[:, : self.outputs] = b.reshape(self.groups, self.outputs)
        return packed.reshape(-1)


class _Held(NamedTuple):
    """What a panel holds.

    Attributes:
        widths: lanes of its vectors.
        tail: output channels of the last one; ``None`` of a full one.
        dots: whether it is one channel, summed by vectors along its inputs.
    """

    widths: tuple[int, ...]
    tail: int | None = None
    dots: bool = False


class _PanelRow:
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
        index: Index,
    ) -> None:
        self.p, self.k = panel, k
        self.turns = count_turns(panel, k)
        self.turn: Index = 0
        self.n, self.od, self.oh, self.block, self.group, self.index = n, od, oh, block, group, index
        self.depth, self.depth_q = tables[0].at(od)
        self.height, self.height_q = tables[1].at(oh)
        self.width_tables = tables[2]
        xn, yn = panel.x_strides[0], panel.y_strides[0]
        first = 0 if panel.mapped else k.mul(group, panel.x_group)
        self.x = k.shift(k.arg(X), k.add(k.mul(n, xn), first))
        self.zero = k.arg(ZERO)
        rows = k.add(k.mul(od, panel.y_strides[1]), k.mul(oh, panel.y_strides[2]))
        self.y = k.shift(k.arg(Y), k.add(k.mul(n, yn), rows))
        lanes = panel.lanes
        within = k.mul(index, panel.tile.vectors * lanes)
        self.channel = k.add(k.mul(group, panel.outputs), within)
        self.column = k.add(k.mul(group, panel.y_group), within)
        weights, place = k.arg(W), k.mul(group, panel.depth * panel.columns)
        step = (1 if panel.w_line else panel.depth) * panel.tile.vectors * lanes
        place = k.add(place, k.mul(index, step))
        for position, stride in zip((n, od, oh), panel.w_strides, strict=True):
            place = k.add(place, k.mul(position, stride))
        self.w = k.shift(weights, place)
        self.bias = k.shift(k.arg(B), k.add(k.mul(group, panel.columns), k.mul(index, panel.tile.vectors * lanes)))

    def emit(self, held: _Held) -> None:
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
            with k.loop(k.min(end, whole) if cut else end, start=begin) as tile:
                self.turn = k.add(before, tile)
                # The last tile overlaps the one before it, if it is not cut.
                q = k.mul(tile, rows) if cut else k.min(k.mul(tile, rows), k.sub(phase.count, rows))
                self._tile(phase, q, rows, held)
            if cut:
                with k.when(k.compare("==", end, whole + 1)):
                    self.turn = k.add(before, whole)
                    self._tile(phase, whole * rows, rest, held)

    def _count_before(self) -> Index:
        """Tiles of the panel that come before those of this line."""
        k, p = self.k, self.p
        lines: Index = self.n
        for axis, q in ((p.axes[0], self.depth_q), (p.axes[1], self.height_q)):
            lines = k.add(k.mul(lines, max(axis.counts)), q)
        return k.mul(lines, p.tiles)

    def _widen(self, phase: PhaseValues, begin: Index, end: Index, rows: int, *, cut: bool) -> None:
        """Widen the inputs of the positions of all tiles of the unit."""
        k, p = self.k, self.p
        operands = sum(post.operand is not None for post in p.posts)
        self.room = k.own(ARGS + operands)
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

    def _tile(self, phase: PhaseValues, q: Index, rows: int, held: _Held) -> None:
        k, p = self.k, self.p
        axis, widths = p.axes[2], held.widths
        bias = [k.load(self.bias, v * p.lanes, lanes=lanes) for v, lanes in enumerate(widths)]
        first = [k.splat(0.0)] if held.dots else bias
        acc = [[k.variable(value.type, value) for value in first] for _ in range(rows)]
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
        start = k.add(phase.start, k.mul(q, axis.out_step))
        target = k.anchor(k.shift(self.y, k.add(k.mul(start, p.y_strides[3]), self.column)))
        for r in range(rows):
            ow = k.add(start, r * axis.out_step)
            for v in range(len(widths)):
                channel = k.add(self.channel, v * p.lanes)
                count = held.tail if v == len(widths) - 1 else None
                at = Position(self.n, self.od, self.oh, ow, channel)
                total = self._fold(k.get(acc[r][v]), bias[v]) if held.dots else k.get(acc[r][v])
                value = emit_epilogue(k, p.posts, total, at, count)
                k.store(
                    value, target, r * axis.out_step * p.y_strides[3] + v * p.lanes, count=None if p.tail else count
                )

    def _fold(self, sums: Value, bias: Value) -> Value:
        """The lanes of a vector along the inputs, added to the bias of its one output channel."""
        k = self.k
        spare = [k.splat(0.0, k.scalar)] * (bias.type.count - 1)
        return k.b.fadd(bias, k.gather([emit_fold(k, k.b.fadd, sums), *spare]))

    def _taps(self, phase: PhaseValues, q: Index, acc: list[list[Slot]], held: _Held, *, checked: bool) -> None:
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

    def _reduce_inside(self, row: Pointer, ix: Index, weights: Pointer, acc: list[list[Slot]], held: _Held) -> None:
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

    def _reduce(self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: _Held) -> None:
        """One tap of all input channels; many of them in spans, each a sum of its own that is added at its end."""
        k, inputs = self.k, self.p.inputs
        if held.dots:
            self._dot(pixels, weights, acc, held)
            return
        spans, rest = divmod(inputs, SPAN)
        if rest < SPAN // 2:
            spans, rest = spans - 1, rest + SPAN
        if spans > 0:
            with k.loop(spans * SPAN, step=SPAN) as first:
                self._add_span(pixels, weights, acc, held, first, SPAN)
            self._add_span(pixels, weights, acc, held, spans * SPAN, rest)
        else:
            self._sum(pixels, weights, acc, held, 0, inputs)

    def _dot(self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: _Held) -> None:
        """One tap of all input channels of one output channel, each lane for some of them."""
        k, p = self.k, self.p
        line = p.w_line or sum(held.widths)
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
        self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: _Held, first: Index, size: int
    ) -> None:
        """Add the sum over ``size`` input channels from ``first`` on."""
        k = self.k
        parts = [[k.variable(slot.allocated_type, k.splat(0.0, slot.allocated_type)) for slot in row] for row in acc]
        self._sum(pixels, weights, parts, held, first, size)
        for row, slots in zip(parts, acc, strict=True):
            for part, slot in zip(row, slots, strict=True):
                k.set(slot, k.b.fadd(k.get(slot), k.get(part)))

    def _sum(
        self, pixels: list[Pointer], weights: Pointer, acc: list[list[Slot]], held: _Held, start: Index, size: int
    ) -> None:
        """One tap of ``size`` input channels from ``start`` on."""
        k, p = self.k, self.p
        widths = held.widths
        unroll = min(p.tile.unroll, size)
        rounds, rest = divmod(size, unroll)
        # What is read as it lies may end with its last column.
        counts = [*(None for _ in widths[1:]), held.tail if p.w_line else None]

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
            line = k.mul(k.add(first, u - half) if p.pairs else j, p.w_line or sum(widths))
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
