"""The constants of a plan in memory: packed weights and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.compiler.memory.storage import ALIGNMENT
from omniconv.compiler.planning.plan import Plan
from omniconv.compiler.planning.shared import Shared
from omniconv.integers import ceil_div
from omniconv.runtime.arena import Arena


def make_constants(plan: Plan, shared: Shared | None, limit: int | None) -> tuple[list[Arena], dict[int, int]]:
    """All constants, computed into one block but for the weights that networks of other sizes have too; and the
    addresses of all.

    Args:
        plan: the plan.
        shared: what networks of other sizes have.
        limit: most memory [bytes].
    """
    blocks, addresses, alone = [], {}, []
    for index, buffer in enumerate(plan.buffers):
        if buffer.kind != "constant":
            continue
        if shared is None or buffer.packed is None:
            alone.append(index)
            continue
        with shared.lock:
            block = shared.packed.get(buffer.packed)
            if block is None:
                block, [addresses[index]] = _fill(plan, [index], limit)
                shared.packed[buffer.packed] = block
        addresses[index] = block.address
        blocks.append(block)
    block, found = _fill(plan, alone, limit)
    return [*blocks, block], addresses | dict(zip(alone, found, strict=True))


def _fill(plan: Plan, indices: Sequence[int], limit: int | None) -> tuple[Arena, list[int]]:
    """A block with some constants, and their addresses."""
    buffers = [plan.buffers[index] for index in indices]
    ends = np.cumsum([0, *(ceil_div(buffer.size, ALIGNMENT) * ALIGNMENT + ALIGNMENT for buffer in buffers)])
    block = Arena(int(ends[-1]), limit=limit)
    offsets = [int(end) for end in ends[:-1]]
    for buffer, offset in zip(buffers, offsets, strict=True):
        assert buffer.make is not None
        content = buffer.make()
        assert content.nbytes == buffer.size, (content.nbytes, buffer)
        block.view(offset, content.shape, content.dtype)[...] = content
    return block, [block.address + offset for offset in offsets]
