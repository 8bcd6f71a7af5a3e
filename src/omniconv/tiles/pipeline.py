"""`TileRun`: tiles of one run are read, computed and written by a thread each."""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from omniconv.overlap import Relay, overlap
from omniconv.records import dataclass
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.fit import COMPILER
from omniconv.tiles.journal import digest
from omniconv.tiles.moves import Plane
from omniconv.tiles.outputs import TileResults, turn_outwards
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.room import give_back
from omniconv.tiles.sources import read_parts, turn_inwards
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, name_statistics, take_part

ENOUGH: Final = 2**18
"""Positions of images after which what was freed goes back to the system: that takes as long as a tiny tile does."""
Found: TypeAlias = dict[str, Array] | Partial
"""Parts of images, outputs, or what a tile of a sweep contributes."""


@dataclass(frozen=True, slots=True)
class TileJob:
    """One tile of one plane.

    Attributes:
        number: among all of the result, or of a sweep over the plane.
        plane, tile: where it is.
        key: a digest of what it depends on, where there is a journal.
        sweep: the numbers of the plane and of the sweep that it belongs to; ``None`` for a tile of the result.
        old: it was computed by an earlier run.
    """

    number: int
    plane: Plane
    tile: ImageTile
    key: str
    sweep: tuple[int, int] | None = None
    old: bool = False


class TileRun:
    """One run: a thread that reads, one that computes and one that writes, with a place between each two.

    Args:
        plan: the tiles.
        images: where they are read.
        sides: inputs that every tile is given.
        results: where they go, and which are finished.
    """

    def __init__(
        self, plan: TilePlan, images: Mapping[str, Any], sides: Mapping[str, Array], results: TileResults
    ) -> None:
        self.plan, self.images, self.sides, self.results = plan, images, dict(sides), results
        self.compiled = CompiledTiles(plan)
        self.ahead = plan.memory - plan.needed >= COMPILER
        self.read = 0  # positions since memory was given back
        self.relay = Relay()
        self.swept: queue.Queue[str] = queue.Queue(1)  # digests of what is known after each sweep

    def go(self, advance: Callable[[], None]) -> None:
        """Compute all tiles that are not finished; ``advance`` is called after each."""
        compute = self._start_computing(self.compiled)
        overlap(self._read(advance), compute, lambda item: self._write(item, advance), "omniconv tiles", self.relay)

    def _read(self, advance: Callable[[], None]) -> Iterator[tuple[TileJob, Found]]:
        number = 0
        for count, plane in enumerate(self.plan.list_planes()):
            known = name_statistics(self.sides)
            for n, sweep in enumerate(self.plan.sweeps):
                yield from self._read_sweep(sweep.plan, plane, (count, n), known)
                known = self.relay.get(self.swept)
            for tile in self.plan:
                parts = read_parts(self.plan, self.images, plane, tile, self.compiled.rooms)
                job = TileJob(number, plane, tile, self._name(parts, known))
                number += 1
                if self._is_finished(job):
                    advance()
                else:
                    self._get_ready(self.compiled, tile)
                    yield job, turn_inwards(self.plan, parts, self.compiled.rooms)
                del parts

    def _read_sweep(
        self, plan: TilePlan, plane: Plane, sweep: tuple[int, int], statistics: str
    ) -> Iterator[tuple[TileJob, Found]]:
        for number, tile in enumerate(plan):
            parts = read_parts(plan, self.images, plane, tile, self.compiled.rooms)
            key = self._name(parts, statistics)
            known = self.results.find_sum((*sweep, number))
            old = known is not None and known[0] == key
            job = TileJob(number, plane, tile, key, sweep, old=old)
            if not old:
                self._get_ready(self.compiled.sweeps[sweep[1]], tile)
            yield job, known[1] if known is not None and old else turn_inwards(plan, parts, self.compiled.rooms)
            del parts

    def _get_ready(self, compiled: CompiledTiles, tile: ImageTile) -> None:
        """Compile a new kind while tiles of others are computed, where there is memory for both."""
        if self.ahead:
            compiled.find(tile)

    def _name(self, parts: Mapping[str, Array], known: str) -> str:
        """A digest of all that a tile depends on, where one is asked for."""
        return digest(parts.values(), known) if self.results.journals else ""

    def _is_finished(self, job: TileJob) -> bool:
        """Whether a tile was computed from the same parts of the images, and its outputs are still there."""
        known = self.results.find(job.number)
        return known is not None and known[0] == job.key and self.results.is_there(job.plane, job.tile, known[1])

    def _start_computing(self, compiled: CompiledTiles) -> Callable[[tuple[TileJob, Found]], tuple[TileJob, Found]]:
        """What computes tiles, in order: of sweeps it keeps what they find, and the tiles after them are given that."""
        known = self.sides
        parts: Partial | None = None

        def compute(item: tuple[TileJob, Found]) -> tuple[TileJob, Found]:
            nonlocal known, parts
            job, x = item
            if job.sweep is None:
                assert not isinstance(x, Partial)
                return job, compiled(job.tile, x, known)
            _, number = job.sweep
            sweep = self.plan.sweeps[number]
            if job.number == 0 and number == 0:
                known = self.sides
            part = x if isinstance(x, Partial) else take_part(sweep, compiled.sweeps[number](job.tile, x, known))
            parts = part if parts is None or job.number == 0 else parts + part
            if job.number == sweep.plan.tiles - 1:
                known = finish_sweep(sweep, parts, known)
                self.relay.put(self.swept, name_statistics(known))
            return job, part

        return compute

    def _write(self, item: tuple[TileJob, Found], advance: Callable[[], None]) -> None:
        job, found = item
        if not isinstance(found, Partial):
            self.results.write(job.number, job.plane, job.tile, job.key, turn_outwards(self.plan, found))
        elif job.sweep is not None and not job.old:
            self.results.note_sum((*job.sweep, job.number), job.key, found)
        self.read += sum(math.prod(stop - first for first, stop in box) for box in job.tile.reads.values())
        if self.read >= ENOUGH:
            self.read = 0
            give_back()
        advance()
