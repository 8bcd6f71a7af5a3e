"""Tiles on a cluster: workers read their parts, compute, and write where that is safe; journals stay here.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from omniconv.cluster import Fleet, on_threads
from omniconv.errors import DataError, StorageError
from omniconv.outside import storing
from omniconv.records import dataclass
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.journal import digest
from omniconv.tiles.moves import Plane, slices
from omniconv.tiles.opening import open_source
from omniconv.tiles.outputs import TileResults, is_there, turn_outwards
from omniconv.tiles.place import OpenedImage
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.room import as_stored, give_back
from omniconv.tiles.sharing import share_kinds
from omniconv.tiles.sources import read_parts, turn_inwards
from omniconv.tiles.storage import folder_of, is_zarr, write_box
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, name_statistics, take_part


@dataclass(frozen=True, slots=True, eq=False)
class RemoteTile:
    """One tile of one plane, on its way to a worker.

    Attributes:
        number: among all of the result, or of a sweep over the plane.
        plane, tile: where it is.
        parts: what it reads of images that workers do not open.
        done: digests of what an earlier run read and wrote; what is written here was looked at.
        known: inputs that every tile is given, and what sweeps have found.
        sweep: the numbers of the plane and of the sweep that it belongs to; ``None`` for a tile of the result.
        sum_key: for a tile of a sweep, the digest of what an earlier run read for it, and what it found.
        home: the number of the worker that had better compute it.
    """

    number: int
    plane: Plane
    tile: ImageTile
    parts: dict[str, Array]
    done: tuple[str, dict[str, str]] | None
    known: dict[str, Array]
    sweep: tuple[int, int] | None = None
    sum_key: tuple[str, Partial] | None = None
    home: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RemoteResult:
    """What comes back.

    Attributes:
        job: what was asked for, without its parts.
        read: a digest.
        written: digests of the outputs that a worker wrote.
        ys: outputs to write here.
        found: what a tile of a sweep contributes.
        old: that, or the outputs, were finished before.
    """

    job: RemoteTile
    read: str = ""
    written: dict[str, str] | None = None
    ys: dict[str, Array] | None = None
    found: Partial | None = None
    old: bool = False


class TileWork:
    """What workers are sent. See :class:`omniconv.cluster.ClusterWork`.

    Args:
        plan: the tiles.
        sources: images that workers open, and levels of their resolutions.
        dtypes: of all images.
        places: the arrays of outputs that workers write.
        journals: for each journal its path here, and a digest of its first line, which tells whether a worker sees the
            same disk.
    """

    def __init__(
        self,
        plan: TilePlan,
        sources: dict[str, tuple[Any, int]],
        dtypes: dict[str, np.dtype[Any]],
        places: dict[str, Any],
        journals: dict[str, tuple[Path, str]],
    ) -> None:
        self.compiled = CompiledTiles(plan)
        self.sources, self.dtypes, self.places, self.journals = sources, dtypes, places, journals
        self.images: dict[str, Any] = {}

    def begin(self, threads: int) -> None:
        """Open the images, and see that results are where this machine writes.

        Raises:
            StorageError: a disk that this machine does not see, or whose content differs.
        """
        plan = _on_threads(self.compiled.plan, threads)
        self.compiled = CompiledTiles(plan)
        for name, source in self.sources.items():
            with storing("a worker opens the image", fix="a path that all machines see"):
                image = self.images[name] = open_source(*source).array
            shape, dtype = plan.inputs[name].shape, self.dtypes[name]
            if (tuple(image.shape), image.dtype) != (shape, dtype):
                raise DataError(
                    f"the image is {dtype} {shape} here, and {image.dtype} {tuple(image.shape)} to a worker",
                    need="a path that leads all machines to the same file",
                )
        for name in self.places:
            if name in self.journals and hash_head(self.journals[name][0]) != self.journals[name][1]:
                raise StorageError(
                    f"a worker does not see {str(self.journals[name][0])!r}, the journal of the result",
                    need="a result in a folder that all machines see",
                    fix="out= on a shared disk, or a .npy file, which is written here",
                )

    def __call__(self, job: RemoteTile) -> RemoteResult:
        """Read, compute, and write where that is done by workers."""
        try:
            return self._do(job)
        finally:
            give_back()

    def _do(self, job: RemoteTile) -> RemoteResult:
        plan, tiles = self.compiled.plan, self.compiled
        if job.sweep is not None:
            tiles = self.compiled.sweeps[job.sweep[1]]
        images = {**self.images, **{name: _Part(part) for name, part in job.parts.items()}}
        parts = read_parts(tiles.plan, images, job.plane, job.tile, tiles.rooms)
        read = digest(parts.values(), name_statistics(job.known))
        back = replace(job, parts={}, known={}, sum_key=None)
        if job.sweep is not None:
            if job.sum_key is not None and job.sum_key[0] == read:
                return RemoteResult(back, read, found=job.sum_key[1], old=True)
            ys = tiles(job.tile, turn_inwards(tiles.plan, parts, tiles.rooms), job.known)
            return RemoteResult(back, read, found=take_part(plan.sweeps[job.sweep[1]], ys))
        if job.done is not None and job.done[0] == read and self._are_there(job, job.done[1]):
            return RemoteResult(back, read, old=True)
        ys = turn_outwards(plan, tiles(job.tile, turn_inwards(plan, parts, tiles.rooms), job.known))
        written = {}
        for name in [name for name in ys if name in self.places]:
            where = slices(plan.outputs[name].axes, job.plane, job.tile.outputs[name])
            with storing(f"writing {where}"):
                y = as_stored(ys.pop(name), tiles.rooms.named(f"stored {name}"))
                write_box(self.places[name], where, y)
                written[name] = digest((y,))
        return RemoteResult(back, read, written, ys)

    def _are_there(self, job: RemoteTile, written: Mapping[str, str]) -> bool:
        """Whether outputs that are written here are as they were; the others were looked at before."""
        plan = self.compiled.plan
        return all(
            is_there(array, plan, name, job.plane, job.tile, written[name]) for name, array in self.places.items()
        )


class _Part:
    """A part of an image that was sent: all that a tile reads of it."""

    def __init__(self, part: Array) -> None:
        self._part = part

    def __getitem__(self, where: tuple[slice, ...]) -> Array:
        return self._part


def _on_threads(plan: TilePlan, threads: int) -> TilePlan:
    """A plan whose tiles, and those of its sweeps, are computed by so many threads."""
    sweeps = tuple(replace(sweep, plan=_on_threads(sweep.plan, threads)) for sweep in plan.sweeps)
    subject = replace(plan.subject, options=on_threads(plan.subject.options, threads))
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
    given: Mapping[str, OpenedImage],
    sides: Mapping[str, Array],
    results: TileResults,
    threads: int | None,
    advance: Callable[[], None],
) -> None:
    """Compute all tiles that are not finished, on the workers of a client.

    Args:
        client: of Dask.
        plan: the tiles.
        given: images.
        sides: inputs that every tile is given.
        results: where tiles go, and which are finished.
        threads: of a tile; ``None`` for the cores of a machine over its jobs.
        advance: called after each tile.
    """
    fleet = Fleet(client, plan.subject.target, plan.needed, threads)
    images = {name: source.array for name, source in given.items()}
    found = {name: _find_source(source) for name, source in given.items()}
    sources = {name: source for name, source in found.items() if source is not None}
    places = {name: place.array for name, place in results.places.items() if _is_in_folder(place.array)}
    seen = {name: (journal.path, hash_head(journal.path)) for name, journal in results.journals.items()}
    work = TileWork(plan, sources, {name: image.dtype for name, image in images.items()}, places, seen)
    sent = {name: image for name, image in images.items() if name not in sources}
    run = _ClusterRun(sent, results, set(places), len(fleet.threads))
    with fleet.send(work) as carried:

        def do(jobs: Iterator[RemoteTile]) -> Iterator[RemoteResult]:
            with closing(fleet.do(carried, jobs, lambda job: job.home)) as done:
                for one in done:
                    yield one
                    advance()

        planes = list(enumerate(plan.list_planes()))
        # What sweeps find in a plane, its tiles wait for. Without any, no plane waits for another.
        for some in [[one] for one in planes] if plan.sweeps else [planes]:
            known = dict(sides)
            for number, sweep in enumerate(plan.sweeps):
                parts = (run.keep_sum(one) for one in do(run.list_sweep(sweep.plan, *some[0], number, known)))
                known = finish_sweep(sweep, functools.reduce(operator.add, parts), known)
            tiles = (run.list_tiles(plane, n * plan.tiles, known) for n, plane in some)
            for one in do(itertools.chain.from_iterable(tiles)):
                run.keep(one)


def _find_source(source: OpenedImage) -> tuple[Any, int] | None:
    """What workers open by themselves, and which resolution, or ``None``."""
    if isinstance(source.given, str | os.PathLike):
        # Links stay as they are, each machine may resolve them otherwise.
        return os.path.abspath(source.given), source.level  # noqa: PTH100
    return (source.array, 0) if _is_in_folder(source.array) else None


def _is_in_folder(array: Any) -> bool:
    return is_zarr(array) and folder_of(array) is not None


@dataclass(frozen=True, slots=True, eq=False)
class _ClusterRun:
    """What is done here.

    Attributes:
        images: to take parts from that are sent.
        results: where tiles go, and which are finished.
        there: outputs that workers write.
        workers: how many there are.
    """

    images: Mapping[str, Any]
    results: TileResults
    there: set[str]
    workers: int

    def list_tiles(self, plane: Plane, first: int, known: dict[str, Array]) -> Iterator[RemoteTile]:
        """The tiles of a plane, numbered on: with the parts that are sent."""
        plan = self.results.plan
        for place, tile, home in share_kinds(plan, self.workers):
            number = first + place
            done = self.results.find(number)
            if done is not None:
                here = {name: written for name, written in done[1].items() if name not in self.there}
                done = done if self.results.is_there(plane, tile, here) else None
            yield RemoteTile(number, plane, tile, self._take_parts(plan, plane, tile), done, known, home=home)

    def list_sweep(
        self, plan: TilePlan, count: int, plane: Plane, sweep: int, known: dict[str, Array]
    ) -> Iterator[RemoteTile]:
        """The tiles of a sweep over a plane."""
        for number, tile, home in share_kinds(plan, self.workers):
            parts, old = self._take_parts(plan, plane, tile), self.results.find_sum((count, sweep, number))
            yield RemoteTile(number, plane, tile, parts, None, known, (count, sweep), old, home)

    def _take_parts(self, plan: TilePlan, plane: Plane, tile: ImageTile) -> dict[str, Array]:
        sent = replace(tile, reads={name: box for name, box in tile.reads.items() if name in self.images})
        parts = read_parts(plan, self.images, plane, sent, self.results.rooms)
        return {name: np.ascontiguousarray(part) for name, part in parts.items()}

    def keep_sum(self, result: RemoteResult) -> Partial:
        """What a tile of a sweep contributes, noted."""
        assert result.found is not None
        assert result.job.sweep is not None
        if not result.old:
            self.results.note_sum((*result.job.sweep, result.job.number), result.read, result.found)
        return result.found

    def keep(self, result: RemoteResult) -> None:
        """Write outputs that came back, and note the tile."""
        if result.old:
            return
        job, written = result.job, dict(result.written or {})
        for name, y in (result.ys or {}).items():
            written[name] = self.results.write_one(name, job.plane, job.tile, y)
        self.results.note(job.number, result.read, written)
