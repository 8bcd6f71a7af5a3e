"""What sweeps over an image find: reductions over all positions, from those of its tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from omniconv.tiles.compiled import Array
from omniconv.tiles.plan import SweepPlan
from omniconv.tiles.sums import Partial


def take_part(sweep: SweepPlan, found: Mapping[str, Array]) -> Partial:
    """What one tile of a sweep contributes."""
    (y,) = found.values()
    return Partial.of(y, sweep.statistics)


def finish_sweep(sweep: SweepPlan, total: Partial, known: Mapping[str, Array]) -> dict[str, Array]:
    """What is known after a sweep, given all of its parts together, and what was known before."""
    dtype = sweep.plan.whole.program.element.dtype
    return {**known, **{statistic.y: total.find(statistic, dtype) for statistic in sweep.statistics}}


def name_statistics(known: Mapping[str, Array]) -> str:
    """A digest of inputs that all tiles are given and of all that sweeps have found, which tiles depend on, too."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(known):
        state.update(f"{name}\0{known[name].shape}\0".encode() + known[name].tobytes())
    return state.hexdigest() if known else ""
