"""`BlockAxis` and `BlockGrid`: where the blocks of a filtered layer lie, and what each reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import TypeAlias

from omniconv.compiler.kernels.winograd.matrices import POINTS, Filtering, find_filtering
from omniconv.compiler.problem.problem import Problem
from omniconv.integers import ceil_div
from omniconv.open_size import Opener
from omniconv.records import dataclass

Line: TypeAlias = tuple[range, range]
"""Points along one axis, and the parts of that axis whose weights are not all zero there."""
Taps: TypeAlias = tuple[int | None, ...]
"""Taps of the kernel, in the order of the positions that they read; ``None`` where there is none."""


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
    def lines(self) -> tuple[Line, ...]:
        """The points, divided by the parts that they have. At infinity there is the last of r taps alone: a part of the
        layer's stride that has one tap less takes no products there.
        """
        long = sum(taps[-1] is not None for taps in self.taps[0])
        if self.stride == 1 or long == self.parts:
            return ((range(self.points), range(self.parts)),)
        last = self.points - 1
        return (range(last), range(self.parts)), (range(last, self.points), range(long))

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
class PointSet:
    """Points whose products sum the same parts, and parts, as ranges along every axis.

    Attributes:
        lines: along each axis.
        first, slot: where the first point of them is in a slab, and the first part of them in a row.
        order: the parts by their places in a row, numbered as those of the last axis are neighbours.
    """

    lines: tuple[Line, Line, Line]
    first: int
    slot: int
    order: tuple[int, ...]

    @property
    def points(self) -> int:
        """Number of points."""
        return math.prod(len(points) for points, _ in self.lines)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return math.prod(len(parts) for _, parts in self.lines)


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
        taps = [axis for axis in self.axes if axis.parts > 1 and axis.stride == 1]
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
        points = ", ".join(str(point) for point in POINTS[: max(counts) - 1])
        numbers = "x".join(str(count) for count in counts)
        return f"{self.name}: {numbers} points, {points} and infinity; multiplies {self.saving:.2f} times less often"

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
        points = sum(each.points * each.parts for each in self.sets)
        return points * self.phases * (depth.m * depth.r if depth.direct else 1)

    @property
    def sets(self) -> tuple[PointSet, ...]:
        """The points, divided by the parts that they have; where groups are worked on together they all have all."""
        whole: list[tuple[Line, ...]] = [axis.lines for axis in self.axes]
        if self.groups > 1:
            whole = [((range(axis.points), range(axis.parts)),) for axis in self.axes]
        return _divide(tuple(whole), tuple(axis.points for axis in self.axes), tuple(axis.parts for axis in self.axes))

    @property
    def order(self) -> tuple[int, ...]:
        """Where each point is in a slab: those of a set lie together."""
        places = [
            point
            for each in self.sets
            for point in _list_places([axis.points for axis in self.axes], [points for points, _ in each.lines])
        ]
        return tuple(sorted(range(self.points), key=places.__getitem__))

    @property
    def slots(self) -> tuple[int, ...]:
        """Where each part is in a row: those of any set lie together, since those that are long along one axis alone
        stand before and behind those that are so along both.
        """
        long = tuple(axis.parts if self.groups > 1 else len(axis.lines[-1][1]) for axis in self.axes)
        return _place_parts(long, tuple(axis.parts for axis in self.axes))


@lru_cache(maxsize=256)
def _divide(
    lines: tuple[tuple[Line, ...], ...], points: tuple[int, ...], parts: tuple[int, ...]
) -> tuple[PointSet, ...]:
    """The sets of points that lines along each axis make."""
    places = _place_parts(tuple(len(each[-1][1]) for each in lines), parts)
    found: list[PointSet] = []
    for depth, height, width in product(*lines):
        slots = [places[part] for part in _list_places(parts, [depth[1], height[1], width[1]])]
        order = tuple(sorted(range(len(slots)), key=slots.__getitem__))
        found.append(PointSet((depth, height, width), sum(each.points for each in found), min(slots), order))
    assert sum(each.points for each in found) == math.prod(points)
    return tuple(found)


@lru_cache(maxsize=256)
def _place_parts(long: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    """The places of parts, of which so many are long along each axis."""

    def key(place: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        _, height, width = (index < limit for index, limit in zip(place, long, strict=True))
        return (1 if width else 0) if height else (2 if width else 3), place

    places = list(product(*(range(count) for count in parts)))
    ordered = {place: slot for slot, place in enumerate(sorted(places, key=key))}
    return tuple(ordered[place] for place in places)


def _list_places(counts: Sequence[int], ranges: Sequence[range]) -> list[int]:
    """Numbers of the points, or parts, in a range along each axis: those of the last axis are neighbours."""
    found = [0]
    for count, indices in zip(counts, ranges, strict=True):
        found = [place * count + index for place in found for index in indices]
    return found
