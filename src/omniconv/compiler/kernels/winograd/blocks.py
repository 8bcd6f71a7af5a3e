"""`BlockAxis` and `BlockGrid`: where the blocks of a filtered layer lie, and what each reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, TypeAlias

from omniconv.compiler.kernels.winograd.matrices import POINTS, Filtering, find_filtering
from omniconv.compiler.kernels.winograd.points import Line, PointSet, divide, list_places, place_parts
from omniconv.compiler.problem.problem import Problem
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.records import dataclass

Taps: TypeAlias = tuple[int | None, ...]
"""Taps of the kernel, in the order of the positions that they read; ``None`` where there is none."""
MOST_PHASES: Final = 4
"""Phases at most that have products of their own: each has code of its own in the second transform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAxis:
    """Blocks along one axis: outputs ``starts[i] + dilation * j``, j < m, as far as they exist.

    The taps of the kernel are those of one or more *parts*, r taps each, whose results add up: those that read one
    phase of the input where the layer has a stride; without, those that lie together. A block reads n = m + r - 1
    positions for each part.

    The output of a transposed layer with a stride has *phases*, each with taps of its own. Blocks are then such of
    positions q, and phase f of a block has the outputs ``phases * (starts[i] + shifts[f] + j) + f``: shifted so that
    the blocks of all phases read the same.

    Attributes:
        size, output, before: of the layer's axis; the first block reads from ``-before`` on.
        kernel: taps of the layer.
        dilation, stride: of the layer; one of them is 1.
        m, r: outputs of a block, and taps of a part.
        taps: for each phase and each part.
        between: distance between the first positions that parts read [inputs].
        shifts: of each phase.
        direct: whether the products of these taps are summed as they are, and nothing is transformed along the axis.
        pointwise: whether each output reads the one input at its own place.
    """

    size: int
    output: int
    before: int
    kernel: int
    dilation: int
    stride: int
    m: int
    r: int
    taps: tuple[tuple[Taps, ...], ...]
    between: int = 0
    shifts: tuple[int, ...] = (0,)
    direct: bool = False
    pointwise: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        """The first output of every block: those of each residue of the output position modulo the dilation."""
        return tuple(
            residue + self.dilation * first
            for residue in range(min(self.dilation, self.output))
            for first in range(0, ceil_div(self.output - residue, self.dilation), self.m)
        )

    @property
    def count(self) -> int:
        """Blocks along the axis."""
        if self.dilation > 1:
            return len(self.starts)
        return ceil_div(ceil_div(self.output, self.phases) - min(self.shifts), self.m)

    @property
    def phases(self) -> int:
        """Phases of the output."""
        return len(self.taps)

    @property
    def parts(self) -> int:
        """Parts of the kernel."""
        return len(self.taps[0])

    @property
    def undivided(self) -> Line:
        """All points, as if every part and every phase had all taps."""
        return Line(range(self.points), range(self.parts), range(self.phases))

    @property
    def lines(self) -> tuple[Line, ...]:
        """The points, divided by the parts and phases that they have. At 0 there is the first of r taps alone, and at
        infinity the last one: a part of the layer's stride, or a phase, without that tap takes no products there.
        """
        points, parts, phases = whole = self.undivided
        if self.stride == self.phases == 1:
            return (whole,)
        first, last = (end if end[1:] != whole[1:] else None for end in (self._end(0), self._end(-1)))
        middle = Line(points[first is not None : len(points) - (last is not None)], parts, phases)
        return tuple(line for line in (first, middle, last) if line is not None)

    def _end(self, tap: int) -> Line:
        """The first point, or the last one, and the parts and phases that have the first tap (0), or the last one (-1):
        parts of a stride have fewer taps the later they begin.
        """
        parts = [part for part in range(self.parts) if any(each[part][tap] is not None for each in self.taps)]
        phases = [phase for phase, each in enumerate(self.taps) if any(taps[tap] is not None for taps in each)]
        return Line(self.undivided.points[tap:][:1], range(len(parts)), range(phases[0], phases[-1] + 1))

    def find_points(self, phase: int) -> range:
        """The points at which a phase has products."""
        found = [point for line in self.lines if phase in line.phases for point in line.points]
        return range(found[0], found[-1] + 1)

    @property
    def apart(self) -> int:
        """Distance between neighbouring outputs of a block."""
        return self.dilation * self.phases

    @property
    def whole(self) -> bool:
        """Whether all outputs of all blocks exist."""
        if self.phases > 1:
            return self.output % self.phases == 0 == min(self.shifts) and (self.output // self.phases) % self.m == 0
        return max(self.starts) + (self.m - 1) * self.dilation < self.output

    @property
    def reads(self) -> int:
        """Positions that a block reads for each part."""
        return self.m + self.r - 1

    @property
    def points(self) -> int:
        """Products that a block takes for each part, along this axis."""
        return 1 if self.direct else self.reads

    @property
    def filtered(self) -> bool:
        """Whether there is a transform along the axis."""
        return self.points > 1

    @property
    def filtering(self) -> Filtering:
        """The matrices of the transforms."""
        return find_filtering(self.m, self.r)

    @property
    def spacing(self) -> int:
        """Distance between neighbouring positions that a block reads for one part."""
        return self.dilation * self.stride

    def opened(self, opener: Opener) -> BlockAxis:
        """The same blocks along an axis of any size; those of a dilated layer are a table, which is for one size."""
        if self.dilation > 1 or self.size == self.output == self.kernel == 1:
            return self
        return replace(self, size=opener(self.size), output=opener(self.output))


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """All blocks of a layer, and how many of them, in how many channel groups, are worked on together: a slab.

    An axis is filtered, or of one tap, or *direct*: only the depth is, beside another axis that is filtered. Then the
    transformed data of a slab has as many planes as a block reads along the depth, and the products are those of a
    layer with a kernel along the planes.
    """

    batch: int
    axes: tuple[BlockAxis, BlockAxis, BlockAxis]
    slab: int
    groups: int = 1

    def opened(self, opener: Opener) -> BlockGrid:
        """The same slabs of images of any size."""
        depth, height, width = (axis.opened(opener) for axis in self.axes)
        return replace(self, batch=opener(self.batch), axes=(depth, height, width))

    def text(self) -> str:
        """The text of filtering in these blocks."""
        return f"winograd {self.sizes} slab={self.slab} groups={self.groups}"

    def form(self) -> str:
        """The same: the number of blocks is all that is read when the code runs."""
        return self.text()

    @property
    def sizes(self) -> str:
        """What no other blocks of a layer have, whatever their slabs."""
        outputs = [axis.m for axis in self.axes[1:]]
        sizes = f"m={outputs[0]}" if outputs[0] == outputs[1] else f"m={outputs[0]}x{outputs[1]}"
        if self.axes[0].filtered:
            sizes = f"m={self.axes[0].m}x{outputs[0]}x{outputs[1]}"
        if self.axes[0].direct:
            sizes += f" planes={self.axes[0].m}"
        taps = [axis for axis in self.axes if axis.parts * axis.phases > 1 and axis.stride == 1]
        return sizes + (f" taps={'x'.join(str(axis.r) for axis in taps)}" if taps else "")

    @property
    def name(self) -> str:
        """What the filtering is called: outputs and taps along each filtered axis."""
        filtered = [axis for axis in self.axes if axis.filtered]
        outputs, taps = ("x".join(str(n) for n in each) for each in ([a.m for a in filtered], [a.r for a in filtered]))
        parts = f" in {self.parts} parts" if self.parts > 1 else f" in {self.phases} phases" if self.phases > 1 else ""
        planes = f", {self.axes[0].m} planes at a time" if self.axes[0].direct else ""
        return f"winograd F({outputs}, {taps}){parts}{planes}"

    def describe(self) -> str:
        """Form, points and saving in one line."""
        counts = [axis.points for axis in self.axes if axis.filtered]
        points = " by ".join(", ".join(map(str, POINTS[count])) + " and infinity" for count in dict.fromkeys(counts))
        numbers = "x".join(str(count) for count in counts)
        return f"{self.name}: {numbers} points, {points}; multiplies {self.saving:.2f} times less often"

    def stride(self, pitch: int, planes: int = 1) -> int:
        """Distance between the points of a group in a slab [elements]: an odd number of lines, so that points share no
        cache set.
        """
        lines = ceil_div(planes * self.slab * pitch, 16)
        return 16 * (lines + 1 - lines % 2)

    @property
    def down(self) -> BlockAxis:
        """The axis of the first pass of a transform; the width is that of the second."""
        depth, height, _ = self.axes
        return depth if depth.filtered else height

    @property
    def across(self) -> BlockAxis:
        """The axis of the second pass of a transform."""
        return self.axes[2]

    @property
    def planes(self) -> tuple[int, int]:
        """Planes of the transformed data and of the products, in a slab."""
        depth = self.axes[0]
        return (depth.reads, depth.m) if depth.direct else (1, 1)

    @property
    def count(self) -> int:
        """Blocks of all images."""
        depth, height, width = self.axes
        return self.batch * depth.count * height.count * width.count

    @property
    def points(self) -> int:
        """Products of one block and channel pair, for each part and each tap along the planes."""
        return math.prod(axis.points for axis in self.axes)

    @property
    def parts(self) -> int:
        """Parts of the kernel that are filtered apart, over all axes."""
        return math.prod(axis.parts for axis in self.axes)

    @property
    def phases(self) -> int:
        """Phases of the output, over all axes."""
        return math.prod(axis.phases for axis in self.axes)

    @property
    def growth(self) -> float:
        """How much larger roundings are expected to be than those of a direct sum."""
        return math.prod(axis.filtering.growth for axis in self.axes if axis.filtered)

    @property
    def saving(self) -> float:
        """Multiplications of the direct sum for each one of whole blocks."""
        return math.prod(axis.m * axis.kernel for axis in self.axes) / self._products

    def count_multiplications(self, problem: Problem) -> int:
        """Products of transformed values that a layer takes, those of the outputs that do not exist among them."""
        return self.count * self._products * problem.groups * problem.inputs * problem.outputs

    @property
    def _products(self) -> int:
        """Products of one block and channel pair."""
        depth = self.axes[0]
        points = sum(each.points * each.parts * len(each.phases) for each in self.sets)
        return points * (depth.m * depth.r if depth.direct else 1)

    @property
    def _lines(self) -> tuple[tuple[Line, ...], ...]:
        """The points along each axis, divided where groups are worked on one by one, and phases are few."""
        divided = self.groups == 1 and self.phases <= MOST_PHASES
        return tuple(axis.lines if divided else (axis.undivided,) for axis in self.axes)

    @property
    def sets(self) -> tuple[PointSet, ...]:
        """The points, divided by the parts and phases that they have; where groups are worked on together they all have
        all.
        """
        counts = zip(*((axis.points, axis.parts, axis.phases) for axis in self.axes), strict=True)
        return divide(self._lines, *counts)

    @property
    def uneven(self) -> bool:
        """Whether some phases have fewer points than others."""
        return any(len(each.phases) < self.phases for each in self.sets)

    @property
    def order(self) -> tuple[int, ...]:
        """Where each point is in a slab: those of a set lie together."""
        counts = [axis.points for axis in self.axes]
        found = {each.first: list_places(counts, [line.points for line in each.lines]) for each in self.sets}
        places = [point for points in found.values() for point in points]
        return tuple(sorted(range(self.points), key=places.__getitem__))

    @property
    def slots(self) -> tuple[int, ...]:
        """Where each part is in a row: those of any set lie together, since those that are long along one axis alone
        stand before and behind those that are so along both.
        """
        long = tuple(len(lines[-1].parts) for lines in self._lines)
        return place_parts(long, tuple(axis.parts for axis in self.axes))
