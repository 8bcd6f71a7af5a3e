r"""The gradient of the weights of a filtered layer.

The forward pass is linear in the transformed weights, so the chain rule goes through it from behind:

.. math:: Y = A^T \big[ (G g\, G^T) \odot (B^T d\, B) \big] A
    \quad\Rightarrow\quad \mathrm{d}g = G^T \Big[ \sum (A\, e\, A^T) \odot (B^T d\, B) \Big] G

with e the gradient of the results of a block, and the sum over all blocks of all images. That is F(r, m) with the roles
of results and taps exchanged, at the same points. Sums of the products of all blocks are products of matrices, one for
each point; the last transform is made once. Here are the first and the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index, Pointer, Value
from omniconv.compiler.kernels.weights.panel import PanelSums
from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid
from omniconv.compiler.kernels.winograd.matrices import emit_result
from omniconv.compiler.kernels.winograd.spread import BlockReach, BlockSpread
from omniconv.compiler.kernels.winograd.walk import BlockWalk
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradGradient:
    """The recipe of A e A^T for a slab of blocks: the gradient of the result to
    ``[group][point][plane][block][channel of the group]``.

    Args of the kernel: the gradient, the transformed slab, zeros, and a table with the first block of the slab.

    Attributes:
        y_strides: N, D, H, W strides of the gradient [elements].
    """

    blocks: BlockGrid
    channels: int
    y_strides: tuple[int, int, int, int]
    readable: bool
    pitch: int
    lanes: int

    @property
    def units(self) -> int:
        """Blocks in a slab, one for each plane."""
        return self.blocks.slab * self.blocks.planes[1]

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        blocks, (sn, *strides) = self.blocks, self.y_strides
        depth, height, width = map(BlockReach.of_result, blocks.axes)
        spread = BlockSpread(
            blocks=blocks,
            reaches=(depth, height, width),
            channels=self.channels,
            strides=strides,
            stride=blocks.stride(self.pitch, blocks.planes[1]),
            masked=not self.readable,
            alone=False,
        )
        first, last = k.lookup(k.arg(3), 0), blocks.count - 1
        with k.loop(k.end, start=k.begin) as unit:
            plane, index = k.divmod(unit, blocks.slab) if blocks.planes[1] > 1 else (0, unit)
            block = k.add(first, index)
            # Past the last block of the layer there are zeros.
            exists = k.compare("<=", block, last) if blocks.count % blocks.slab else True
            at = BlockWalk.to(k, blocks, k.min(block, last))
            image, row = k.shift(k.arg(0), k.mul(at.n, sn)), k.shift(k.arg(1), k.mul(unit, self.pitch))
            begins = [k.add(at.starts[0], k.mul(plane, blocks.axes[0].dilation)), *at.starts[1:]]
            spread.emit(k, image, k.arg(2), begins, row, exists)
        return k.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradTaps:
    """The recipe of G^T m G: sums ``[group][point][panel][tap of planes][channel of wide][channel of narrow]`` to the
    same with all taps in place of those and no points.

    A value that is not finite would reach, through the transforms, weights that have no product with it. Where a weight
    is not finite, those of all taps are summed directly.

    Args of the kernel: sums, weights, wide and narrow.

    Attributes:
        blocks: of the layer.
        sums: of the products of all points.
        x_strides, y_strides: N, D, H, W strides of wide and of narrow [elements].
    """

    blocks: BlockGrid
    sums: PanelSums
    x_strides: tuple[int, int, int, int]
    y_strides: tuple[int, int, int, int]

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return math.prod(axis.kernel for axis in self.blocks.axes)

    @property
    def each(self) -> int:
        """Sums of one tap in a panel."""
        return self.sums.sums.wide * self.sums.width

    @property
    def units(self) -> int:
        """Channels of wide in all panels."""
        return self.blocks.groups * self.sums.panels * self.sums.sums.wide

    def emit(self, name: str, target: Target) -> str:
        """The kernel's IR."""
        k = Kernel(name, target)
        wide, width, panels, planes = self.sums.sums.wide, self.sums.width, self.sums.panels, self.sums.sums.taps
        last = self.sums.sums.narrow - (panels - 1) * width
        with k.loop(k.end, start=k.begin) as unit:
            group, panel, channel = k.split(unit, self.blocks.groups, panels, wide)
            own = k.shift(k.arg(3), k.add(k.mul(group, self.sums.sums.narrow), k.mul(panel, width)))
            met = k.shift(k.arg(2), k.add(k.mul(group, wide), channel))

            def find(place: int, points: int, taps: int) -> Pointer:
                """The first sum of a channel in what has so many points and taps."""
                row = k.add(k.mul(group, points * panels), panel)
                return k.shift(k.arg(place), k.add(k.mul(row, taps * self.each), k.mul(channel, width)))

            source, result = find(0, self.blocks.points, planes), find(1, 1, self.taps)
            with k.loop(planes) as plane:
                sums = k.shift(source, k.mul(plane, self.each))
                taps = k.shift(result, k.mul(plane, self.taps // planes * self.each))

                def body(channels: int) -> None:
                    for at in range(0, channels, self.sums.lanes):
                        count = min(channels - at, self.sums.lanes)
                        self._vector(k, k.shift(sums, at), k.shift(taps, at), plane, met, k.shift(own, at), count)

                k.both_ways(
                    k.compare("<", panel, panels - 1) if last < width and panels > 1 else last == width,
                    lambda whole: body(width if whole else last),
                )
        return k.finish()

    def _vector(
        self, k: Kernel, source: Pointer, taps: Pointer, plane: Index, met: Pointer, own: Pointer, channels: int
    ) -> None:
        """The taps of one plane, of one channel of wide and a vector of channels of narrow."""
        blocks = self.blocks
        stride = self.sums.panels * self.sums.sums.taps * self.each
        order, down, across = blocks.order, blocks.down, blocks.across
        columns = [
            _gather(k, down, [k.load(source, order[i * across.points + j] * stride) for i in range(down.points)])
            for j in range(across.points)
        ]
        zero = k.splat(0.0)
        total, number = zero, 0
        for line in zip(*columns, strict=True):
            for value in _gather(k, across, line):
                # 0 times all of them adds up to 0 where all are finite.
                total = k.fma(value, zero, total)
                k.store(value, taps, number * self.each)
                number += 1
        odd = k.b.fcmp_unordered("!=", total, zero)
        count = None if channels == self.sums.lanes else channels
        if count is not None:
            odd = k.b.and_(odd, k.first_lanes(count, k.lanes))
        with k.when(k.any(odd)), ExitStack() as loops:
            places = [plane if axis.direct else loops.enter_context(k.loop(axis.kernel)) for axis in blocks.axes]
            tap: Index = 0
            for axis, place in zip(blocks.axes, places, strict=True):
                if not axis.direct:
                    tap = k.add(k.mul(tap, axis.kernel), place)
            k.store(self._sum(k, places, met, own, count), taps, k.mul(tap, self.each))

    def _sum(self, k: Kernel, taps: Sequence[Index], met: Pointer, own: Pointer, count: int | None) -> Value:
        """The products of one tap, over all positions in their order."""
        total = k.variable(k.vector_type(), k.splat(0.0))
        axes = self.blocks.axes
        with ExitStack() as loops:
            n = loops.enter_context(k.loop(self.blocks.batch))
            places = [loops.enter_context(k.loop(axis.output)) for axis in axes]
            x, e = k.shift(met, k.mul(n, self.x_strides[0])), k.shift(own, k.mul(n, self.y_strides[0]))
            inside: Condition = True
            for axis, place, tap, far, step in zip(
                axes, places, taps, self.x_strides[1:], self.y_strides[1:], strict=True
            ):
                read = k.sub(k.add(place, k.mul(tap, axis.dilation)), axis.before)
                inside = k.both(inside, axis.pointwise or k.within(read, axis.size))
                x, e = k.shift(x, k.mul(read, far)), k.shift(e, k.mul(place, step))
            with k.when(inside):
                k.set(total, k.fma(k.load_splat(x), k.load(e, count=count), k.get(total)))
        return k.get(total)


def _gather(k: Kernel, axis: BlockAxis, values: Sequence[Value]) -> Sequence[Value]:
    """``G^T @ values``."""
    if not axis.filtered:
        return values
    filtering = axis.filtering
    scaled = [
        value if factor == 1 else k.b.fmul(value, k.splat(factor))
        for value, factor in zip(values, filtering.factors, strict=True)
    ]
    return emit_result(k, list(zip(*filtering.powers, strict=True)), scaled)
