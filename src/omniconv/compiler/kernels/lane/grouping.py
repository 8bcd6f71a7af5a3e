"""How the channels of a lane kernel sit in vectors: which output channel each lane computes, and how the inputs of its
group reach it.

A vector holds whole groups. Its inputs are neighbours in memory, so that input j of every group reaches its lanes by
one constant permutation of what was loaded. Permutations across the halves of a vector are slow on some machines;
there groups that fit a half do not straddle the middle, so that permutations stay inside the halves. Groups of three
are made of two broadcasts from memory, and a group that has a vector for itself of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.compiler.problem.problem import Problem
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True)
class Grouping:
    """Vectors of ``lanes`` lanes for groups of ``inputs`` and ``outputs`` channels, no more than fit one vector.

    ``halved`` says whether permutations had better stay inside the halves of a vector.
    """

    lanes: int
    inputs: int
    outputs: int
    halved: bool

    @classmethod
    def of(cls, problem: Problem, target: Target) -> Grouping:
        """How the groups of a layer sit in the vectors of a machine."""
        return cls(target.lanes, problem.inputs, problem.outputs, not target.traits.permutes_cross_halves)

    @property
    def half(self) -> int:
        """Lanes of half a vector."""
        return self.lanes // 2

    @property
    def slots(self) -> tuple[int, ...]:
        """The lane of each output channel of a vector.

        Example:
            >>> Grouping(8, 3, 3, halved=True).slots, Grouping(16, 2, 2, halved=False).slots[:5]
            ((0, 1, 2, 4, 5, 6), (0, 1, 2, 3, 4))
            >>> Grouping(8, 1, 5, halved=True).slots
            (0, 1, 2, 3, 4)
        """
        part = self.half if self.halved and self.outputs <= self.half else self.lanes
        return _list_slots(self.lanes, part, self.outputs)

    @property
    def groups(self) -> int:
        """Groups in one vector."""
        return len(self.slots) // self.outputs

    @property
    def width(self) -> int:
        """Output channels in one vector."""
        return len(self.slots)

    @property
    def span(self) -> int:
        """Input channels behind one vector."""
        return self.groups * self.inputs

    @property
    def _split(self) -> bool:
        """Whether each half of a vector holds one group, whose three inputs do not begin where a half does."""
        return self.halved and self.half // self.outputs == 1 and 3 in (self.inputs, self.outputs)

    def emit_inputs(
        self, k: Kernel, pixel: Pointer, column: Index, count: int | None, inputs: Iterable[int]
    ) -> Iterator[tuple[int, Value]]:
        """For each of some inputs of a group, the vector that holds it in the lanes of its group's outputs.

        Args:
            k: the kernel.
            pixel: address of a pixel.
            column: the first input channel of the vector.
            count: channels from there on that may be read; ``None`` where any vector may be.
            inputs: which inputs of the groups.
        """
        wanted = {lane: place // self.outputs * self.inputs for place, lane in enumerate(self.slots)}
        if count is not None:  # lanes of groups that do not exist hold anything
            wanted = {lane: first for lane, first in wanted.items() if first + self.inputs <= count}
        pixel = k.shift(pixel, column)
        if self.groups == 1 and self.halved:
            for j in inputs:
                yield j, k.load_splat(pixel, j)
            return
        if self._split:
            low, high = wanted[0], wanted.get(self.half, wanted[0])
            for j in inputs:
                yield j, k.join(k.load_splat(pixel, low + j), k.load_splat(pixel, high + j))
            return
        end = max(wanted.values()) + self.inputs
        size = next(size for size in (2, self.half, self.lanes) if size >= end) if self.halved else self.lanes
        loaded = k.load(pixel, count=None if count is None else min(count, size), lanes=size)
        if size < self.lanes:  # repeated in every part of the vector, which is still a load and no permutation
            loaded = k.hold(k.permute(loaded, [lane % size for lane in range(self.lanes)]))
        for j in inputs:
            # Lanes stay in their half, spare ones where they are: that costs no exchange of halves.
            first = [lane // self.half * self.half if size <= self.half else 0 for lane in range(self.lanes)]
            lanes = [wanted[lane] + j + first[lane] if lane in wanted else lane for lane in range(self.lanes)]
            yield j, k.permute(loaded, lanes)


@lru_cache(maxsize=256)
def _list_slots(lanes: int, part: int, outputs: int) -> tuple[int, ...]:
    """The lanes of whole groups of ``outputs`` channels, in parts of a vector that no group leaves."""
    inner = range(part // outputs * outputs)
    return tuple(first + lane for first in range(0, lanes, part) for lane in inner)
