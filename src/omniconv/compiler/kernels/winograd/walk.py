"""`BlockWalk`: where a kernel is that goes through the blocks of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Condition, Index
from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid
from omniconv.open_size import is_open
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class BlockWalk:
    """The position of one block on the machine: its image, and its first output along every axis."""

    n: Index
    starts: tuple[Index, ...]

    @classmethod
    def to(cls, k: Kernel, blocks: BlockGrid, block: Index) -> BlockWalk:
        """The block of a number."""
        n, *digits = k.split(block, blocks.batch, *(axis.count for axis in blocks.axes))
        return cls(n, tuple(_start(k, axis, digit) for axis, digit in zip(blocks.axes, digits, strict=True)))

    def move(self, k: Kernel, blocks: BlockGrid, phases: Sequence[Index]) -> BlockWalk:
        """To the first output of a phase along each axis."""
        starts = list(self.starts)
        for index, (axis, phase) in enumerate(zip(blocks.axes, phases, strict=True)):
            if axis.phases > 1:
                shift = axis.shifts[phase] if isinstance(phase, int) else k.lookup(k.table(axis.shifts), phase)
                starts[index] = k.add(k.mul(k.add(starts[index], shift), axis.phases), phase)
        return replace(self, starts=tuple(starts))

    def fits(self, k: Kernel, blocks: BlockGrid) -> Condition:
        """Whether all outputs exist along the axes that are filtered; a Python bool where that is known."""
        found: Condition = True
        for axis, start in zip(blocks.axes, self.starts, strict=True):
            if axis.filtered and (is_open(axis.output) or not axis.whole):
                if axis.phases > 1:
                    found = k.both(found, k.compare("<=", 0, start))
                found = k.both(found, k.compare("<", k.add(start, (axis.m - 1) * axis.apart), axis.output))
        return found


def _start(k: Kernel, axis: BlockAxis, index: Index) -> Index:
    if axis.dilation == 1:
        return k.mul(index, axis.m)
    steps = {b - a for a, b in zip(axis.starts, axis.starts[1:], strict=False)}
    if len(steps) <= 1:
        return k.mul(index, steps.pop()) if steps else axis.starts[0]
    return k.lookup(k.table(list(axis.starts)), index)
