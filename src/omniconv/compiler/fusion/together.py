"""Changes of layout moved to the layers that need them, so that both may be fused."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.compiler.kernels.lane.rows import Lane
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.memory.planner import Call, Group
from omniconv.compiler.memory.storage import Buffer


def bring_together(calls: Sequence[Call], given: Sequence[Group], buffers: Sequence[Buffer]) -> list[Call]:
    """The calls with changes of layout moved to just before the layers that need them, past the calls that have nothing
    to do with them: those that pack weights.
    """
    found = list(calls)
    starts = [group.first for group in given]
    for index in range(len(found) - 2, -1, -1):
        call, end = found[index], index + 1
        if not call.moved:
            continue
        own = {ref.buffer for ref in call.args if buffers[ref.buffer].kind in ("arena", "output")}
        while end < len(found) and not own & {ref.buffer for ref in found[end].args}:
            end += 1
        if end == len(found) or not isinstance(found[end].recipe, Lane | Panel):
            continue
        if not any(index < start <= end for start in starts):
            found.insert(end - 1, found.pop(index))
    return found
