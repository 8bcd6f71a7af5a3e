"""`CompiledTiles`: the programs of a plan's tiles, each compiled when its first tile comes."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.planning.shared import Shared
from omniconv.errors import UnsupportedError
from omniconv.forks import own_locks
from omniconv.program.cut import Box, take
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.spec import Shape
from omniconv.tiles.room import Rooms, give_back

if TYPE_CHECKING:
    from omniconv.tiles.plan import ImageTile, TilePlan

Array: TypeAlias = npt.NDArray[Any]


def _refuse(shapes: Mapping[str, Shape]) -> NoReturn:
    """A plan in another process is for its own shapes.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(
        f"a plan for shapes {dict(shapes)} from one that was sent here", need="plan_tiles in this process"
    )


class CompiledTiles:
    """Computes tiles. Programs of all kinds share machine code, packed weights and working memory. Thread-safe.

    A copy in another process compiles again there.

    Attributes:
        plan: the tiles.
        rooms: memory of what tiles read and compute.
        sweeps: those of the sweeps before, with the same machine code, weights and memory.
    """

    def __init__(self, plan: TilePlan, beside: tuple[Shared, ArenaPool, Rooms] | None = None) -> None:
        self.plan = plan
        self._begin(beside)

    def _begin(self, beside: tuple[Shared, ArenaPool, Rooms] | None = None) -> None:
        self._shared, self._pool, self.rooms = beside = beside or (Shared(), ArenaPool(), Rooms())
        self._made: dict[tuple[int, ...], tuple[Executable, dict[str, Box]]] = {}
        own_locks(self)
        self.sweeps = tuple(CompiledTiles(sweep.plan, beside) for sweep in self.plan.sweeps)

    def forget_locks(self) -> None:
        """See :mod:`omniconv.forks`."""
        self._lock = threading.Lock()

    def __getstate__(self) -> TilePlan:
        return _without_lowering(self.plan)

    def __setstate__(self, plan: TilePlan) -> None:
        self.plan = plan
        self._begin()

    def __call__(
        self, tile: ImageTile, parts: Mapping[str, Array], known: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The outputs of a tile ``(1, C, *spatial)`` by name.

        Args:
            tile: to compute.
            parts: what it reads of each image, ``(1, C, *spatial)``.
            known: inputs that every tile is given, and what sweeps have found.
        """
        run, reads = self.find(tile)
        inputs = {name: take(array, reads[name]) for name, array in (known or {}).items() if name in reads}
        for name, x in parts.items():
            inputs[name] = take(x, (*reads[name][:2], *((0, size) for size in x.shape[2:])))
        # Memory of its own: what an executable keeps for its next results, it would keep for each kind of tile.
        made = {name: self.rooms.named(f"output {name}")(shape, run.dtype) for name, shape in run.outputs.items()}
        run.run(inputs, made)
        found = {}
        for name, y in zip(self.plan.outputs, made.values(), strict=True):
            if name in tile.outputs:
                found[name] = y != 0 if self.plan.outputs[name].dtype == "bool" else y
        return found

    def find(self, tile: ImageTile) -> tuple[Executable, dict[str, Box]]:
        """The executable of tiles of its kind, and the boxes of its inputs."""
        known = self._made.get(tile.kind)  # without waiting for a kind that is compiled meanwhile
        if known is not None:
            return known
        with self._lock:
            found = self._made.get(tile.kind)
            if found is None:
                self._pool.clear()  # the compiler works where tiles do
                plan = self.plan
                part = plan.whole.part(tile.outputs[plan.whole.tensors[0]])
                # What a plan says of one axis holds for all others: each is cut by itself.
                assert dict(zip(plan.whole.images, plan.whole.reads(part), strict=True)) == tile.reads
                made = Executable.of(
                    part.program,
                    plan.subject.target,
                    plan.subject.options,
                    plan.subject.at,
                    shared=self._shared,
                    pool=self._pool,
                )
                found = self._made[tile.kind] = made, part.reads
                give_back()
        return found

    def measure_seconds(self) -> float:
        """See :meth:`TilePlan.measure_seconds`."""
        commonest = []
        for line in self.plan.lines:
            kinds = [piece.kind for piece in line]
            commonest.append(kinds.index(Counter(kinds).most_common(1)[0][0]))
        tile = self.plan.tile_at(tuple(commonest))
        run, _ = self.find(tile)
        inputs = {name: np.zeros(shape, run.dtype) for name, shape in run.inputs.items()}
        times = []
        for _ in range(3):
            started = time.perf_counter()
            run.run(inputs)
            times.append(time.perf_counter() - started)
        one = math.prod(b - a for a, b in next(iter(tile.reads.values())))
        before = sum(sweep.measure_seconds() for sweep in self.sweeps)
        return before + min(times) * self.plan.planes * self.plan.read / one


def _without_lowering(plan: TilePlan) -> TilePlan:
    """A plan that can be sent to another process."""
    sweeps = tuple(replace(sweep, plan=_without_lowering(sweep.plan)) for sweep in plan.sweeps)
    return replace(plan, sweeps=sweeps, _subject=replace(plan.subject, lower=_refuse))
