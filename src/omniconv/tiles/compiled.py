"""`CompiledTiles`: the programs of a plan's tiles, each compiled when its first tile comes."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.planning.shared import Shared
from omniconv.errors import UnsupportedError
from omniconv.forks import own_locks
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.spec import Shape

if TYPE_CHECKING:
    from omniconv.tiles.plan import ImageTile, TilePlan

Array: TypeAlias = npt.NDArray[Any]


def _refuse(shape: Shape) -> NoReturn:
    """A plan in another process is for one shape.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(f"a plan for shape {shape} from one that was sent here", need="plan_tiles in this process")


class CompiledTiles:
    """Computes tiles. Programs of all kinds share machine code, packed weights and working memory. Thread-safe.

    A copy in another process compiles again there.

    Attributes:
        plan: the tiles.
    """

    def __init__(self, plan: TilePlan) -> None:
        self.plan = plan
        self._begin()

    def _begin(self) -> None:
        self._shared, self._pool = Shared(), ArenaPool()
        self._made: dict[tuple[int, ...], Executable] = {}
        own_locks(self)

    def forget_locks(self) -> None:
        """See :mod:`omniconv.forks`."""
        self._lock = threading.Lock()

    def __getstate__(self) -> TilePlan:
        return replace(self.plan, _subject=replace(self.plan.subject, lower=_refuse))

    def __setstate__(self, plan: TilePlan) -> None:
        self.plan = plan
        self._begin()

    def __call__(self, tile: ImageTile, x: Array) -> Array:
        """The outputs of a tile ``(1, C, *spatial)``, given what it reads."""
        run = self.find(tile)
        ((source, _),), ((name, shape),) = run.inputs.items(), run.outputs.items()
        # Memory of its own: what an executable keeps for its next results, it would keep for each kind of tile.
        y = np.empty(shape, run.dtype)
        run.run({source: x}, {name: y})
        return y != 0 if self.plan.dtype.kind == "b" else y

    def find(self, tile: ImageTile) -> Executable:
        """The executable of tiles of its kind."""
        with self._lock:
            found = self._made.get(tile.kind)
            if found is None:
                plan = self.plan
                part = plan.whole.part(tile.outputs)
                # What a plan says of one axis holds for all others: each is cut by itself.
                assert plan.whole.reads(part) == tile.reads
                found = self._made[tile.kind] = Executable.of(
                    part.program,
                    plan.subject.target,
                    plan.subject.options,
                    plan.subject.at,
                    shared=self._shared,
                    pool=self._pool,
                )
        return found

    def measure_seconds(self) -> float:
        """See :meth:`TilePlan.measure_seconds`."""
        commonest = []
        for line in self.plan.lines:
            kinds = [piece.kind for piece in line]
            commonest.append(kinds.index(Counter(kinds).most_common(1)[0][0]))
        tile = self.plan.tile_at(tuple(commonest))
        run = self.find(tile)
        x = np.zeros(next(iter(run.inputs.values())), run.dtype)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            run(x)
            times.append(time.perf_counter() - started)
        one = math.prod(b - a for a, b in tile.reads)
        return min(times) * self.plan.planes * self.plan.read / one
