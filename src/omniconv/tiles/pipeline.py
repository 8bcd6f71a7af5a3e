"""`TileRun`: tiles of one run are read, computed and written by a thread each."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from omniconv.overlap import Relay, overlap
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.journal import Journal, digest
from omniconv.tiles.moves import inwards, outwards, slices
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.results import Destination
from omniconv.tiles.storage import storing
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, name_statistics, take_part


@dataclass(frozen=True, slots=True)
class TileJob:
    """One tile of one plane.

    Attributes:
        number: among all of the result, or of a sweep over the plane.
        plane, tile: where it is.
        key: a digest of what it depends on, where there is a journal.
        sweep: the number of the sweep that it belongs to; ``None`` for a tile of the result.
    """

    number: int
    plane: tuple[int, ...]
    tile: ImageTile
    key: str
    sweep: int | None = None


class TileRun:
    """One run: a thread that reads, one that computes and one that writes, with a place between each two.

    Args:
        plan: the tiles.
        image: where they are read.
        result: where they go.
        journal: that tells which are finished, where there is one.
    """

    def __init__(self, plan: TilePlan, image: Any, result: Destination, journal: Journal | None) -> None:
        self.plan, self.image, self.result, self.journal = plan, image, result, journal
        self.relay = Relay()
        self.swept: queue.Queue[str] = queue.Queue(1)  # digests of what sweeps have found, plane by plane

    def go(self, advance: Callable[[], None]) -> None:
        """Compute all tiles that are not finished; ``advance`` is called after each."""
        compute = self._start_computing(CompiledTiles(self.plan), advance)
        overlap(self._read(advance), compute, lambda y: self._write(y, advance), "omniconv tiles", self.relay)

    def _read(self, advance: Callable[[], None]) -> Iterator[tuple[TileJob, Array]]:
        number = 0
        for plane in np.ndindex(*self.plan.axes.planes(self.plan.shape)):
            for sweep, item in enumerate(self.plan.sweeps):
                for count, tile in enumerate(item.plan):
                    part = self._read_part(plane, tile)
                    yield TileJob(count, plane, tile, "", sweep), self._inwards(part)
            statistics = self.relay.get(self.swept) if self.plan.sweeps else ""
            for tile in self.plan:
                part = self._read_part(plane, tile)
                job = TileJob(number, plane, tile, "" if self.journal is None else digest(part, statistics))
                number += 1
                if self._is_finished(job):
                    advance()
                else:
                    yield job, self._inwards(part)
                del part

    def _read_part(self, plane: tuple[int, ...], tile: ImageTile) -> Array:
        where = slices(self.plan.axes.names, self.plan, plane, tile.reads)
        with storing(f"reading {where}"):
            return np.asarray(self.image[where])

    def _inwards(self, part: Array) -> Array:
        return inwards(self.plan, part, self.plan.whole.program.element.dtype)

    def _is_finished(self, job: TileJob) -> bool:
        """Whether a tile was computed from the same part of the image, and its outputs are still there."""
        known = None if self.journal is None else self.journal.done.get(job.number)
        if known is None or known[0] != job.key:
            return False
        where = slices(self.plan.axes.result, self.plan, job.plane, job.tile.outputs)
        with storing(f"reading {where} of the result", fix="resume=False, which begins anew"):
            return digest(np.asarray(self.result.array[where])) == known[1]

    def _start_computing(
        self, compiled: CompiledTiles, advance: Callable[[], None]
    ) -> Callable[[tuple[TileJob, Array]], tuple[TileJob, Array] | None]:
        """What computes tiles, in order: of sweeps it keeps what they find, and the tiles after them are given that."""
        known: dict[str, Array] = {}
        parts: Partial | None = None

        def compute(item: tuple[TileJob, Array]) -> tuple[TileJob, Array] | None:
            nonlocal known, parts
            job, x = item
            if job.sweep is None:
                return job, compiled(job.tile, x, known)
            sweep = self.plan.sweeps[job.sweep]
            part = take_part(sweep, compiled.sweeps[job.sweep](job.tile, x, known))
            parts = part if parts is None or job.number == 0 else parts + part
            if job.number == sweep.plan.tiles - 1:
                known = finish_sweep(sweep, parts, known if job.sweep else {})
                if job.sweep == len(self.plan.sweeps) - 1:
                    self.relay.put(self.swept, name_statistics(known))
            advance()
            return None

        return compute

    def _write(self, item: tuple[TileJob, Array] | None, advance: Callable[[], None]) -> None:
        if item is None:
            return
        job, y = item
        where = slices(self.plan.axes.result, self.plan, job.plane, job.tile.outputs)
        y = outwards(self.plan, y)
        with storing(f"writing {where}"):
            self.result.array[where] = y
            if self.journal is not None:
                self.result.flush()
                self.journal.add(job.number, job.key, digest(y))
        advance()
