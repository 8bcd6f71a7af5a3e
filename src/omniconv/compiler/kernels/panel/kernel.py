r"""The panel kernel: one input value, broadcast, times a panel of output-channel vectors.

.. math:: y_{q, c} = b_c + \sum_{t} \sum_{j < C_{in}/g} x_{q + \delta_t,\; m_j} \; w_{t, j, c}

A tile holds ``rows`` output positions by ``vectors`` vectors of output channels in registers while taps and input
channels run past. It serves every layer whose groups fill a vector, and every other layer correctly: pointwise, dense,
transposed, grouped. Input channels may lie anywhere (a stride or a list of positions), so shuffles and channels-first
inputs are read in place. Positions outside the input are read from a block of zeros. Vectors of an output channel
that is left over, the last of 49, would waste all lanes but one: they run along its inputs instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.epilogue import Post, open_posts, share_posts
from omniconv.compiler.emit.machine import Index
from omniconv.compiler.emit.phases import PhaseTables
from omniconv.compiler.kernels.panel.ahead import ask_next_matrix
from omniconv.compiler.kernels.panel.row import Held, PanelRow, W
from omniconv.compiler.kernels.panel.tiles import PanelTile, sums_along_inputs
from omniconv.compiler.problem.open_images import open_images
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.open_size import Opener, is_open
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.target.model import Target


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
        turned: whether positions along the width are output channels of the layer, with the layer's weights as inputs,
            and columns are positions of the layer. Biases are those of rows then, and a unit of work first copies its
            columns, which lie ``w_line`` apart for neighbouring inputs, into the memory of its thread: the last arg.
            The last panel, of several, overlaps the one before it, so that its vectors are whole.
        parted: whether the tiles of a unit take turns at each span of inputs, and ask together for the weights of the
            next one meanwhile. Their sums lie in the memory of the thread between spans: the last arg. Every sum is
            made as without.
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
    turned: bool = False
    parted: bool = False

    @property
    def line(self) -> int:
        """Distance between the weights of neighbouring inputs where tiles read them as they lie [elements]; else 0."""
        return 0 if self.turned else self.w_line

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
        """Weights of one group for one tap and input channel, spare lanes included where they are packed."""
        if self.turned:
            return self.outputs
        return (self.vectors - 1) * self.lanes + self.narrow

    @property
    def pitch(self) -> int:
        """Distance between the widened inputs of two positions: whole vectors [elements]."""
        return ceil_div(self.inputs, self.lanes) * self.lanes

    @property
    def room(self) -> int:
        """Memory of a thread for widened inputs, for the columns of a panel, or for sums of which a part is there
        [elements].
        """
        if self.turned:
            return self.depth * self.tile.vectors * self.lanes
        return self.tile.block * self.tile.rows * (self.tile.vectors * self.lanes if self.parted else self.pitch)

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
        """The same kernel for images of any size. Inputs that lie channels first are an image apart; of a turned layer
        the columns are the image.
        """
        if self.turned:
            return replace(
                self,
                batch=opener(self.batch),
                outputs=opener(self.outputs),
                y_strides=opener.all(self.y_strides),
                w_strides=(opener(self.w_strides[0]), 0, 0),
                w_line=opener(self.w_line),
                posts=share_posts(self.posts, opener),
            )
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
        group, index = (0, panel) if self.turned else k.divmod(panel, self.panels)
        last = self.vectors - (self.panels - 1) * self.tile.vectors
        within = k.mul(index, self.tile.vectors * self.lanes)
        full = Held((self.lanes,) * self.tile.vectors)
        if self.turned and self.panels > 1:
            within, tail = k.min(within, self.outputs - last * self.lanes), self.lanes
            rest = Held((self.lanes,) * last)
        else:
            tail = self.outputs - (self.vectors - 1) * self.lanes
            rest = Held((self.lanes,) * (last - 1) + (self.narrow,), tail, self.dots)
        row = PanelRow(self, k, tables, n, od, oh, block, group, within)
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
