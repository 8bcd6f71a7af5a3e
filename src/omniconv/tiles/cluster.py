"""Tiles on a cluster: workers read their parts, compute, and write where that is safe; the journal stays here.

An image with a path, or a Zarr array in a folder, is read by the workers; of others parts are sent. A Zarr array in a
folder is written by them, because no two tiles share a chunk; other results come back and are written here, because
machines that share a disk do not share the pages of one file.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from omniconv.cluster import Fleet
from omniconv.errors import DataError, StorageError
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.journal import Journal, digest
from omniconv.tiles.moves import inwards, outwards, slices
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.results import Destination
from omniconv.tiles.storage import folder_of, is_zarr, open_image, storing
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, name_statistics, take_part


@dataclass(frozen=True, slots=True, eq=False)
class RemoteTile:
    """One tile of one plane, on its way to a worker.

    Attributes:
        number: among all of the result, or of a sweep over the plane.
        plane, tile: where it is.
        part: what it reads, where that is sent.
        known: digests of what an earlier run read and wrote; ``written`` was looked at where outputs come back.
        statistics: what sweeps have found.
        sweep: the number of the sweep that it belongs to; ``None`` for a tile of the result.
    """

    number: int
    plane: tuple[int, ...]
    tile: ImageTile
    part: Array | None
    known: tuple[str, str] | None
    statistics: dict[str, Array]
    sweep: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RemoteResult:
    """What comes back.

    Attributes:
        number, plane, tile: of the job.
        read, written: digests; ``written`` is empty where the outputs come along.
        y: outputs to write here.
        found: what a tile of a sweep contributes.
        old: they were finished before.
    """

    number: int
    plane: tuple[int, ...]
    tile: ImageTile
    read: str = ""
    written: str = ""
    y: Array | None = None
    found: Partial | None = None
    old: bool = False


class TileWork:
    """What workers are sent. See :class:`omniconv.cluster.ClusterWork`.

    Args:
        plan: the tiles.
        source: the image, as workers open it; ``None`` where its parts are sent.
        dtype: of the image.
        destination: the array that workers write; ``None`` where outputs come back.
        journal: its path here, and a digest of its first line, which tells whether a worker sees the same disk.
    """

    def __init__(
        self, plan: TilePlan, source: Any, dtype: np.dtype[Any], destination: Any, journal: tuple[Path, str] | None
    ) -> None:
        self.compiled = CompiledTiles(plan)
        self.source, self.dtype, self.destination, self.journal = source, dtype, destination, journal
        self.image: Any = None

    def begin(self, threads: int) -> None:
        """Open the image, and see that the result is where this machine writes.

        Raises:
            StorageError: a disk that this machine does not see, or whose content differs.
        """
        plan = _on_threads(self.compiled.plan, threads)
        self.compiled = CompiledTiles(plan)
        if self.source is not None:
            with storing("a worker opens the image", fix="a path that all machines see"):
                self.image = open_image(self.source)
            if (tuple(self.image.shape), self.image.dtype) != (plan.shape, self.dtype):
                raise DataError(
                    f"the image is {self.dtype} {plan.shape} here, and {self.image.dtype} {tuple(self.image.shape)} "
                    "to a worker",
                    need="a path that leads all machines to the same file",
                )
        if self.destination is not None and self.journal is not None and hash_head(self.journal[0]) != self.journal[1]:
            raise StorageError(
                f"a worker does not see {str(self.journal[0])!r}, the journal of the result",
                need="a result in a folder that all machines see",
                fix="out= on a shared disk, or a .npy file, which is written here",
            )

    def __call__(self, job: RemoteTile) -> RemoteResult:
        """Read, compute, and write where that is done by workers."""
        plan, part = self.compiled.plan, job.part
        if part is None:
            where = slices(plan.axes.names, plan, job.plane, job.tile.reads)
            with storing(f"reading {where}"):
                part = np.asarray(self.image[where])
        x = inwards(plan, part, plan.whole.program.element.dtype)
        result = RemoteResult(job.number, job.plane, job.tile)
        if job.sweep is not None:
            y = self.compiled.sweeps[job.sweep](job.tile, x, job.statistics)
            return replace(result, found=take_part(plan.sweeps[job.sweep], y))
        read = digest(part, name_statistics(job.statistics))
        if job.known is not None and job.known[0] == read and self._is_there(job, job.known[1]):
            return replace(result, read=read, written=job.known[1], old=True)
        y = outwards(plan, self.compiled(job.tile, x, job.statistics))
        if self.destination is None:
            return replace(result, read=read, y=y)
        where = slices(plan.axes.result, plan, job.plane, job.tile.outputs)
        with storing(f"writing {where}"):
            self.destination[where] = y
        return replace(result, read=read, written=digest(y))

    def _is_there(self, job: RemoteTile, written: str) -> bool:
        """Whether outputs of an earlier run are as they were; where they are written here, that was seen here."""
        if self.destination is None:
            return True
        where = slices(self.compiled.plan.axes.result, self.compiled.plan, job.plane, job.tile.outputs)
        with storing(f"reading {where} of the result", fix="resume=False, which begins anew"):
            return digest(np.asarray(self.destination[where])) == written


def _on_threads(plan: TilePlan, threads: int) -> TilePlan:
    """A plan whose tiles, and those of its sweeps, are computed by so many threads."""
    sweeps = tuple(replace(sweep, plan=_on_threads(sweep.plan, threads)) for sweep in plan.sweeps)
    subject = replace(plan.subject, options=replace(plan.subject.options, threads=threads))
    return replace(plan, sweeps=sweeps, _subject=subject)


def hash_head(path: Path) -> str:
    """A digest of the first line of a journal; empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.blake2b(file.readline(2**16), digest_size=16).hexdigest()
    except OSError:
        return ""


def run_on_cluster(
    client: Any,
    plan: TilePlan,
    given: Any,
    image: Any,
    result: Destination,
    journal: Journal | None,
    threads: int | None,
    advance: Callable[[], None],
) -> None:
    """Compute all tiles that are not finished, on the workers of a client.

    Args:
        client: of Dask.
        plan: the tiles.
        given, image: the image as the caller gives it, and its array.
        result, journal: where tiles go, and what tells which are finished.
        threads: of a tile; ``None`` for the cores of a machine over its jobs.
        advance: called after each tile.
    """
    fleet = Fleet(client, plan.subject.target, plan.needed, threads)
    seen = (journal.path, hash_head(journal.path)) if journal is not None else None
    source, written = _find_source(given, image), result.array if _is_in_folder(result.array) else None
    work = TileWork(plan, source, image.dtype, written, seen)
    run = _ClusterRun(plan, None if source is not None else image, result, written is None, journal)
    with fleet.send(work) as carried:

        def do(jobs: Iterator[RemoteTile]) -> Iterator[RemoteResult]:
            with closing(fleet.do(carried, jobs)) as results:
                for found in results:
                    yield found
                    advance()

        planes = list(np.ndindex(*plan.axes.planes(plan.shape)))
        # What sweeps find in a plane, its tiles wait for. Without any, no plane waits for another.
        for numbers in [range(n, n + 1) for n in range(len(planes))] if plan.sweeps else [range(len(planes))]:
            statistics: dict[str, Array] = {}
            for number, sweep in enumerate(plan.sweeps):
                jobs = run.list_jobs(sweep.plan, planes[numbers[0]], 0, statistics, number)
                parts = (found.found for found in do(jobs) if found.found is not None)
                statistics = finish_sweep(sweep, functools.reduce(operator.add, parts), statistics)
            tiles = (run.list_jobs(plan, planes[n], n * plan.tiles, statistics) for n in numbers)
            for found in do(itertools.chain.from_iterable(tiles)):
                run.keep(found)


def _find_source(given: Any, image: Any) -> Any:
    """What workers open by themselves, or ``None``."""
    if isinstance(given, str | os.PathLike):
        return os.path.abspath(given)  # noqa: PTH100 - links stay as they are, each machine may resolve them otherwise
    return image if _is_in_folder(image) else None


def _is_in_folder(array: Any) -> bool:
    return is_zarr(array) and folder_of(array) is not None


@dataclass(frozen=True, slots=True, eq=False)
class _ClusterRun:
    """What is done here.

    Attributes:
        plan: the tiles.
        image: to take parts from that are sent; ``None`` where workers read them.
        result, journal: where tiles go, and what tells which are finished.
        returned: whether outputs come back.
    """

    plan: TilePlan
    image: Any
    result: Destination
    returned: bool
    journal: Journal | None

    def list_jobs(
        self,
        tiles: TilePlan,
        plane: tuple[int, ...],
        first: int,
        statistics: dict[str, Array],
        sweep: int | None = None,
    ) -> Iterator[RemoteTile]:
        """The tiles of a plane, of the result or of a sweep, numbered on: with their parts, where these are sent."""
        plan = self.plan
        for number, tile in enumerate(tiles, first):
            known = None if self.journal is None or sweep is not None else self.journal.done.get(number)
            if known is not None and self.returned:
                where = slices(plan.axes.result, plan, plane, tile.outputs)
                with storing(f"reading {where} of the result", fix="resume=False, which begins anew"):
                    known = known if digest(np.asarray(self.result.array[where])) == known[1] else None
            part = None
            if self.image is not None:
                where = slices(plan.axes.names, plan, plane, tile.reads)
                with storing(f"reading {where}"):
                    part = np.ascontiguousarray(self.image[where])
            yield RemoteTile(number, plane, tile, part, known, statistics, sweep)

    def keep(self, found: RemoteResult) -> None:
        """Write outputs that came back, and note the tile."""
        if found.old:
            return
        written = found.written
        if found.y is not None:
            where = slices(self.plan.axes.result, self.plan, found.plane, found.tile.outputs)
            with storing(f"writing {where}"):
                self.result.array[where] = found.y
                if self.journal is not None:
                    self.result.flush()
                    written = digest(found.y)
        if self.journal is not None:
            with storing("writing the journal"):
                self.journal.add(found.number, found.read, written)
